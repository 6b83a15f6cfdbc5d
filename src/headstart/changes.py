"""Corpora that were edited after they were read: their manifests and transcripts follow before anything is planned.

Snakemake compares files by their times and does not know what a job will write. A table of transcripts that is edited
would make it run everything that follows, although one test transcript concerns no training. So the process that plans
looks first whether a corpus is still what was read. Where it is not, the corpus is read again, and only what came out
differently is written:

- A split with other audio gets a new manifest; its features are extracted again.
- Where only transcripts differ, they are carried into the feature manifest as well. Its time tells Snakemake so, while
  that of the manifest stays, because nothing has to be decoded.
- All else stays as it is, with its time.

The first reading is a job of the workflow, which leaves a record of what the corpus was (`read.json`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headstart.corpora.manifests import (
    AUDIO,
    FEATURES,
    MANIFEST,
    REJECTS,
    described,
    read_columns,
    rows_table,
    save_table,
    table_audio,
)
from headstart.corpora.reader import Reader
from headstart.corpora.reading import Reading, audio_stats, log_reading, read_corpus, read_utterances
from headstart.errors import HeadstartError
from headstart.files import file_digest, fingerprint, read_json, write_json
from headstart.study.fields import SPLITS, Split
from headstart.workers import Failure, in_order

RECORD = "read.json"
TRANSCRIPT = ("text", "tokens", "token_languages", "phonemes")  # columns that no audio depends on
CLIP = ("audio_path", "offset_s", "duration_s", "channel")  # what a clip is decoded from
DECODED = 1000  # clips that are decoded at most to see whether a file with another time has other audio


@dataclass(frozen=True)
class CorpusFiles:
    """The files that are made of one split.

    Attributes:
        manifest, rejects: from the reading.
        features: from the feature stage, with transcripts; those of shards, if there are any, are in `shards`.
    """

    manifest: str
    rejects: str
    features: str
    shards: tuple[str, ...] = ()


Files = dict[Split, CorpusFiles]


def read_recorded(
    reader: Reader,
    paths: dict[Split, tuple[str, str]],
    settings: dict[str, Any],
    record: str | Path,
    processes: int,
    state: str | Path | None = None,
) -> None:
    """Read a corpus for the first time, as `read_corpus` does, and record what it was.

    Args:
        settings: what the manifests depend on beside the corpus.
        record: the file for the record.
        processes, state: as for `read_corpus`.
    """
    now = corpus_state(reader, settings)
    read_corpus(reader, paths, processes, state)
    write_json(record, now)


def corpus_state(reader: Reader, settings: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a corpus is now: its settings, the hash of each file that is read, and sizes and times of audio files.

    Args:
        before: an earlier state; files whose size and time are still those are not hashed again.
    """
    known, inputs = (before or {}).get("inputs", {}), {}
    for path in reader.inputs():
        if not os.path.isfile(path):
            continue
        status = os.stat(path)
        now = [status.st_size, status.st_mtime_ns]
        old = known.get(path)
        inputs[path] = old if old and old[:2] == now else [*now, file_digest(path)]
    return {"settings": fingerprint(settings), "inputs": inputs, "audio": audio_stats(reader)}


def follow(reader: Reader, files: Files, settings: dict[str, Any], record: str | Path, processes: int) -> list[str]:
    """Let the manifests of a corpus, and the transcripts in its features, follow what was edited since it was read.

    Args:
        settings, record: as for `read_recorded`.
        processes: that open audio.

    Returns:
        A sentence for each thing that has changed.

    Raises:
        CorpusError: the corpus cannot be read any more.
    """
    before = read_record(record)
    state = corpus_state(reader, settings, before)
    touched = _touched(before, state)
    known = (before or {}).get("dvc")
    state["dvc"] = _dvc_content(reader, None if touched else known)
    if before == state:
        return []
    if state["dvc"] and state["dvc"] == known:  # new times, after `dvc pull` or `dvc checkout`
        touched = set()
    if before is not None and _contents(before) == _contents(state) and not touched:
        write_json(record, state)  # only times have changed
        return []
    reading = read_utterances(reader, processes)
    sentences = [
        f"{reader.source}: {sentence}"
        for split in SPLITS
        for sentence in _follow_split(reading, split, files[split], touched, state, processes)
    ]
    if sentences:
        log_reading(reading, {split: own.rejects for split, own in files.items()})
    write_json(record, state)
    return sentences


