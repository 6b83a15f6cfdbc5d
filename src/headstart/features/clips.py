"""Features: every clip decoded once to 16 kHz mono, memory-mapped, so that training never decodes audio."""

from __future__ import annotations

import hashlib
import logging
import mmap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import soxr
from numpy.typing import ArrayLike

from headstart.corpora.manifests import (
    FEATURES,
    MANIFEST,
    REJECTS,
    ROWS_A_GROUP,
    gather,
    read_columns,
    read_rows,
    read_table,
    write_table,
)
from headstart.errors import HeadstartError
from headstart.files import BrokenFileError, derived, fingerprint_rows, set_aside, written_whole

log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
AUDIO = pa.schema([pa.field("audio", pa.large_list(pa.int16()), nullable=False)])
CLIPS_A_BATCH = 64  # rows in an Arrow record batch: the most that is held in memory while writing
SILENCE_DBFS = -65.0  # 16-bit dither and idle converters lie below, the faintest usable speech well above


ABSURD = 100.0  # times full scale, 40 dB over it: no recording's peak


class SampleError(ValueError):
    """Audio whose samples are no recording: no numbers, on another scale than from -1 to 1, or all the same."""


def load_audio(path: str, offset_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """Decode a clip to 16 kHz mono.

    Returns:
        int16 samples, shape (num_samples,).

    Raises:
        soundfile.LibsndfileError: the file is missing or cannot be decoded.
        SampleError: samples are no numbers, far beyond full scale, or hold no sound beside a constant offset.
    """
    with soundfile.SoundFile(path) as file:
        rate, subtype = file.samplerate, file.subtype
        if offset_s:
            file.seek(round(offset_s * rate))
        frames = -1 if duration_s is None else round(duration_s * rate)
        samples = file.read(frames, dtype="float32", always_2d=True)
    _check_numbers(samples, subtype)
    samples = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    _check_offset(samples)  # before resampling, which gives a constant clip flanks
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    samples = np.clip(samples, -1.0, 1.0)
    samples *= 32767
    return np.rint(samples, out=samples).astype(np.int16)


def _check_numbers(samples: np.ndarray, subtype: str) -> None:
    """Refuse decoded samples that are not all finite, and on the scale from -1 to 1 except for a few peaks.

    Compressed formats may clip in as many samples as they like: their scale is not the writer's choice.
    """
    if not samples.size or (samples.min() >= -1 and samples.max() <= 1):  # NaN is neither
        return
    size = np.abs(samples)
    counts = {"NaN": np.isnan(size).sum(), "infinite": np.isinf(size).sum()}
    if any(counts.values()):
        found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        raise SampleError(f"samples that are no numbers: {found}, of {size.size}; write the file anew")
    if subtype in ("FLOAT", "DOUBLE") and (size <= 1).mean() < 0.99:
        raise SampleError("samples beyond full scale (1.0): write floats between -1 and 1, or integers")
    if absurd := int((size > ABSURD).sum()):
        facts = f"{absurd} of {size.size} beyond {ABSURD:g} times full scale, up to {size.max():.3g}"
        raise SampleError(f"absurd samples: {facts}; write the file anew")


def _check_offset(samples: np.ndarray) -> None:
    """Refuse a clip that is nothing but a constant offset. One of zeros is silent, as its loudness tells."""
    if not len(samples) or np.dot(samples, samples) / len(samples) - samples.mean() ** 2 > 1e-5:  # quick, and -50 dBFS
        return
    samples = samples.astype(np.float64)
    mean, level = samples.mean(), _dbfs(samples.var())
    if _dbfs(np.square(samples).mean()) < SILENCE_DBFS:
        return
    if samples.min() == samples.max():
        raise SampleError(f"constant: every sample is {mean:.4g} of full scale, and there is no sound")
    if level < SILENCE_DBFS:
        raise SampleError(f"constant offset: {mean:.4g} of full scale, and the sound around it has {level:.0f} dBFS")


def _dbfs(energy: float) -> float:
    return float(10 * np.log10(energy + 1e-10))


def measure(samples: np.ndarray) -> dict[str, Any]:
    """Loudness, signal-to-noise ratio and share of speech of a clip, estimated from the energy of 20 ms frames.

    Args:
        samples: int16, shape (num_samples,), 16 kHz.

    Returns:
        `loudness_dbfs` (RMS), `snr_db` (95th over 5th percentile of frame energy, an estimate that needs pauses),
        `speech_ratio` (frames within 20 dB of the 95th percentile), `num_samples`, `content_hash`.
    """
    energy = samples.astype(np.float32)
    energy /= 32768
    np.square(energy, out=energy)
    frames = energy[: len(energy) // 320 * 320].reshape(-1, 320) if len(energy) >= 320 else energy[None]
    level_db = 10 * np.log10(frames.mean(axis=1) + 1e-10)
    low, high = np.percentile(level_db, [5, 95])
    return {
        "num_samples": len(samples),
        "loudness_dbfs": float(10 * np.log10(energy.mean() + 1e-10)) if len(energy) else -100.0,
        "snr_db": float(high - low),
        "speech_ratio": float((level_db > high - 20).mean()),
        "content_hash": content_hash(samples),
    }


def content_hash(samples: np.ndarray) -> str:
    """Short hash of a clip's int16 samples: 16 hexadecimal digits."""
    return hashlib.sha256(samples).hexdigest()[:16]


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
                if reason is None:
                    facts = measure(samples)
                    if facts["loudness_dbfs"] < SILENCE_DBFS:
                        reason = f"silent: {facts['loudness_dbfs']:.0f} dBFS"
                if reason is not None:
                    reject = {key: row[key] for key in ("utterance_id", "audio_path")}
                    rejected.append({**reject, "row": index, "reason": reason})
                    continue
                kept.append({**row, **facts})
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
    except SampleError as error:
        return None, str(error)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        return None, f"undecodable audio: {error}"
    seconds = len(samples) / SAMPLE_RATE
    if seconds < 0.95 * row["duration_s"]:  # some formats' headers give the duration only nearly
        return None, f"truncated: {seconds:.2f} s of {row['duration_s']:.2f} s"
    return samples, None


def _record_batch(clips: list[np.ndarray]) -> pa.RecordBatch:
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])])
    values = pa.array(np.concatenate(clips), pa.int16())
    return pa.record_batch([pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)], schema=AUDIO)


