"""Reading corpora: a folder of audio files and a table becomes one manifest a split, and a list of rejected rows."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from headstart.corpora.manifests import MANIFEST, REJECTS, write_table
from headstart.logs import HeadstartError
from headstart.study.explain import nearest
from headstart.study.sections import SPLITS, Columns, FolderCorpus, Split, SyntheticCorpus

log = logging.getLogger(__name__)


class CorpusError(HeadstartError):
    """A corpus that cannot be read at all. Rows that cannot be used are rejected instead, with a reason."""


@dataclass
class Reading:
    """What a reader made of a corpus: manifest rows and rejected rows by split, and what a user should know."""

    rows: dict[Split, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    rejects: dict[Split, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    notes: list[str] = field(default_factory=list)


# The synthesiser writes an ordinary corpus folder with this table.
SYNTHETIC_COLUMNS = Columns(
    speaker="speaker",
    language="language",
    split="split",
    tokens="tokens",
    token_languages="token_languages",
    phonemes="phonemes",
)


def as_folder(corpus: SyntheticCorpus | FolderCorpus, folder: str | Path) -> FolderCorpus:
    """The folder reader's settings for any corpus; `folder` is where a synthetic one was written."""
    if isinstance(corpus, FolderCorpus):
        return corpus
    return FolderCorpus(
        reader="folder", path=str(folder), columns=SYNTHETIC_COLUMNS, language=corpus.language.split("-")[0]
    )


def check_folder(corpus: FolderCorpus) -> Path:
    """Path of a corpus's table; raises `CorpusError` when the folder or the table is not there."""
    folder = Path(corpus.path)
    table = folder / corpus.table
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such corpus folder; set `path` of the corpus to where its audio is")
    if not table.is_file():
        found = [path.name for path in folder.iterdir() if path.suffix in (".tsv", ".csv")]
        raise CorpusError(f"{table}: no such table{nearest(table.name, found)}; set `table` of the corpus")
    return table


def read_folder(corpus: FolderCorpus) -> Reading:
    """Read a corpus folder.

    Raises:
        CorpusError: the folder or its table is missing, a mapped column is not in the table, nothing is usable, or a
            split that should be drawn got nothing.
    """
    table = check_folder(corpus)
    header, lines = _read_lines(table)
    _check_columns(table, corpus.columns, header)
    drawn = _drawn_splits(corpus, [line for _, line in lines])
    malformed = _malformed(header, lines)

    reading = Reading()
    seen: dict[str, int] = {}
    folder = Path(corpus.path)  # audio paths are relative to it, also when the table lies in a subfolder
    split: Split | None = "train"
    for number, line in lines:
        reason = malformed.get(number)
        # The cells of a malformed row may stand in other columns: only a split that exists is taken from them, and
        # otherwise the row belongs to the one before it.
        if reason is None or _split_name(line, corpus) in corpus.splits:
            split = _split_of(line, corpus, drawn, table, number)
        if split is None:
            continue
        if reason is None:
            _check_inside(line, corpus, table, number)
            row, reason = _row_of(line, corpus, folder)
        else:
            row = _named_by(line, corpus, folder)
        if reason is None and row["utterance_id"] in seen:
            reason = f"duplicate id: already used in line {seen[row['utterance_id']]}"
        if reason is None:
            seen[row["utterance_id"]] = number
            reading.rows[split].append(row)
        else:
            reject = {key: row[key] for key in ("utterance_id", "audio_path")}
            reading.rejects[split].append({**reject, "row": number, "reason": reason})
    if not any(reading.rows.values()):
        reasons = Counter(reject["reason"] for rejects in reading.rejects.values() for reject in rejects)
        common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        raise CorpusError(f"{table}: no usable utterance ({common or 'the table is empty'})")
    for split, share in drawn.items():
        if share and reading.rows["train"] and not reading.rows[split] and not reading.rejects[split]:
            what = "speakers" if corpus.columns.speaker else "sentences"
            raise CorpusError(
                f"{table}: of its few {what}, none was drawn for {split}. Name a column of splits (columns.split), "
                f"draw sentences instead of speakers (columns.speaker: null), raise {split}_share from {share:g}, "
                f"or, where the study does not use it, set {split}_share: 0"
            )
    reading.notes += [f"{split}: no utterance" for split in SPLITS if not reading.rows[split]] + _leaks(reading)
    return reading


