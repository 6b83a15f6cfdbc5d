"""The feature stage: every clip of a manifest is decoded once, so that training never decodes audio."""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headstart.audio.recordings import LONG_ENOUGH, Recordings
from headstart.audio.sources import AudioError
from headstart.corpora.manifests import (
    FEATURES,
    MANIFEST,
    OPTIONAL,
    REJECTS,
    column_names,
    count_rows,
    iterate_rows,
    table_audio,
    table_writer,
)
from headstart.features.audio import SAMPLE_RATE, load_clip, measure
from headstart.features.partial import Partial
from headstart.features.samples import SILENCE_DBFS
from headstart.files import alone, file_digest, fingerprint, fingerprint_rows, write_json, written_whole
from headstart.logs import Progress
from headstart.workers import Failure, Result, in_order

log = logging.getLogger(__name__)

CLIP = ("audio_path", "offset_s", "duration_s", "channel")  # columns that a clip is decoded from


def extract_features(
    manifest: str,
    audio: str,
    features: str,
    rejects: str,
    *,
    shard: tuple[int, int] = (0, 1),
    processes: int = 0,
    state: str | None = None,
    settings: Any = None,
) -> None:
    """Decode a manifest's clips into a memory-mapped Arrow file and write the feature manifest beside it.

    Clips that cannot be decoded, or are silent, go to `rejects` with the reason; the rest keep the manifest's order.
    The result depends neither on the number of processes nor on interruptions.

    Args:
        shard: (k, n): only the k-th of n parts of the manifest, counted from 0.
        processes: that decode; with 0 this one does, and a clip that crashes the decoder ends the job.
        state: folder for what a job that was stopped goes on from; None where it starts afresh.
        settings: what the result depends on beside the manifest.
    """
    begin, end = shard_rows(count_rows(manifest), shard)
    identity = fingerprint([file_digest(manifest), begin, end, settings])
    with tempfile.TemporaryDirectory() as temporary, alone(state or temporary):
        partial = Partial(Path(state or temporary) / "extraction", identity)
        try:
            started, seconds = time.monotonic(), 0.0
            progress = Progress(manifest, end - begin, "clips", partial.done)
            if partial.done:
                log.info("%s: going on after %d of %d clips", manifest, partial.done, end - begin)
            tasks = (tuple(row.values()) for row in iterate_rows(manifest, MANIFEST, begin + partial.done, end, CLIP))
            for result in in_order(f"{__name__}:decode_clip", tasks, processes):
                facts, samples = _taken(result)
                partial.add(facts, samples)
                seconds += facts.get("num_samples", 0) / SAMPLE_RATE
                progress.add(1)
            elapsed = time.monotonic() - started
            speed = seconds / max(elapsed, 1e-9)
            log.info("%s: %d clips, %.2f h, %.0f x real time", manifest, partial.kept, seconds / 3600, speed)
            with written_whole(audio) as place:
                partial.finish(place)
        finally:
            partial.close()
        schema = features_schema(manifest)
        rows = iterate_rows(manifest, MANIFEST, begin, end)
        _write_tables(zip(itertools.count(begin), rows, partial.facts(), strict=False), schema, features, rejects)
        write_json(record_path(features), extraction_record(manifest, settings))
        partial.delete()


def record_path(features: str) -> Path:
    """The file beside a feature manifest that says what it was extracted from."""
    return Path(features).with_suffix(".json")


def extraction_record(manifest: str, settings: Any) -> dict[str, Any]:
    """What the features of a manifest follow from: settings, and its clips without their transcripts."""
    clips = iterate_rows(manifest, MANIFEST, names=("utterance_id", *CLIP))
    return {
        "settings": settings,
        "clips": fingerprint_rows(list(row.values()) for row in clips),
        "audio": table_audio(manifest),
    }


def shard_rows(count: int, shard: tuple[int, int]) -> tuple[int, int]:
    """The rows of a manifest of `count` rows that belong to a shard: the first, and the one after the last."""
    number, of = shard
    return count * number // of, count * (number + 1) // of


@cache
def _recordings() -> Recordings:
    return Recordings()  # of this process


def decode_clip(path: str, offset_s: float, duration_s: float, channel: int | None) -> Result:
    """Decode and measure a clip; `reason` is why it is rejected, and `notes` is what to say of it otherwise."""
    try:
        clip = load_clip(_recordings(), path, offset_s, duration_s, channel)
    except AudioError as error:
        return Result({"reason": str(error)}, None)
    seconds = len(clip.samples) / SAMPLE_RATE
    if seconds < LONG_ENOUGH * duration_s:
        return Result({"reason": f"truncated: {seconds:.2f} s of {duration_s:.2f} s"}, None)
    facts = measure(clip.samples)
    if facts["loudness_dbfs"] < SILENCE_DBFS:
        return Result({"reason": f"silent: {facts['loudness_dbfs']:.0f} dBFS"}, None)
    return Result({**facts, **({"notes": clip.notes} if clip.notes else {})}, memoryview(clip.samples).cast("B"))


def _taken(result: Result | Failure) -> tuple[dict[str, Any], np.ndarray | None]:
    if isinstance(result, Failure):
        return {"reason": result.reason}, None
    return result.facts, None if result.content is None else np.frombuffer(result.content, np.int16)


def features_schema(table: str) -> pa.Schema:
    """The columns of a feature manifest that is made from a table: of `OPTIONAL` columns, those that this one has."""
    names = column_names(table)
    return pa.schema([field for field in FEATURES if field.name in names or field.name not in OPTIONAL])


def _write_tables(
    rows: Iterator[tuple[int, dict[str, Any], dict[str, Any]]], schema: pa.Schema, features: str, rejects: str
) -> None:
    """Write the feature manifest and the rejects, and say what became of the clips.

    Args:
        rows: position, manifest row, and measurements or the reason of its rejection.
    """
    noted: Counter[str] = Counter()
    with table_writer(features, schema) as keep, table_writer(rejects, REJECTS) as reject:
        for index, row, found in rows:
            name = row["utterance_id"]
            if reason := found.get("reason"):
                log.warning("rejected %s: %s", name, reason)
                reject({"utterance_id": name, "audio_path": row["audio_path"], "row": index, "reason": reason})
                continue
            for note in found.pop("notes", ()):
                log.warning("kept %s: %s", name, note)
                noted[note.split(":")[0]] += 1
            keep(row | found)
    for note, count in noted.items():
        log.warning("%d clips kept: %s", count, note)