class AudioStore:
    """Random access to a feature stage's memory-mapped audio, without copying it into memory."""

    def __init__(self, path: str | Path):
        """Map a file; raises `BrokenFileError` when it is missing, or broken and therefore set aside."""
        self.path = path
        with derived(path, pa.ArrowException, ValueError) as self._found, open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._reader = pa.ipc.open_file(pa.py_buffer(self._map))
            if not self._reader.schema.equals(AUDIO):
                raise pa.ArrowInvalid(f"its columns are {self._reader.schema}")
            batches = self._reader.num_record_batches
            self._count = (batches - 1) * CLIPS_A_BATCH + len(self._reader.get_batch(batches - 1)) if batches else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        """int16 samples of clip `index`, shape (num_samples,); read-only, backed by the mapped file.

        Raises:
            BrokenFileError: they cannot be found in the file, which was set aside.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has no clip {index}")
        try:
            batch = self._reader.get_batch(index // CLIPS_A_BATCH)
            batch.validate()  # that its buffers are as long as it says, so that nothing is read beside them
            clips, row = batch.column(0), index % CLIPS_A_BATCH
            begin, end = clips.offsets[row : row + 2].to_pylist()
        except (pa.ArrowException, ValueError, OSError, IndexError) as error:
            raise self.broken(f"{self.path}: damaged, its clip {index} cannot be read ({error})") from None
        return clips.values.to_numpy(zero_copy_only=True)[begin:end]

    def broken(self, problem: str) -> BrokenFileError:
        """Set the file aside for what its content turned out to be; see `set_aside`."""
        return set_aside(self.path, self._found, problem)

    def let_go(self) -> None:
        """Take what was read out of this process's resident memory. Arrays over it stay valid, and read it again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


@dataclass
class Split:
    """The two files that the feature stage makes of a split."""

    features: str | Path
    audio: AudioStore
    _hashes: np.ndarray | None = field(default=None, init=False, repr=False)  # uint64, of each clip
    _read: np.ndarray | None = field(default=None, init=False, repr=False)  # of each clip, whether its hash agreed

    def clip(self, row: int) -> np.ndarray:
        """int16 samples of a clip, shape (num_samples,), read-only. At the first reading they are compared to its hash.

        Raises:
            BrokenFileError: they are not those that were extracted, and the file was set aside.
        """
        samples = self.audio[row]
        if self._hashes is None:
            self._hashes = _content_hashes(self.features)
            self._read = np.zeros(len(self._hashes), bool)
        if not self._read[row]:
            if int(content_hash(samples), 16) != self._hashes[row]:
                name = read_rows(self.features, FEATURES, ["utterance_id"], np.array([row]))["utterance_id"][0]
                raise self.audio.broken(
                    f"{self.audio.path}: damaged, the samples of {name} are not those that {self.features} describes"
                )
            self._read[row] = True
        return samples