def audio_state(corpus: FolderCorpus) -> str:
    """Short hash of the path, size and modification time of every audio file that a corpus's table names.

    It changes when audio is replaced, added or removed under the same table, and costs no more than asking the file
    system. A table that cannot be read names no file: the job that reads it says what is wrong with it.
    """
    digest = hashlib.sha256()
    try:
        header, lines = _read_lines(check_folder(corpus))
    except (CorpusError, OSError):
        header, lines = [], []
    if corpus.columns.audio in header:
        for _, line in lines:
            audio = _cell(line, corpus.columns.audio)
            if audio is None:
                continue
            try:
                found = os.stat(os.path.join(corpus.path, audio))
                state = f"{found.st_size} {found.st_mtime_ns}"
            except (OSError, ValueError):  # ValueError: of a name that no file can have
                state = "missing"
            digest.update(f"{audio}\0{state}\n".encode())
    return digest.hexdigest()[:16]


def write_manifests(corpus: FolderCorpus, paths: dict[Split, tuple[str, str]]) -> Reading:
    """Read a corpus and write, for each split, its (manifest, rejects) parquet files."""
    reading = read_folder(corpus)
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


def _read_lines(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names, and each row with its line number."""
    separator = "," if table.suffix == ".csv" else "\t"
    # Quotes are ordinary characters in a TSV of transcripts; a CSV needs them around commas.
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=separator, quoting=quoting, strict=True)
            # The number of the line on which a row ends, as an editor shows it. A line of spaces is a blank one.
            lines = [(reader.line_num, line) for line in reader if (only := _only_cell(line)) is None or only.strip()]
            return list(reader.fieldnames or []), lines
    except csv.Error as error:
        raise CorpusError(
            f"{table}: not a valid table after line {reader.line_num} ({error}); check its quotes"
        ) from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table}: not UTF-8 text ({error}); convert it, for example with iconv") from None


def _only_cell(line: dict[str, str]) -> str | None:
    """What stands in a row that has a single cell where the table has more columns."""
    cells = [cell for cell in line.values() if cell is not None]
    return cells[0] if len(cells) == 1 < len(line) else None


def _check_columns(table: Path, columns: Columns, header: list[str]) -> None:
    problems = [
        f"columns.{key}: the table has no column {name!r}{nearest(name, header)}"
        for key, name in columns.model_dump().items()
        if name is not None and name not in header
    ]
    if problems:
        raise CorpusError("\n".join([f"{table}: {len(problems)} mapped column(s) not found", *problems]))


def _drawn_splits(corpus: FolderCorpus, lines: list[dict[str, str]]) -> dict[Split, float]:
    """The splits that the table does not have, each with the share of its training rows that becomes it."""
    column = corpus.columns.split
    present = {corpus.splits.get(_split_name(line, corpus)) for line in lines} if column else set()
    shares: dict[Split, float] = {"dev": corpus.dev_share, "test": corpus.test_share}
    return {split: share for split, share in shares.items() if split not in present}


def _malformed(header: list[str], lines: list[tuple[int, dict[str, str]]]) -> dict[int, str]:
    """Line number -> reason, for the rows that have not one cell a column, and those whose last cell is cut short.

    A line break inside a cell makes several rows of one. Where the cell is in the last column, the first of them has
    all its cells, and each of the others a single one.
    """
    reasons, before = {}, None
    width = max((place for place, name in enumerate(header, start=1) if name), default=0)  # less a nameless end
    for number, line in lines:
        if any(line.get(None) or []):
            reasons[number] = f"more cells than columns: {line[None]}; quote a text that holds the separator"
        cells = sum(line[name] is not None for name in header)
        if cells < width:
            reasons[number] = f"fewer cells than columns: {cells} of {width}, probably a line break inside a cell"
            if cells == 1 and before is not None:
                rest = f"the row seems to go on in line {number}, which has a single cell"
                reasons.setdefault(before, f"fewer cells than columns: {rest}, probably a line break inside a cell")
        if cells > 1:
            before = number
    return reasons


def _split_name(line: dict[str, str], corpus: FolderCorpus) -> str | None:
    """What the table says of a row's split; None where it has no column of splits."""
    return (line[corpus.columns.split] or "").strip() if corpus.columns.split is not None else None


def _check_inside(line: dict[str, str], corpus: FolderCorpus, table: Path, number: int) -> None:
    """Refuse audio outside the corpus folder, unless the study allows it. Links inside the folder may lead anywhere."""
    audio, folder = (line[corpus.columns.audio] or "").strip(), os.path.abspath(corpus.path)
    if not corpus.outside and os.path.commonpath([folder, os.path.abspath(os.path.join(folder, audio))]) != folder:
        raise CorpusError(
            f"{table}, line {number}: {audio!r} lies outside the corpus folder. Put the audio into the folder, or set "
            "`outside: true` of the corpus if it may be read from elsewhere"
        )


def _split_of(
    line: dict[str, str], corpus: FolderCorpus, drawn: dict[Split, float], table: Path, number: int
) -> Split | None:
    name = _split_name(line, corpus)
    if name is not None:
        if name not in corpus.splits:
            raise CorpusError(
                f"{table}, line {number}: split {name!r} is not in the corpus's `splits` mapping"
                f"{nearest(name, list(corpus.splits))}; map it to train, dev, test or null"
            )
        if corpus.splits[name] != "train":
            return corpus.splits[name]
    # Whole speakers (or equal sentences) are drawn by a hash, so that adding rows to a corpus never moves the others
    # between splits.
    columns = filter(None, (corpus.columns.speaker, corpus.columns.text, corpus.columns.audio))
    by = next(filter(None, ((line[column] or "").strip().lower() for column in columns)), "")
    digest = hashlib.sha256(by.encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in drawn.items():
        if draw < share:
            return split
        draw -= share
    return "train"


def _cell(line: dict[str, str], name: str | None) -> str | None:
    return ((line[name] or "").strip() or None) if name else None


def _named_by(line: dict[str, str], corpus: FolderCorpus, folder: Path) -> dict[str, str | None]:
    """What a table line says of the utterance's id and audio. A single cell is the rest of a text, and says nothing."""
    columns = corpus.columns
    if _only_cell(line) is not None:
        return {"utterance_id": None, "audio_path": None}
    audio = _cell(line, columns.audio)
    return {
        "utterance_id": _cell(line, columns.utterance_id) if columns.utterance_id else Path(audio or "").stem,
        "audio_path": str(folder / audio) if audio else None,
    }


def _row_of(line: dict[str, str], corpus: FolderCorpus, folder: Path) -> tuple[dict[str, Any], str | None]:
    """Manifest row of a table line, and the reason to reject it (or None)."""
    columns = corpus.columns

    def cell(name: str | None) -> str | None:
        return _cell(line, name)

    row = {
        **_named_by(line, corpus, folder),
        "offset_s": 0.0,
        "duration_s": 0.0,
        "speaker": cell(columns.speaker),
        "language": cell(columns.language) or corpus.language,
        "text": cell(columns.text),
        "tokens": (cell(columns.tokens) or "").split() or None,
        "token_languages": [corpus.token_tags.get(t, t) for t in (cell(columns.token_languages) or "").split()] or None,
        "phonemes": cell(columns.phonemes),
    }
    if not row["utterance_id"]:
        return row, "empty id"
    if row["audio_path"] is None:
        return row, "no audio file named"
    if columns.text and row["text"] is None:
        return row, "empty transcript"
    tokens, tags = row["tokens"] or [], row["token_languages"] or []
    if tags and len(tokens) != len(tags):
        return row, f"token tags do not match: {len(tokens)} tokens, {len(tags)} tags"
    try:
        info = soundfile.info(row["audio_path"])
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:  # TypeError: headerless .raw
        missing = not os.path.exists(row["audio_path"])  # also of a name that no file can have
        return row, "audio file not found" if missing else f"undecodable audio: {error}"
    row["duration_s"] = info.frames / info.samplerate if info.samplerate else 0.0
    if row["duration_s"] < corpus.min_seconds:
        return row, f"too short: {row['duration_s']:.2f} s, min_seconds is {corpus.min_seconds:g}"
    if row["duration_s"] > corpus.max_seconds:
        return row, f"too long: {row['duration_s']:.1f} s, max_seconds is {corpus.max_seconds:g}"
    return row, None


def _leaks(reading: Reading) -> list[str]:
    """Notes on sentences that a test or dev split shares with the training split."""
    trained = {(row["text"] or "").lower() for row in reading.rows["train"]} - {""}
    notes = []
    for split in ("dev", "test"):
        shared = sum((row["text"] or "").lower() in trained for row in reading.rows[split])
        if shared:
            notes.append(f"{split}: {shared} of {len(reading.rows[split])} sentences also occur in train")
    return notes
