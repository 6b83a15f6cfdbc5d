"""The feature stage: every clip of a manifest is decoded once, so that training never decodes audio."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from headstart.corpora.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table
from headstart.features.audio import SAMPLE_RATE, SILENCE_DBFS, SampleError, load_audio, measure
from headstart.features.clips import AUDIO, CLIPS_A_BATCH
from headstart.files import written_whole
from headstart.logs import Progress

log = logging.getLogger(__name__)


def extract_features(manifest: str, audio: str, features: str, rejects: str) -> None:
    """Decode a manifest's clips into a memory-mapped Arrow file and write the feature manifest beside it.

    Clips that cannot be decoded, or are silent, go to `rejects` with the reason; the rest keep the manifest's order.
    """
    rows, feature_rows, reject_rows = read_table(manifest, MANIFEST), [], []
    started, progress = time.monotonic(), Progress(manifest, len(rows), "clips")
    with written_whole(audio) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, AUDIO) as writer:
            pending: list[np.ndarray] = []
            for index, row in enumerate(rows):
                progress.add(1)
                samples, reason = _decode(row)
                if reason is None:
                    facts = measure(samples)
                    if facts["loudness_dbfs"] < SILENCE_DBFS:
                        reason = f"silent: {facts['loudness_dbfs']:.0f} dBFS"
                if reason is not None:
                    reject = {key: row[key] for key in ("utterance_id", "audio_path")}
                    reject_rows.append({**reject, "row": index, "reason": reason})
                    continue
                feature_rows.append({**row, **facts})
                pending.append(samples)
                if len(pending) == CLIPS_A_BATCH:
                    writer.write_batch(_record_batch(pending))
                    pending = []
            if pending:
                writer.write_batch(_record_batch(pending))
        seconds = sum(row["num_samples"] for row in feature_rows) / SAMPLE_RATE
        elapsed = time.monotonic() - started
        log.info(
            "%s: %d clips, %.2f h, %.0f x real time",
            manifest,
            len(feature_rows),
            seconds / 3600,
            seconds / max(elapsed, 1e-9),
        )
        for reject in reject_rows:
            log.warning("rejected %s: %s", reject["utterance_id"], reject["reason"])
        write_table(rejects, reject_rows, REJECTS)
        write_table(features, feature_rows, FEATURES)


def _decode(row: dict[str, Any]) -> tuple[np.ndarray | None, str | None]:
    """The samples of a manifest row, or the reason why it is rejected."""
    try:
        samples = load_audio(row["audio_path"], row["offset_s"], row["duration_s"])
    except SampleError as error:
        return None, str(error)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        return None, f"undecodable audio: {error}"
    seconds = len(samples) / SAMPLE_RATE
    if seconds < 0.95 * row["duration_s"]:  # the headers of some formats give an approximate duration
        return None, f"truncated: {seconds:.2f} s of {row['duration_s']:.2f} s"
    return samples, None


def _record_batch(clips: list[np.ndarray]) -> pa.RecordBatch:
    """Clips as rows under the schema `AUDIO`."""
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])])
    values = pa.array(np.concatenate(clips), pa.int16())
    return pa.record_batch([pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)], schema=AUDIO)
