"""Reading corpora: the utterances that a reader yields become one manifest a split, and a list of rejected rows."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from headstart.audio.recordings import Recording
from headstart.corpora.lengths import described
from headstart.corpora.manifests import MANIFEST, REJECTS, write_table
from headstart.corpora.paths import Folder, located
from headstart.corpora.reader import (
    AudioReference,
    CommonSettings,
    CorpusError,
    CorpusFileError,
    Reader,
    Reject,
    Utterance,
)
from headstart.corpora.splits import Rows, check_drawn, draw_keys, draw_split, missing_splits, shared_sentences
from headstart.files import alone, file_state
from headstart.logs import Progress
from headstart.study.fields import SPLITS, Channels, Split

log = logging.getLogger(__name__)


@dataclass
class Reading:
    """A corpus as it was read: manifest rows and rejected rows by split, and notes for the log."""

    rows: Rows = field(default_factory=lambda: {split: [] for split in SPLITS})
    rejects: Rows = field(default_factory=lambda: {split: [] for split in SPLITS})
    notes: list[str] = field(default_factory=list)


class UnusableError(ValueError):
    """Why an utterance is rejected."""


def audio_stats(reader: Reader) -> dict[str, list[int] | None] | None:
    """Size and modification time, in nanoseconds, of every audio file that a corpus names; None where one is missing.

    Asking the file system for them costs little, and shows where audio may have been replaced while the inputs of the
    reader stay. The whole is None where that cannot happen. A corpus that cannot be read names no file.
    """
    try:
        names = reader.audio_files()
        if names is None:
            return None
        names = list(names)
    except (CorpusError, OSError):
        names = []
    found: dict[str, list[int] | None] = {}
    folder = Folder(reader)
    for name in names:
        path = os.path.join(reader.folder, folder.on_disk(name))
        found[path] = file_state(path)
    return found


def input_state(reader: Reader) -> list[list[int] | None]:
    """`file_state` of each input file of a reader."""
    return [file_state(path) for path in reader.inputs()]


def read_utterances(reader: Reader, processes: int = 0, journal: Path | None = None) -> Reading:
    """Read a corpus: check every utterance, and draw the splits that the corpus does not have.

    Args:
        processes, journal: see `headstart.corpora.lengths.described`.

    Raises:
        CorpusError: the corpus cannot be read, nothing in it is usable, or a split that should be drawn got nothing.
    """
    entries = list(located(reader))
    shares, keys = missing_splits(reader, entries), draw_keys(entries)
    channels = getattr(reader.settings, "channels", "mix")
    reading, several = Reading(), 0
    lines: dict[str, int] = {}  # of the ids that are used
    split: Split = "train"
    recorded = _with_recordings(reader, entries, processes, journal)
    for (entry, path, recording), key in zip(recorded, keys, strict=True):
        if isinstance(entry, Utterance) or entry.split is not None:
            split = entry.split or "train"
            if split == "train":
                split = draw_split(shares, key)
        for part in _channels(entry, recording, channels):
            try:
                row = _manifest_row(part, path, reader.settings, recording)
                if part.utterance_id in lines:
                    raise UnusableError(f"duplicate id: already used in line {lines[part.utterance_id]}")
            except UnusableError as error:
                reject = {"utterance_id": part.utterance_id, "audio_path": path, "row": part.line}
                reading.rejects[split].append({**reject, "reason": str(error)})
            else:
                lines[part.utterance_id] = part.line
                reading.rows[split].append(row)
                several += channels == "each" and part is not entry and bool(part.text)
    _check_not_empty(reader, reading)
    check_drawn(reader, shares, reading.rows, reading.rejects, keys)
    reading.notes += [f"{split}: no utterance" for split in SPLITS if not reading.rows[split]]
    reading.notes += shared_sentences(reading.rows)
    if several:
        reading.notes.append(
            f"{several} utterances are one channel of several and have the transcript of all of them: `channels: each` "
            "is meant for audio without transcripts"
        )
    return reading


def _with_recordings(
    reader: Reader, entries: list[Utterance | Reject], processes: int, journal: Path | None
) -> Iterator[tuple[Utterance | Reject, str | None, Recording | str | None]]:
    """Each entry with the path of its audio, and what is known of the recording, or why it cannot be used."""
    paths = [str(reader.folder / entry.audio.path) if entry.audio else None for entry in entries]
    recorded = [path if isinstance(entry, Utterance) else None for entry, path in zip(entries, paths, strict=True)]
    different = [path for path, _ in groupby(recorded) if path]  # stretches of one follow one another
    found = described(different, processes, journal)
    progress = Progress(str(reader.source), len(entries), "utterances")
    for path, group in groupby(zip(recorded, entries, paths, strict=True), itemgetter(0)):
        recording = next(found) if path else None
        for _, entry, place in group:
            progress.add(1)
            yield entry, place, recording


def _channels(
    entry: Utterance | Reject, recording: Recording | str | None, channels: Channels
) -> Iterable[Utterance | Reject]:
    """The utterances that one becomes, by the corpus's setting and the channels of the recording."""
    count = recording.channels if isinstance(recording, Recording) else 1
    if not isinstance(entry, Utterance) or not entry.audio or entry.audio.channel is not None or channels == "mix":
        return [entry]
    if channels != "each":
        if count == 1 and channels == 0:
            return [entry]
        return [replace(entry, audio=entry.audio._replace(channel=channels))]
    if count == 1 or not entry.utterance_id:
        return [entry]
    return [
        replace(entry, utterance_id=f"{entry.utterance_id}-ch{n}", audio=entry.audio._replace(channel=n))
        for n in range(count)
    ]


