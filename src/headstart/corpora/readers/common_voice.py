"""Common Voice, any release.

Read through the table reader. lhotse's recipe opens every clip, needs columns that older releases lack, and leaves out
files without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import CorpusError, Description, Reject, Utterance
from headstart.corpora.readers.table import Columns, FolderCorpus, TableReader
from headstart.corpora.rooted import RootedReader, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

log = logging.getLogger(__name__)

CLIPS = "clips"
COLUMNS = Columns(audio="path", utterance_id=None, text="sentence", speaker="client_id")
# Tables of clips, the evaluation splits first: a clip, or a speaker, of these is not read again from the others.
OWN = ("test", "dev", "train")  # the release's own splits
TABLES = (*OWN, "validated", "other", "invalidated")


class CommonVoiceCorpus(RecordedCorpus):
    """Common Voice: sentences that volunteers read aloud."""

    reader: Literal["common_voice"] = Field(description="`common_voice`: one language of a release of Common Voice.")
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev": "dev", "test": "test", "validated": None, "other": None, "invalidated": None},
        description="The release's tables, without their suffix -> our splits; null leaves one out.",
    )
    shared_speakers: Literal["reject", "keep"] = Field(
        "reject",
        description="What becomes of training clips of other tables than `train` whose speaker is in the evaluation.",
    )


class CommonVoiceReader(RootedReader):
    """Reads the tables of clips of one language."""

    section = CommonVoiceCorpus
    description = Description(
        title="Common Voice, one language of any release",
        layout="""
            cv-corpus-23.0-2025-09-05/sw/
              train.tsv dev.tsv test.tsv             client_id  path  sentence, and more by release
              validated.tsv other.tsv invalidated.tsv
              clips/common_voice_sw_27727175.mp3
            """,
        example="path: data/raw/cv-corpus-23.0-2025-09-05/sw, language: sw",
        source="https://datacollective.mozillafoundation.org (releases up to 2025: https://commonvoice.mozilla.org)",
        licence="CC0",
        notes=(
            "`path` may be the folder of a release: the folder of `language` is read there.",
            "`other` (not validated) and `invalidated` (voted down) are read only where `splits` says so. `validated` "
            "holds the clips of train, dev and test and many more; `splits: {validated: train, dev: dev, test: test}` "
            "trains on all but those of dev and test.",
            "The speaker is `client_id`. The tables train, dev and test share no speaker, but `validated` and `other` "
            "have more clips of the speakers of dev and test: these clips are rejected, or kept with `shared_speakers: "
            "keep`.",
        ),
    )
    contents = "clips/ and tables such as train.tsv"

    def is_root(self, folder: Path) -> bool:
        return (folder / CLIPS).is_dir() and any((folder / f"{table}.tsv").is_file() for table in TABLES)

    def is_meant(self, folder: Path) -> bool:
        wanted = self.settings.language.lower()
        return folder.name.lower() == wanted or folder.name.lower().split("-")[0] == wanted

    def tables(self) -> dict[str, Split]:
        """The tables that the study names, the evaluation splits first, with their splits."""
        names = [*TABLES, *(name for name in self.settings.splits if name not in TABLES)]
        named = (name for name in names if name in self.settings.splits and (self.root / f"{name}.tsv").is_file())
        used = self.used(named)
        return dict(sorted(used.items(), key=lambda item: item[1] == "train"))

    def annotations(self) -> list[Path]:
        return [self.root / f"{table}.tsv" for table in self.tables()]

    def audio_files(self) -> Iterator[str]:
        """The clips of the tables."""
        for path in self.annotations():
            table = lines(path)
            header = next(table, (0, ""))[1].split("\t")
            if COLUMNS.audio in header:  # `check` says where it is not
                place = header.index(COLUMNS.audio)
                rows = (line.split("\t") for _, line in table)
                yield from (self._clip(cells[place]) for cells in rows if len(cells) > place)

    def entries(self) -> Iterator[Utterance | Reject]:
        tables = self.tables()
        clips: set[str] = set()  # that were read
        speakers: dict[str | None, str] = {}  # of the evaluation -> the table
        rejects = self.settings.shared_speakers == "reject"
        overlap = any(table not in OWN for table in tables)  # with the release's own splits
        for table, split in tables.items():
            for entry in self._entries(table, split):
                name = entry.utterance_id
                if overlap and isinstance(entry, Utterance) and name:
                    if name in clips and table not in OWN:
                        continue  # `validated` repeats them
                    clips.add(name)
                    if split != "train":
                        speakers.setdefault(entry.speaker, table)
                    elif rejects and entry.speaker and entry.speaker in speakers and table not in OWN:
                        yield Reject(
                            line=entry.line,
                            reason=f"speaker of the evaluation: {speakers[entry.speaker]}.tsv has this speaker too",
                            utterance_id=name,
                            audio=entry.audio,
                            split=split,
                        )
                        continue
                yield entry

    def check(self) -> None:
        """Check the columns of the tables, too."""
        self.check_folder()
        if not self.tables():
            there = ", ".join(table for table in TABLES if (self.root / f"{table}.tsv").is_file())
            raise CorpusError(
                f"{self.root}: it has only {there}, as small languages and delta segments do, and `splits` uses none "
                "of them; set `splits: {validated: train}`, and the dev and test splits are drawn from its speakers"
            )
        for path in self.annotations():
            with path.open(encoding="utf-8", errors="replace") as file:
                missing = {COLUMNS.audio, COLUMNS.text, COLUMNS.speaker} - set(file.readline().strip().split("\t"))
            if missing:
                raise CorpusError(
                    f"{path}: no table of clips of Common Voice; it has no column {' and '.join(missing)}"
                )

    def _entries(self, table: str, split: Split) -> Iterator[Utterance | Reject]:
        settings = FolderCorpus(
            reader="folder", path=str(self.root), table=f"{table}.tsv", columns=COLUMNS, language=self.settings.language
        )
        empty = True
        for entry in TableReader(settings).utterances():
            empty = False
            if entry.audio is None:
                yield replace(entry, split=split)
                continue
            path = self._clip(entry.audio.path.removeprefix(f"{CLIPS}/"))  # the table reader finds clips there
            name = path.rpartition("/")[2].rpartition(".")[0]
            yield replace(entry, audio=entry.audio._replace(path=path), utterance_id=name, split=split)
        if empty:
            log.warning("%s: it has no row", self.root / f"{table}.tsv")

    def _clip(self, name: str) -> str:
        """The path of a clip; the tables of the first releases have names without a suffix."""
        return f"{self._clips}/{name if '.' in name else f'{name}.mp3'}"

    @cached_property
    def _clips(self) -> str:
        return self.relative(self.root / CLIPS)
