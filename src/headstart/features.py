"""Features: every clip decoded once to 16 kHz mono, memory-mapped, so that training never decodes audio."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import soxr

from headstart.files import fingerprint, written_whole
from headstart.logs import HeadstartError
from headstart.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table

log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
AUDIO = pa.schema([pa.field("audio", pa.large_list(pa.int16()), nullable=False)])
CLIPS_A_BATCH = 64  # rows in an Arrow record batch: the most that is held in memory while writing
SILENCE_DBFS = -65.0  # 16-bit dither and idle converters lie below, the faintest usable speech well above


def load_audio(path: str, offset_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """Decode a clip to 16 kHz mono.

    Returns:
        int16 samples, shape (num_samples,).

    Raises:
        soundfile.LibsndfileError: the file is missing or cannot be decoded.
    """
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        if offset_s:
            file.seek(round(offset_s * rate))
        frames = -1 if duration_s is None else round(duration_s * rate)
        samples = file.read(frames, dtype="float32", always_2d=True).mean(axis=1)
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return (np.clip(samples, -1.0, 1.0) * 32767).round().astype(np.int16)


def measure(samples: np.ndarray) -> dict[str, Any]:
    """Loudness, signal-to-noise ratio and share of speech of a clip, estimated from the energy of 20 ms frames.

    Args:
        samples: int16, shape (num_samples,), 16 kHz.

    Returns:
        `loudness_dbfs` (RMS), `snr_db` (95th over 5th percentile of frame energy, an estimate that needs pauses),
        `speech_ratio` (frames within 20 dB of the 95th percentile), `num_samples`, `content_hash`.
    """
    x = samples.astype(np.float32) / 32768
    frames = x[: len(x) // 320 * 320].reshape(-1, 320) if len(x) >= 320 else x[None]
    level_db = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    low, high = np.percentile(level_db, [5, 95])
    return {
        "num_samples": len(samples),
        "loudness_dbfs": float(10 * np.log10((x**2).mean() + 1e-10)) if len(x) else -100.0,
        "snr_db": float(high - low),
        "speech_ratio": float((level_db > high - 20).mean()),
        "content_hash": hashlib.sha256(samples.tobytes()).hexdigest()[:16],
    }


def extract_features(manifest: str, audio: str, features: str, rejects: str) -> None:
    """Decode a manifest's clips into a memory-mapped Arrow file and write the feature manifest beside it.

    Clips that cannot be decoded, or are silent, go to `rejects` with the reason; the rest keep the manifest's order.
    """
    rows, kept, rejected = read_table(manifest, MANIFEST), [], []
    started = reported = time.monotonic()
    with written_whole(audio) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, AUDIO) as writer:
            pending: list[np.ndarray] = []
            for index, row in enumerate(rows):
                samples, reason = _decode(row)
                if reason is not None:
                    reject = {key: row[key] for key in ("utterance_id", "audio_path")}
                    rejected.append({**reject, "row": index, "reason": reason})
                    continue
                kept.append({**row, **measure(samples)})
                pending.append(samples)
                if len(pending) == CLIPS_A_BATCH:
                    writer.write_batch(_record_batch(pending))
                    pending = []
                if time.monotonic() - reported > 5:
                    reported = time.monotonic()
                    eta = (reported - started) / (index + 1) * (len(rows) - index - 1)
                    log.info(
                        "%d of %d clips (%.0f %%), ETA %.0f s", index + 1, len(rows), 100 * (index + 1) / len(rows), eta
                    )
            if pending:
                writer.write_batch(_record_batch(pending))
        seconds = sum(row["num_samples"] for row in kept) / SAMPLE_RATE
        spent = time.monotonic() - started
        log.info(
            "%s: %d clips, %.2f h, %.0f x real time", manifest, len(kept), seconds / 3600, seconds / max(spent, 1e-9)
        )
        for reject in rejected:
            log.warning("rejected %s: %s", reject["utterance_id"], reject["reason"])
        write_table(rejects, rejected, REJECTS)
        write_table(features, kept, FEATURES)


def _decode(row: dict[str, Any]) -> tuple[np.ndarray | None, str | None]:
    """Samples of a manifest row, or the reason why there are none."""
    try:
        samples = load_audio(row["audio_path"], row["offset_s"], row["duration_s"])
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        return None, f"undecodable audio: {error}"
    seconds = len(samples) / SAMPLE_RATE
    if seconds < 0.95 * row["duration_s"]:  # some formats' headers give the duration only nearly
        return None, f"truncated: {seconds:.2f} s of {row['duration_s']:.2f} s"
    loudness = 10 * np.log10(np.mean((samples / 32768.0) ** 2) + 1e-10) if len(samples) else -np.inf
    if loudness < SILENCE_DBFS:
        return None, f"silent: {loudness:.0f} dBFS"
    return samples, None


def _record_batch(clips: list[np.ndarray]) -> pa.RecordBatch:
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])])
    values = pa.array(np.concatenate(clips), pa.int16())
    return pa.record_batch([pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)], schema=AUDIO)


class AudioStore:
    """Random access to a feature stage's memory-mapped audio, without copying it into memory."""

    def __init__(self, path: str | Path):
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    def __getitem__(self, index: int) -> np.ndarray:
        """int16 samples of clip `index`, shape (num_samples,); read-only, backed by the mapped file."""
        batch = self._batches[index // CLIPS_A_BATCH]
        return batch.column(0)[index % CLIPS_A_BATCH].values.to_numpy(zero_copy_only=True)


@dataclass
class Clips:
    """Utterances of a split, or of several: feature manifest rows, each with its place in an audio store."""

    rows: list[dict[str, Any]]
    places: list[tuple[AudioStore, int]]

    @classmethod
    def open(cls, features: str | Path, audio: str | Path) -> Clips:
        """The whole of a split; raises `HeadstartError` when the two files are not of one feature stage."""
        rows, store = read_table(features, FEATURES), AudioStore(audio)
        if len(rows) != len(store):
            raise HeadstartError(f"{audio} has {len(store)} clips, {features} {len(rows)}; delete both and run again")
        return cls(rows, [(store, index) for index in range(len(rows))])

    def take(self, indices: Sequence[int]) -> Clips:
        """These utterances only, in this order."""
        return Clips([self.rows[i] for i in indices], [self.places[i] for i in indices])

    def __add__(self, other: Clips) -> Clips:
        return Clips(self.rows + other.rows, self.places + other.places)

    def __len__(self) -> int:
        return len(self.rows)

    def audio(self, index: int) -> np.ndarray:
        """int16 samples of an utterance, shape (num_samples,), read-only."""
        store, place = self.places[index]
        return store[place]

    @property
    def lengths(self) -> list[int]:
        """Samples of each utterance."""
        return [row["num_samples"] for row in self.rows]

    @property
    def seconds(self) -> float:
        """Audio in all of them."""
        return sum(self.lengths) / SAMPLE_RATE

    @property
    def content(self) -> str:
        """Short hash of the audio and the transcripts, in order."""
        return fingerprint([[row["utterance_id"], row["content_hash"], row["text"]] for row in self.rows])
