"""The table reader: a folder of audio files with a TSV or CSV table, one row an utterance."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, RecordedReader, Reject, Utterance
from headstart.study.corpora import RecordedCorpus
from headstart.study.explain import nearest
from headstart.study.fields import Folder, Settings, Split

Row = dict[str | None, str | list[str] | None]  # column -> cell; csv puts cells beyond the last column under None


class Columns(Settings):
    """Which column of a corpus table holds what. `null` marks what the table does not have."""

    audio: str = Field("path", description="Path of the audio file, relative to the corpus folder.")
    utterance_id: str | None = Field("id", description="Unique id; the audio file's name without suffix if null.")
    text: str | None = Field("text", description="Transcript; null for an unlabelled corpus.")
    speaker: str | None = Field(None, description="Speaker label.")
    language: str | None = Field(None, description="BCP 47 language of the utterance.")
    split: str | None = Field(None, description="Split; if null, drawn by speaker (or sentence).")
    tokens: str | None = Field(None, description="Space-separated tokens, for tagged code-switched text.")
    token_languages: str | None = Field(None, description="Space-separated language tags, one for each token.")
    phonemes: str | None = Field(
        None, description="Phonemic transcript: phones with spaces between them, and ` | ` between words, if at all."
    )


class FolderCorpus(RecordedCorpus):
    """Recorded speech: a folder with audio files and a TSV or CSV table."""

    reader: Literal["folder"] = Field(description="`folder`: audio files and a table.")
    table: Folder = Field("metadata.tsv", description="The table in it; the suffix .csv or .tsv gives the separator.")
    columns: Columns = Field(Columns(), description="Mapping from our fields to the table's columns.")
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev": "dev", "test": "test"},
        description="The table's split names -> ours; null leaves a split out.",
    )
    token_tags: dict[str, str] = Field({}, description="The table's token language tags -> BCP 47 tags.")

    @property
    def without_transcripts(self) -> str | None:
        """Why the corpus has no transcripts, by its keys; None where it has some."""
        return "its columns.text is null" if self.columns.text is None else super().without_transcripts


class TableReader(RecordedReader):
    """Reads a folder of audio files and its table."""

    section = FolderCorpus
    description = Description(
        title="A folder of audio files and a table",
        layout="""
            my_corpus/
              metadata.tsv      id  path  text, and speaker, split, language, ... if you have them
              clips/0001.flac
              ...
            """,
        example="path: my_corpus, language: qu, columns: {speaker: speaker, split: split}",
    )

    def __init__(self, settings: FolderCorpus, raw: str | Path = ""):
        super().__init__(settings, raw)
        self.columns = settings.columns
        self.source = self.folder / settings.table
        self.drawn_units = "speakers" if self.columns.speaker else "sentences"
        self.split_advice = (
            "name a column of splits (columns.split)",
            "draw sentences instead of speakers (columns.speaker: null)",
        )

    def check(self) -> None:
        """Raise `CorpusError` when the folder, its table or a mapped column is missing."""
        header, _ = self._read(most=0)
        self._check_columns(header)

    def _check_files(self) -> None:
        self.check_folder()
        if not self.source.is_file():
            tables = [path.name for path in self.folder.iterdir() if path.suffix in (".tsv", ".csv")]
            advice = nearest(self.source.name, tables)
            raise CorpusError(f"{self.source}: no such table{advice}; set `table` of the corpus")

    def inputs(self) -> list[str]:
        """The table."""
        return [f"{self.settings.path}/{self.settings.table}"]

    def audio_files(self) -> Iterator[str]:
        """The cells of the audio column."""
        header, rows = self._read()
        if self.columns.audio in header:
            yield from filter(None, (_cell(row, self.columns.audio) for _, row in rows))

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance or reject for each row of the table, except those whose split the study leaves out.

        Raises:
            CorpusError: the folder or its table is missing, a mapped column is not in the table, or a split is not in
                the mapping.
        """
        header, rows = self._read()
        self._check_columns(header)
        malformed = _malformed(header, rows)
        left_out = False  # whether the row before was
        for line, row in rows:
            reason, name = malformed.get(line), self._split_name(row)
            # The cells of a malformed row may stand in other columns. Only a split that exists is taken from them;
            # without one, the row belongs to the split of the row before it.
            known = reason is None or name in self.settings.splits
            split = self.split(name, f"{self.source}, line {line}") if known and name is not None else None
            if known:
                left_out = name is not None and split is None
            if left_out:
                continue
            utterance = self._utterance(row, line, split)
            if reason is None:
                yield utterance
                continue
            # A single cell is the rest of a text and neither an id nor a path.
            identified = _only_cell(row) is None
            yield Reject(
                line=line,
                reason=reason,
                utterance_id=utterance.utterance_id if identified else None,
                audio=utterance.audio if identified else None,
                split=split,
                draw_key=utterance.draw_key,
            )

    def _read(self, most: int | None = None) -> tuple[list[str], list[tuple[int, Row]]]:
        """Column names, and each row, or the first `most`, with the line on which it ends, as an editor shows it."""
        self._check_files()
        separator = "," if self.source.suffix == ".csv" else "\t"
        # Quotes are ordinary characters in a TSV of transcripts; a CSV needs them around commas.
        quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
        try:
            with self.source.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file, delimiter=separator, quoting=quoting, strict=True)
                # A line of spaces counts as blank.
                header, rows = list(table.fieldnames or []), islice(table, most)
                return header, [
                    (table.line_num, row) for row in rows if (only := _only_cell(row)) is None or only.strip()
                ]
        except csv.Error as error:
            raise CorpusError(
                f"{self.source}: not a valid table after line {table.line_num} ({error}); check its quotes"
            ) from None
        except UnicodeDecodeError as error:
            raise CorpusError(f"{self.source}: not UTF-8 text ({error}); convert it, for example with iconv") from None

    def _check_columns(self, header: list[str]) -> None:
        problems = [
            f"columns.{key}: the table has no column {name!r}{nearest(name, header)}"
            for key, name in self.columns.model_dump().items()
            if name is not None and name not in header
        ]
        if problems:
            raise CorpusError("\n".join([f"{self.source}: {len(problems)} mapped column(s) not found", *problems]))

    def _split_name(self, row: Row) -> str | None:
        """The table's name of a row's split; None where it has no column of splits."""
        return (row[self.columns.split] or "").strip() if self.columns.split is not None else None

    def _utterance(self, row: Row, line: int, split: Split | None) -> Utterance:
        columns = self.columns
        audio, text = _cell(row, columns.audio), _cell(row, columns.text)
        tags = (_cell(row, columns.token_languages) or "").split()
        return Utterance(
            line=line,
            utterance_id=_cell(row, columns.utterance_id) if columns.utterance_id else Path(audio or "").stem,
            audio=AudioReference(audio) if audio else None,
            language=_cell(row, columns.language) or self.settings.language,
            text=(text or "") if self.settings.without_transcripts is None else None,
            speaker=_cell(row, columns.speaker),
            split=split,
            tokens=(_cell(row, columns.tokens) or "").split() or None,
            token_languages=[self.settings.token_tags.get(tag, tag) for tag in tags] or None,
            phonemes=_cell(row, columns.phonemes),
        )


def _cell(row: Row, column: str | None) -> str | None:
    """A cell without spaces around it; None where it is empty, or where there is no such column."""
    return ((row[column] or "").strip() or None) if column else None


def _only_cell(row: Row) -> str | None:
    """The cell of a row that has a single one where the table has more columns."""
    cells = [cell for cell in row.values() if cell is not None]
    return cells[0] if len(cells) == 1 < len(row) else None


def _malformed(header: list[str], rows: list[tuple[int, Row]]) -> dict[int, str]:
    """Line number -> reason, for rows with more or fewer cells than columns, and for those with a cell cut short.

    A line break inside a cell makes several rows of one. Where the cell is in the last column, the first of these rows
    has all its cells, and each of the others a single one.
    """
    reasons, before = {}, None
    width = max((place for place, name in enumerate(header, start=1) if name), default=0)  # less a nameless end
    for line, row in rows:
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
