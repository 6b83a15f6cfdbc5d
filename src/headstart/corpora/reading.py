"""Reading corpora: the utterances that a reader yields become one manifest a split, and a list of rejected rows."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import soundfile

from headstart.corpora.manifests import MANIFEST, REJECTS, write_table
from headstart.corpora.paths import Folder, located
from headstart.corpora.reader import AudioReference, CommonSettings, CorpusError, Reader, Utterance
from headstart.corpora.splits import Rows, check_drawn, draw_keys, draw_split, missing_splits, shared_sentences
from headstart.study.fields import SPLITS, Split

log = logging.getLogger(__name__)


@dataclass
class Reading:
    """A corpus as it was read: manifest rows and rejected rows by split, and notes for the log."""

    rows: Rows = field(default_factory=lambda: {split: [] for split in SPLITS})
    rejects: Rows = field(default_factory=lambda: {split: [] for split in SPLITS})
    notes: list[str] = field(default_factory=list)


class UnusableError(ValueError):
    """Why an utterance is rejected."""


def audio_state(reader: Reader) -> str | None:
    """Short hash of the path, size and modification time of every audio file that a corpus names.

    It changes when audio is replaced, added or removed while the inputs of the reader stay, and costs no more than
    asking the file system. It is None where that cannot happen. A corpus that cannot be read names no file.
    """
    try:
        names = reader.audio_files()
        if names is None:
            return None
        names = list(names)
    except (CorpusError, OSError):
        names = []
    digest, folder = hashlib.sha256(), Folder(reader)
    for name in names:
        try:
            status = os.stat(os.path.join(reader.folder, folder.on_disk(name)))
            state = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):  # ValueError: a name that no file can have
            state = "missing"
        digest.update(f"{name}\0{state}\n".encode())
    return digest.hexdigest()[:16]


def read_utterances(reader: Reader) -> Reading:
    """Read a corpus: check every utterance, and draw the splits that the corpus does not have.

    Raises:
        CorpusError: the corpus cannot be read, nothing in it is usable, or a split that should be drawn got nothing.
    """
    entries = list(located(reader))
    shares, keys = missing_splits(reader, entries), draw_keys(entries)
    audio_seconds = lru_cache(maxsize=1)(_audio_seconds)  # the stretches of a recording follow one another
    reading = Reading()
    lines: dict[str, int] = {}  # of the ids that are used
    split: Split = "train"
    for entry, key in zip(entries, keys, strict=True):
        is_utterance = isinstance(entry, Utterance)
        if is_utterance or entry.split is not None:
            split = entry.split or "train"
            if split == "train":
                split = draw_split(shares, key)
        path = str(reader.folder / entry.audio.path) if entry.audio else None
        try:
            if not is_utterance:
                raise UnusableError(entry.reason)
            row = _manifest_row(entry, path, reader.settings, audio_seconds)
            if entry.utterance_id in lines:
                raise UnusableError(f"duplicate id: already used in line {lines[entry.utterance_id]}")
        except UnusableError as error:
            reject = {"utterance_id": entry.utterance_id, "audio_path": path, "row": entry.line, "reason": str(error)}
            reading.rejects[split].append(reject)
        else:
            lines[entry.utterance_id] = entry.line
            reading.rows[split].append(row)
    _check_not_empty(reader, reading)
    check_drawn(reader, shares, reading.rows, reading.rejects, keys)
    reading.notes += [f"{split}: no utterance" for split in SPLITS if not reading.rows[split]]
    reading.notes += shared_sentences(reading.rows)
    return reading


def read_corpus(reader: Reader, paths: dict[Split, tuple[str, str]]) -> Reading:
    """Read a corpus and write, for each split, its (manifest, rejects) parquet files."""
    reading = read_utterances(reader)
    for note in reading.notes:
        log.warning(note)
    for split, (manifest, rejects) in paths.items():
        rows, rejected = reading.rows[split], reading.rejects[split]
        hours = sum(row["duration_s"] for row in rows) / 3600
        log.info("%s: %d utterances, %.2f h, %d rejected", split, len(rows), hours, len(rejected))
        for reason, count in Counter(reject["reason"].split(":")[0] for reject in rejected).most_common():
            log.warning("%s: %d rejected: %s (see %s)", split, count, reason, rejects)
        write_table(rejects, rejected, REJECTS)
        write_table(manifest, rows, MANIFEST)
    return reading


def _manifest_row(
    utterance: Utterance, path: str | None, settings: CommonSettings, audio_seconds: Callable[[str], float]
) -> dict[str, Any]:
    """The manifest row of an utterance; raises `UnusableError` where it has to be rejected."""
    if not utterance.utterance_id:
        raise UnusableError("empty id")
    if path is None:
        raise UnusableError("no audio file named")
    if utterance.text == "":
        raise UnusableError("empty transcript")
    tokens, tags = utterance.tokens or [], utterance.token_languages or []
    if tags and len(tokens) != len(tags):
        raise UnusableError(f"token tags do not match: {len(tokens)} tokens, {len(tags)} tags")
    duration_s = _duration(utterance.audio, audio_seconds(path))
    if duration_s < settings.min_seconds:
        raise UnusableError(f"too short: {duration_s:.2f} s, min_seconds is {settings.min_seconds:g}")
    if duration_s > settings.max_seconds:
        raise UnusableError(f"too long: {duration_s:.1f} s, max_seconds is {settings.max_seconds:g}")
    return {
        "utterance_id": utterance.utterance_id,
        "audio_path": path,
        "offset_s": utterance.audio.offset_s,
        "duration_s": duration_s,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "text": utterance.text,
        "tokens": utterance.tokens,
        "token_languages": utterance.token_languages,
        "phonemes": utterance.phonemes,
        **({} if utterance.audio.channel is None else {"channel": utterance.audio.channel}),
    }


def _audio_seconds(path: str) -> float:
    """Length of an audio file by its header; raises `UnusableError` where it has none."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:  # TypeError: headerless .raw
        missing = not os.path.exists(path)  # also for a name that no file can have
        raise UnusableError("audio file not found" if missing else f"undecodable audio: {error}") from None
    return info.frames / info.samplerate if info.samplerate else 0.0


def _duration(audio: AudioReference, file_seconds: float) -> float:
    """Length of a whole file, or of a stretch that has to lie within the file.

    The times of segments are often rounded, so the end of a stretch may lie beyond the end of the file by 5 % of the
    stretch, as much as the feature stage accepts to be missing; the stretch then ends with the file.
    """
    if not audio.offset_s and audio.duration_s is None:
        return file_seconds
    left = file_seconds - audio.offset_s
    if not (audio.offset_s >= 0 and left > 0):
        raise UnusableError(f"outside the audio: begins at {audio.offset_s:.2f} s of {file_seconds:.2f} s")
    if audio.duration_s is None:
        return left
    if not left >= 0.95 * audio.duration_s:  # also of NaN
        end = audio.offset_s + audio.duration_s
        raise UnusableError(f"outside the audio: ends at {end:.2f} s of {file_seconds:.2f} s")
    return min(audio.duration_s, left)


def _check_not_empty(reader: Reader, reading: Reading) -> None:
    if not any(reading.rows.values()):
        reasons = Counter(reject["reason"] for rejects in reading.rejects.values() for reject in rejects)
        common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        raise CorpusError(f"{reader.source}: no usable utterance ({common or 'the table is empty'})")
