"""Dialects of tables: the separators, quotes and encodings in which spreadsheets and programs write them."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import islice
from pathlib import Path

from headstart.corpora.reader import CorpusError
from headstart.corpora.text_files import read_text, says_its_end

Row = dict[str | None, str | list[str] | None]  # column -> cell; csv puts cells beyond the last column under None
SUFFIXES = (".tsv", ".csv", ".tab", ".txt", ".jsonl")
SEPARATORS = "\t,;|"
BINARY = {  # how a file begins that is no text -> what it is, and what to do
    b"PK\x03\x04": "a spreadsheet or another archive; save the sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old version; save the sheet as CSV in UTF-8",
    b"PAR1": "a parquet file, which `reader: huggingface` reads",
    b"SQLite format 3": "a database; export the table as CSV in UTF-8",
}


def read_rows(path: Path, most: int | None = None) -> tuple[list[str], list[tuple[int, Row]]]:
    """Column names, and each row, or the first `most`, with the line on which it ends, as an editor shows it.

    The separator is a comma in a .csv and a tab elsewhere, unless the line of column names has another one instead.
    Quotes are ordinary characters in a table of transcripts with tabs, unless every column name is quoted; with other
    separators, they are around cells. A line of spaces counts as blank.

    Raises:
        CorpusError: the file is missing, is no text in a Unicode encoding, or has a quote that is not closed.
    """
    _check_kind(path)
    text = read_text(path)
    if most is None:
        says_its_end(path, text)
    if path.suffix.lower() == ".jsonl":
        return _json_rows(path, text)
    skipped = 0
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    if said := re.match(r'"?sep=(.)"?\r?\n', text):  # written by spreadsheets
        separator, text, skipped = said[1], text[said.end() :], 1
    else:
        first = re.split(r"[\r\n]", text, maxsplit=1)[0]
        if separator not in first:
            separator = max(SEPARATORS, key=lambda sign: (first.count(sign), sign == separator))
    names = re.split(r"[\r\n]", text, maxsplit=1)[0].split(separator)
    quoted = len(names) > 1 and all(re.fullmatch(r'\s*"[^"]*"\s*', name) for name in names)
    quoting = csv.QUOTE_NONE if separator == "\t" and not quoted else csv.QUOTE_MINIMAL
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)
    try:
        header = table.fieldnames = [name.strip() for name in table.fieldnames or []]
        rows = [
            (table.line_num + skipped, row)
            for row in islice(table, most)
            if (only := only_cell(row)) is None or only.strip()
        ]
    except csv.Error as error:
        line = table.line_num + skipped
        raise CorpusError(f"{path}: not a valid table after line {line} ({error}); check its quotes") from None
    return header, rows


def _json_rows(path: Path, text: str) -> tuple[list[str], list[tuple[int, Row]]]:
    """The rows of JSON lines, whose columns are the keys of all. What is neither text nor a number is an empty cell."""
    rows = []
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                rows.append((line, dict(json.loads(content))))
            except (ValueError, TypeError, RecursionError) as error:
                raise CorpusError(f"{path}, line {line}: not a JSON object ({error}); write the table anew") from None
    header = list(dict.fromkeys(name for _, row in rows for name in row))
    return header, [(line, {name: _json_cell(row.get(name)) for name in header}) for line, row in rows]


def _json_cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _check_kind(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begin = file.read(16)
    except OSError:
        return  # reading it says why
    for mark, what in BINARY.items():
        if begin.startswith(mark):
            raise CorpusError(f"{path}: not a table of text but {what}")


def only_cell(row: Row) -> str | None:
    """The cell of a row that has a single one where the table has more columns."""
    cells = [cell for cell in row.values() if cell is not None]
    return cells[0] if len(cells) == 1 < len(row) else None


def malformed_rows(header: list[str], rows: list[tuple[int, Row]]) -> dict[int, str]:
    """Line number -> reason, for rows with more or fewer cells than columns, and for those with a cell cut short.

    A line break inside a cell makes several rows of one. Where the cell is in the last column, the first of these rows
    has all its cells, and each of the others a single one.
    """
    reasons, before = {}, None
    width = max((place for place, name in enumerate(header, start=1) if name), default=0)  # less a nameless end
    for line, row in rows:
        if len(header) > 1 and all(row[name] is not None and row[name].strip() == name for name in header):
            reasons[line] = "the line of column names again: tables were joined"
            continue
        if any(row.get(None) or []):
            reasons[line] = f"more cells than columns: {row[None]}; quote a text that holds the separator"
        cells = sum(row[name] is not None for name in header)
        if cells < width:
            reasons[line] = f"fewer cells than columns: {cells} of {width}, probably a line break inside a cell"
            if cells == 1 and before is not None:
                rest = f"the row seems to go on in line {line}, which has a single cell"
                reasons.setdefault(before, f"fewer cells than columns: {rest}, probably a line break inside a cell")
        if cells > 1:
            before = line
    return reasons
