"""The table reader: a folder of audio files with a TSV or CSV table, one row an utterance."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.columns import Columns, Places, places
from headstart.corpora.dialects import SUFFIXES, Row, malformed_rows, only_cell, read_rows
from headstart.corpora.paths import utterance_id
from headstart.corpora.reader import (
    AudioReference,
    CorpusError,
    CorpusFileError,
    Description,
    RecordedReader,
    Reject,
    Utterance,
)
from headstart.study.corpora import RecordedCorpus
from headstart.study.explain import nearest
from headstart.study.fields import Folder, Split

AUDIO_FOLDERS = ("clips", "audio", "wavs", "wav")  # where a table may mean its files to be
SIDES = {"a": 0, "left": 0, "l": 0, "b": 1, "right": 1, "r": 1}  # names of channels


class FolderCorpus(RecordedCorpus):
    """Recorded speech: a folder with audio files and a TSV or CSV table."""

    reader: Literal["folder"] = Field(description="`folder`: audio files and a table.")
    table: Folder = Field(
        "metadata.tsv",
        description="The table in it, with separators of any kind; metadata.csv and .jsonl are found too.",
    )
    columns: Columns = Field(Columns(), description="Mapping from our fields to the table's columns.")
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev": "dev", "test": "test"},
        description="The table's split names -> ours; null leaves a split out.",
    )
    token_tags: dict[str, str] = Field({}, description="The table's token language tags -> BCP 47 tags.")
    times: Literal["s", "ms"] = Field("s", description="Unit of start, end and duration, where they are plain numbers.")

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
        notes=(
            "`columns` says which column holds what. A table with the column names of Hugging Face (`file_name`, "
            "`transcription`) or Common Voice (`path`, `sentence`) needs none for audio, text and ids. Speakers and "
            "splits are only read from columns that are named.",
            "Separators may be tabs, commas, semicolons or `|`, and the encoding UTF-8, or UTF-16 as spreadsheets "
            "write it; a table in JSON lines (metadata.jsonl) is read too. Spreadsheets themselves (.xlsx, .ods) are "
            "refused: save them as CSV. Rows with more or fewer cells than columns, as a line break inside a cell "
            "makes them, are rejected.",
            "Columns `start` and `end` (or `duration`), in seconds or as h:mm:ss, make an utterance a stretch of a "
            "long recording, and a column named by `columns.channel` one channel of it.",
            "Without a column of ids, the id is the path of the audio without its suffix, with the times of a stretch.",
            "Audio is looked for in `path`, in the folder of the table, and in its `clips`, `audio`, `wavs` or `wav`.",
        ),
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
        self._places(header)

    def inputs(self) -> list[str]:
        """The table."""
        return [str(self.table)]

    @cached_property
    def table(self) -> Path:
        """The table: as the study names it, or with another case or, by default, another suffix of a table."""
        if self.source.is_file() or not self.source.parent.is_dir():
            return self.source
        stems = [self.source.name.lower()]
        if self.settings.table == FolderCorpus.model_fields["table"].default:
            stems += [self.source.stem + suffix for suffix in SUFFIXES]
        found = [path for path in sorted(self.source.parent.iterdir()) if path.name.lower() in stems and path.is_file()]
        return found[0] if len(found) == 1 else self.source

    def audio_files(self) -> Iterator[str]:
        """The cells of the audio column."""
        header, rows = self._read()
        try:
            own = self._places(header)
        except CorpusError:
            return
        within = self._audio_folder(rows, own)
        for _, row in rows:
            if audio := _cell(row, own.audio):
                yield os.path.join(within, audio)

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance or reject for each row of the table, except those whose split the study leaves out.

        Raises:
            CorpusError: the folder or its table is missing, a mapped column is not in the table, a split is not in
                the mapping, or channels are counted from 1.
        """
        header, rows = self._read()
        own = self._places(header)
        self._check_channels(rows, own)
        within = self._audio_folder(rows, own)
        malformed = malformed_rows(header, rows)
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
            utterance, problem = self._utterance(row, line, split, own, within)
            reason = reason or problem
            if reason is None:
                yield utterance
                continue
            # A single cell is the rest of a text and neither an id nor a path.
            identified = only_cell(row) is None
            yield Reject(
                line=line,
                reason=reason,
                utterance_id=utterance.utterance_id if identified else None,
                audio=utterance.audio if identified else None,
                split=split,
                draw_key=utterance.draw_key,
            )

    def _read(self, most: int | None = None) -> tuple[list[str], list[tuple[int, Row]]]:
        self.check_folder()
        if not self.table.is_file():
            tables = [path.name for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES]
            advice = nearest(self.source.name, tables)
            raise CorpusFileError(f"{self.source}: no such table{advice}; set `table` of the corpus")
        return read_rows(self.table, most)

    def _places(self, header: list[str]) -> Places:
        return places(self.columns, header, str(self.source), self.settings.without_transcripts is None)

    def _audio_folder(self, rows: list[tuple[int, Row]], own: Places) -> str:
        """Where the audio of the table lies, relative to the folder, judged by the first row with an audio file."""
        first = next((audio for _, row in rows if (audio := _cell(row, own.audio))), "")
        beside = os.path.dirname(self.settings.table)
        for within in ("", beside, *(os.path.join(beside, name) for name in AUDIO_FOLDERS)):
            if first and os.path.lexists(os.path.join(self.folder, within, first.replace("\\", "/"))):
                return within
        return ""

    def _check_channels(self, rows: list[tuple[int, Row]], own: Places) -> None:
        """Refuse channels that are counted from 1: the first would be taken for the second."""
        counted = {int(cell) for _, row in rows if (cell := _cell(row, own.channel)) and cell.isdecimal()}
        if counted and 0 not in counted and max(counted) > 1:
            raise CorpusError(
                f"{self.source}: columns.channel {own.channel!r} seems to count channels from 1 to {max(counted)}. "
                "Count them from 0, or write A and B, or left and right"
            )

    def _split_name(self, row: Row) -> str | None:
        """The table's name of a row's split; None where it has no column of splits."""
        return (row[self.columns.split] or "").strip() if self.columns.split is not None else None

    def _utterance(
        self, row: Row, line: int, split: Split | None, own: Places, within: str
    ) -> tuple[Utterance, str | None]:
        """The utterance of a row, and why it cannot be used, as far as the table shows."""
        audio, text, reason = _cell(row, own.audio), _cell(row, own.text), None
        tags = (_cell(row, own.token_languages) or "").split()
        reference = AudioReference(os.path.join(within, audio)) if audio else None
        name = utterance_id(audio) if audio else ""
        if reference is not None:
            try:
                reference = self._stretch(reference, row, own)
            except ValueError as error:
                reason = str(error)
            else:
                if own.start and _cell(row, own.start):
                    end = None if reference.duration_s is None else reference.offset_s + reference.duration_s
                    name = utterance_id(audio, reference.offset_s, end)
                if reference.channel is not None:
                    name += f"-{reference.channel}"
        utterance = Utterance(
            line=line,
            utterance_id=_cell(row, own.utterance_id) if own.utterance_id else name,
            audio=reference,
            language=_cell(row, own.language) or self.settings.language,
            text=(text or "") if own.text else None,
            speaker=_cell(row, own.speaker),
            split=split,
            tokens=(_cell(row, own.tokens) or "").split() or None,
            token_languages=[self.settings.token_tags.get(tag, tag) for tag in tags] or None,
            phonemes=_cell(row, own.phonemes),
        )
        return utterance, reason

    def _stretch(self, audio: AudioReference, row: Row, own: Places) -> AudioReference:
        """The stretch and channel of a recording that a row names; raises `ValueError`, with the reason, for none."""
        channel = _cell(row, own.channel)
        if channel is not None:
            number = int(channel) if channel.isdecimal() else SIDES.get(channel.lower())
            if number is None:
                raise ValueError(f"malformed channel: {channel!r} is no number from 0, A or B, left or right")
            audio = audio._replace(channel=number)
        start, end, duration = (self._seconds(row, name) for name in (own.start, own.end, own.duration))
        if start is None and end is None:
            return audio
        if start is None or (end is None and duration is None and (own.end or own.duration)):
            raise ValueError(f"malformed times: {own.start} is {start}, {own.end or own.duration} is {end}")
        if end is not None:
            duration = end - start
        if duration is not None and not duration > 0:
            raise ValueError(f"malformed times: begins at {start:g} s and ends at {start + duration:g} s")
        return audio._replace(offset_s=start, duration_s=duration)

    def _seconds(self, row: Row, column: str | None) -> float | None:
        """A cell with a time, in seconds; raises `ValueError`, with the reason, where it is none."""
        cell = _cell(row, column)
        if cell is None:
            return None
        match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(-?\d+(?:[.,]\d*)?)", cell)
        if not match:
            raise ValueError(f"malformed times: {column} {cell!r} is neither a number nor h:mm:ss")
        hours, minutes, seconds = match.groups()
        value = float(seconds.replace(",", "."))
        if minutes is not None:
            value += 3600 * int(hours or 0) + 60 * int(minutes)
        elif self.settings.times == "ms":
            value /= 1000
        return value if math.isfinite(value) else None


def _cell(row: Row, column: str | None) -> str | None:
    """A cell without spaces around it; None where it is empty, or where there is no such column."""
    return ((row[column] or "").strip() or None) if column else None