def read_record(path: str | Path) -> dict[str, Any] | None:
    """The record of what something was made from; None where there is none that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _contents(state: dict[str, Any]) -> list[Any]:
    """What of a state is content, and not a time."""
    return [state["settings"], {path: values[-1] for path, values in state["inputs"].items()}]


def _touched(before: dict[str, Any] | None, state: dict[str, Any]) -> set[str]:
    """The audio files whose size or time is another than before; none where nothing is known of before."""
    old, new = (before or {}).get("audio"), state["audio"]
    if old is None or new is None:
        return set()
    return {path for path in {*old, *new} if old.get(path) != new.get(path)}


def _dvc_content(reader: Reader, known: str | None) -> str | None:
    """The hash of a corpus's .dvc file, if DVC finds in the folder what the file says; None if not, or without one.

    Args:
        known: what this returned for the same files before; DVC is not asked again where the .dvc file is still that.
    """
    versioned = f"{reader.folder}.dvc"
    if not os.path.isfile(versioned):
        return None
    digest = file_digest(versioned)
    if digest == known:
        return known
    command = [sys.executable, "-m", "dvc", "status", "--quiet", versioned]
    return digest if subprocess.run(command, capture_output=True).returncode == 0 else None


def _follow_split(
    reading: Reading, split: Split, own: CorpusFiles, touched: set[str], state: dict[str, Any], processes: int
) -> list[str]:
    """Write what of a split came out differently; returns a sentence for each thing that did."""
    said, replaced = [], _replaced(reading, split, own, touched, processes)
    old, mark = _existing(own.manifest), table_audio(own.manifest)
    new = rows_table(own.manifest, reading.rows[split], MANIFEST)
    if replaced or old is None or not _same_clips(old, new):
        said.append(f"{split} has other audio or other utterances")
        mark = fingerprint(state["audio"]) if replaced else mark
        save_table(own.manifest, described(new, {AUDIO: mark}))
    elif not old.equals(new):
        changed = _carry(new, own)
        said.append(f"{split} has other transcripts, {changed} of them in its features")
        with _same_time(own.manifest):
            save_table(own.manifest, described(new, {AUDIO: mark}))
    old, new = _existing(own.rejects), rows_table(own.rejects, reading.rejects[split], REJECTS)
    if old is None or not old.equals(new):
        said.append(f"{split} has other rejected rows")
        save_table(own.rejects, new)
    return said


@contextmanager
def _same_time(path: str) -> Iterator[None]:
    """Context in which a file is written that has its time again afterwards."""
    status = os.stat(path)
    yield
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _existing(path: str) -> pa.Table | None:
    """A table of the workflow; None where it is missing, or damaged and was set aside."""
    try:
        return read_columns(path, None)
    except HeadstartError:
        return None


def _same_clips(one: pa.Table, other: pa.Table) -> bool:
    """Whether two manifests differ in transcripts at most."""
    parts = [table.drop_columns([name for name in TRANSCRIPT if name in table.column_names]) for table in (one, other)]
    return parts[0].equals(parts[1])


def _carry(manifest: pa.Table, own: CorpusFiles) -> int:
    """Write the transcripts of a manifest into the feature manifest; returns how many utterances have another one.

    The feature manifests of shards keep their times, because nothing has to be joined again.
    """
    for shard in own.shards:
        if (table := _existing(shard)) is not None:
            _write_transcripts(shard, table, manifest, keep_time=True)
    table = _existing(own.features)
    return 0 if table is None else _write_transcripts(own.features, table, manifest)


def _write_transcripts(path: str, table: pa.Table, manifest: pa.Table, keep_time: bool = False) -> int:
    rows = pc.index_in(table["utterance_id"], manifest["utterance_id"].combine_chunks())
    if rows.null_count:  # of another manifest: extraction will make it again
        return 0
    changed: set[int] = set()
    for name in TRANSCRIPT:
        values = manifest[name].take(rows)
        place = table.column_names.index(name)
        pairs = zip(table[name].to_pylist(), values.to_pylist(), strict=True)
        changed |= {row for row, (old, new) in enumerate(pairs) if old != new}
        table = table.set_column(place, table.schema.field(name), values)
    if changed:
        # As extraction writes it: parquet has other names for what is in a list.
        table = table.cast(pa.schema([field for field in FEATURES if field.name in table.column_names]))
        with _same_time(path) if keep_time else nullcontext():
            save_table(path, described(table, {}))
    return len(changed)


def _replaced(reading: Reading, split: Split, own: CorpusFiles, touched: set[str], processes: int) -> bool:
    """Whether audio of a split is other than that which its features were extracted from.

    The clips of files with another time or size are decoded, and compared with the hashes in the features. Where there
    are no features, or more than `DECODED` such clips, they count as replaced.
    """
    rows = [row for row in reading.rows[split] if {row["audio_path"], row["audio_path"].rpartition("#")[0]} & touched]
    if not rows:
        return False
    table = _existing(own.features)
    if table is None or len(rows) > DECODED:
        return True
    known = dict(zip(table["utterance_id"].to_pylist(), table["content_hash"].to_pylist(), strict=True))
    tasks = ([row.get(name) for name in CLIP] for row in rows)
    results = in_order("headstart.features.extraction:decode_clip", tasks, processes)
    # A clip that extraction rejected has no hash, now as then.
    return any(
        isinstance(result, Failure) or known.get(row["utterance_id"]) != result.facts.get("content_hash")
        for row, result in zip(rows, results, strict=True)
    )
