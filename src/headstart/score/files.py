"""Transcripts of any system, from files in the formats that people have: TSV, Kaldi text, CTM or parquet.

- Parquet and TSV have the columns `id` and `text`, and may have `tokens`, `token_languages` and `speaker`. A TSV has
  their names in its first line, and separates cells by tabs and the members of a list by spaces; there is no quoting.
- Kaldi text has lines of an id and words, between spaces.
- CTM (NIST) has lines of a file, a channel, a start, a duration, a word and perhaps a confidence. Words are sorted by
  their start. The id of an utterance is the file; where a file has several channels, it is `file-channel` (or with `_`
  or `.` in between, if a reference has that id).

Files whose names end in `.parquet` or `.ctm` are what they say, those that end in `.tsv` or whose first line has a cell
`id` or `text` are TSV, and all others are Kaldi text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError

REQUIRED, LISTS = ("id", "text"), ("tokens", "token_languages")
COLUMNS = (*REQUIRED, *LISTS, "speaker")


@dataclass(frozen=True)
class Transcript:
    """What a file says of one utterance.

    Attributes:
        place: where it says so, such as `ref.tsv, line 3`.
        tokens: of the tags; the words of `text` unless the file has its own.
        languages: a tag for each token, or None without tags.
    """

    place: str
    text: str
    tokens: list[str] | None = None
    languages: list[str] | None = None
    speaker: str | None = None


def read_transcripts(path: Path, ids: Collection[str] = ()) -> dict[str, Transcript]:
    """The transcripts of a file by utterance id, in its order.

    Args:
        ids: those of the references, by which the channels of a CTM are told apart.

    Raises:
        HeadstartError: the file cannot be read, lacks a column, has an id twice, or not one tag for each token. The
            message names the file and the line or row.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no such file")
    if path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        lines = _lines(path)
        if path.suffix == ".ctm":
            rows = _ctm(path, lines, ids)
        elif path.suffix == ".tsv" or (lines and set(REQUIRED) & set(lines[0][1].split("\t"))):
            rows = _tsv(path, lines)
        else:
            rows = _kaldi(path, lines)
    transcripts: dict[str, Transcript] = {}
    for name, transcript in rows:
        if not name:
            raise HeadstartError(f"{transcript.place}: the id is empty; every utterance needs one")
        if name in transcripts:
            raise HeadstartError(
                f"{transcript.place}: {name!r} is in {transcripts[name].place.rpartition(', ')[2]} already; "
                "an id names one utterance"
            )
        transcripts[name] = transcript
    if not transcripts:
        raise HeadstartError(f"{path}: no utterances")
    return transcripts


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise HeadstartError(f"{path}: not UTF-8 text (byte {error.start}); convert it to UTF-8") from None
    except OSError as error:
        raise HeadstartError(f"{path}: the file cannot be read ({error})") from None
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.removesuffix("\r")) for number, line in lines if line.strip()]


def _check_columns(path: Path, names: Collection[str]) -> None:
    if missing := [name for name in REQUIRED if name not in names]:
        raise HeadstartError(
            f"{path}: no column {missing[0]!r}, only {', '.join(map(repr, names))}; {' and '.join(REQUIRED)} are needed"
        )
    if "tokens" in names and "token_languages" not in names:
        raise HeadstartError(f"{path}: tokens without token_languages; add the tags, or leave the tokens out")


def _tsv(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[str, Transcript]]:
    if not lines:
        return
    names = [name.strip() for name in lines[0][1].split("\t")]
    _check_columns(path, names)
    if len(set(names)) < len(names):
        raise HeadstartError(f"{path}: two columns have one name in {', '.join(map(repr, names))}")
    for number, line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise HeadstartError(f"{path}, line {number}: {len(cells)} cells, but the header has {len(names)}")
        row = dict(zip(names, cells, strict=True))
        row |= {name: row[name].split() or None for name in LISTS if name in row}
        yield _transcript(f"{path}, line {number}", row)


def _parquet(path: Path) -> Iterator[tuple[str, Transcript]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        _check_columns(path, names)
        table = pq.read_table(path, columns=[name for name in COLUMNS if name in names])
    except (OSError, pa.ArrowException) as error:
        raise HeadstartError(f"{path}: not a parquet file that can be read ({' '.join(str(error).split())})") from None
    for number, row in enumerate(table.to_pylist(), 1):
        for name in LISTS:
            if isinstance(row.get(name), str):
                row[name] = row[name].split()
        yield _transcript(f"{path}, row {number}", row)


def _transcript(place: str, row: dict[str, Any]) -> tuple[str, Transcript]:
    text = "" if row["text"] is None else str(row["text"])
    tags = row.get("token_languages") or None
    tokens = (row.get("tokens") or text.split()) if tags else None
    if tags and len(tokens) != len(tags):
        raise HeadstartError(f"{place}: {len(tokens)} tokens, but {len(tags)} language tags; each token needs one tag")
    if tags and None in tags:
        raise HeadstartError(f"{place}: a tag is null; tag tokens of no language with zxx, or with a tag of your own")
    name = "" if row["id"] is None else str(row["id"]).strip()
    return name, Transcript(place, text, tokens, tags, row.get("speaker") or None)


def _kaldi(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, Transcript]]:
    for number, line in lines:
        name, *words = line.split(maxsplit=1)
        yield name, Transcript(f"{path}, line {number}", words[0] if words else "")


def _ctm(path: Path, lines: Iterable[tuple[int, str]], ids: Collection[str]) -> Iterator[tuple[str, Transcript]]:
    words: dict[tuple[str, str], list[tuple[float, str]]] = {}
    first: dict[tuple[str, str], int] = {}
    for number, line in lines:
        if line.startswith(";;"):
            continue
        cells = line.split()
        try:
            file, channel, start, _, word = cells[0], cells[1], float(cells[2]), float(cells[3]), cells[4]
        except (IndexError, ValueError):
            raise HeadstartError(
                f"{path}, line {number}: not a line of CTM, which is a file, a channel, a start and a duration in "
                f"seconds, a word, and perhaps a confidence: {line!r}"
            ) from None
        words.setdefault((file, channel), []).append((start, word))
        first.setdefault((file, channel), number)
    channels: dict[str, int] = {}
    for file, _ in words:
        channels[file] = channels.get(file, 0) + 1
    for (file, channel), timed in words.items():
        named = next((known for mark in "-_." if (known := f"{file}{mark}{channel}") in ids), f"{file}-{channel}")
        name = named if named in ids or (channels[file] > 1 and file not in ids) else file
        if name == file and channels[file] > 1:
            raise HeadstartError(
                f"{path}, line {first[file, channel]}: {file!r} has {channels[file]} channels, but one reference; "
                f"references of channels are named like {named!r}"
            )
        text = " ".join(word for _, word in sorted(timed, key=lambda pair: pair[0]))
        yield name, Transcript(f"{path}, line {first[file, channel]}", text)