def _content_hashes(features: str | Path) -> np.ndarray:
    """The content hash of each clip of a feature manifest as a number, shape (N,) uint64: 8 bytes a clip."""
    column = read_columns(features, FEATURES, ["content_hash"])["content_hash"]
    parts = (column.slice(i, ROWS_A_GROUP).to_pylist() for i in range(0, len(column), ROWS_A_GROUP))
    parts = [np.array([int(value, 16) for value in part], np.uint64) for part in parts]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


class Clips:
    """Utterances of one split, or of several.

    All that is held of an utterance is its place and its length: a corpus of a thousand hours has a million of them.
    Anything else is read from the feature manifest when it is asked for.

    Args:
        splits: what the utterances are taken from.
        split: of each utterance, a position in `splits`, shape (N,).
        row: its row there, shape (N,).
        lengths: its samples, shape (N,).
    """

    def __init__(self, splits: Sequence[Split], split: np.ndarray, row: np.ndarray, lengths: np.ndarray):
        self.splits, self.split, self.row, self.lengths = splits, split, row, lengths
        self._read: AudioStore | None = None  # the store of the clip that was read last

    @classmethod
    def open(cls, features: str | Path, audio: str | Path) -> Clips:
        """The whole of a split; raises `HeadstartError` when the two files are not of one feature stage."""
        lengths = read_columns(features, FEATURES, ["num_samples"])["num_samples"].to_numpy()
        store, count = AudioStore(audio), len(lengths)
        if count != len(store):
            raise HeadstartError(f"{audio} has {len(store)} clips, {features} {count}; delete both and run again")
        return cls([Split(features, store)], np.zeros(count, np.int32), np.arange(count), lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[Clips]) -> Clips:
        """The utterances of all parts, one part after the other."""
        before = np.cumsum([0, *(len(part.splits) for part in parts)])
        return cls(
            [split for part in parts for split in part.splits],
            np.concatenate([part.split + np.int32(b) for part, b in zip(parts, before, strict=False)]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def take(self, indices: ArrayLike) -> Clips:
        """These utterances only, in this order."""
        indices = np.asarray(indices, np.int64)
        return Clips(self.splits, self.split[indices], self.row[indices], self.lengths[indices])

    def first(self, minutes: float) -> Clips:
        """The first utterances, of so many minutes together or less, but one at least."""
        count = int((np.cumsum(self.lengths) <= minutes * 60 * SAMPLE_RATE).sum())
        return self.take(range(min(len(self), max(1, count))))

    def __len__(self) -> int:
        return len(self.lengths)

    def audio(self, index: int) -> np.ndarray:
        """int16 samples of an utterance, shape (num_samples,), read-only; see `Split.clip`."""
        if self._read is not None:  # or the whole corpus would come to be resident
            self._read.let_go()
        split = self.splits[self.split[index]]
        self._read = split.audio
        return split.clip(int(self.row[index]))

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """These columns of the feature manifest, an utterance at a time: read in blocks, to go over all of them."""
        for start in range(0, len(self), ROWS_A_GROUP):
            split, row = (places[start : start + ROWS_A_GROUP] for places in (self.split, self.row))
            block = gather(split, lambda k, at, row=row: read_rows(self.splits[k].features, FEATURES, names, row[at]))
            yield from zip(*(block[name].to_pylist() for name in names), strict=True)

    def column(self, name: str) -> list[Any]:
        """One column of the feature manifest, as Python values."""
        return [value for (value,) in self.rows(name)]

    @property
    def seconds(self) -> float:
        """Audio in all of them."""
        return int(self.lengths.sum()) / SAMPLE_RATE

    @property
    def content(self) -> str:
        """Short hash of the audio, the transcripts and their languages, in order."""
        return fingerprint_rows(self.rows("utterance_id", "content_hash", "text", "language"))