def read_corpus(
    reader: Reader, paths: dict[Split, tuple[str, str]], processes: int = 0, state: str | Path | None = None
) -> Reading:
    """Read a corpus and write, for each split, its (manifest, rejects) parquet files; see `read_utterances`.

    Args:
        state: folder for what a job that was stopped goes on from; None where it starts afresh.

    Raises:
        CorpusError: also where an input of the reader has changed meanwhile. The manifests would be newer than it, so
            that Snakemake would take them for those of what it has become.
    """
    before = input_state(reader)
    journal = Path(state) / "recordings.jsonl" if state else None
    with alone(state) if state else nullcontext():
        reading = read_utterances(reader, processes, journal)
        if input_state(reader) != before:
            raise CorpusFileError(f"{reader.source}: the corpus changed while it was read; run Snakemake again")
        log_reading(reading, {split: rejects for split, (_, rejects) in paths.items()})
        for split, (manifest, rejects) in paths.items():
            write_table(rejects, reading.rejects[split], REJECTS)
            write_table(manifest, reading.rows[split], MANIFEST)
        if journal:
            journal.unlink(missing_ok=True)
    return reading


def log_reading(reading: Reading, rejects: dict[Split, str]) -> None:
    """Log what was read: notes, and for each split its size and the reasons of rejected rows.

    Args:
        rejects: the files that list the rejected rows.
    """
    for note in reading.notes:
        log.warning(note)
    for split, path in rejects.items():
        rows, rejected = reading.rows[split], reading.rejects[split]
        hours = sum(row["duration_s"] for row in rows) / 3600
        log.info("%s: %d utterances, %.2f h, %d rejected", split, len(rows), hours, len(rejected))
        for reason, count in Counter(reject["reason"].split(":")[0] for reject in rejected).most_common():
            log.warning("%s: %d rejected: %s (see %s)", split, count, reason, path)


def _manifest_row(
    utterance: Utterance | Reject, path: str | None, settings: CommonSettings, recording: Recording | str | None
) -> dict[str, Any]:
    """The manifest row of an utterance; raises `UnusableError` where it has to be rejected."""
    if isinstance(utterance, Reject):
        raise UnusableError(utterance.reason)
    if not utterance.utterance_id:
        raise UnusableError("empty id")
    if path is None:
        raise UnusableError("no audio file named")
    if utterance.text == "":
        raise UnusableError("empty transcript")
    tokens, tags = utterance.tokens or [], utterance.token_languages or []
    if tags and len(tokens) != len(tags):
        raise UnusableError(f"token tags do not match: {len(tokens)} tokens, {len(tags)} tags")
    if isinstance(recording, str):
        raise UnusableError(recording)
    channel = utterance.audio.channel
    if channel is not None and not 0 <= channel < recording.channels:
        raise UnusableError(f"no channel {channel}: the audio has {recording.channels}, counted from 0")
    duration_s = _duration(utterance.audio, recording.seconds)
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
        **({} if channel is None else {"channel": channel}),
    }


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
        raise CorpusFileError(f"{reader.source}: no usable utterance ({common or 'the table is empty'})")
