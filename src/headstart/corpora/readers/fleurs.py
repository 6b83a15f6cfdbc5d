"""FLEURS.

Read directly: lhotse's recipe reads the layout that it makes itself when it downloads, and takes each reading of a
sentence for a speaker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

SPLITS = ("train", "dev", "test")
CELLS = 7  # id of the sentence, file, text as written, text normalised, its characters, number of samples, gender


class FleursCorpus(RecordedCorpus):
    """FLEURS: the same sentences of Wikipedia, read in 102 languages."""

    reader: Literal["fleurs"] = Field(description="`fleurs`: one language of FLEURS.")
    transcript: Literal["written", "normalised"] = Field(
        "written", description="The transcript as it was written, or the corpus's lower-case one without punctuation."
    )


class FleursReader(RootedReader):
    """Reads the tables of one language, which have no header."""

    section = FleursCorpus
    description = Description(
        title="FLEURS, one of 102 languages",
        layout="""
            sw_ke/
              train.tsv dev.tsv test.tsv       1660  10001101.wav  Text.  text  t e x t |  154560  MALE
              audio/train/10001101.wav         the archives audio/train.tar.gz ... are to be unpacked
              audio/dev/ audio/test/
            """,
        example="path: data/raw/fleurs/data/sw_ke, language: sw",
        source="https://huggingface.co/datasets/google/fleurs",
        licence="CC BY 4.0",
        notes=(
            "The number in the first column is that of the sentence, which several people read. The id of an utterance "
            "is the name of its file, and its speaker is unknown.",
            "Audio is found in audio/train/ or train/ beside the tables. The folders that lhotse's download makes "
            "(metadata/sw_ke/train.tsv and sw_ke/train/) are read too. `path` may hold several languages; `language: "
            "sw` then reads sw_ke.",
        ),
    )
    contents = "train.tsv, dev.tsv or test.tsv of FLEURS"

    def is_root(self, folder: Path) -> bool:
        # Other corpora have tables of these names too; those of FLEURS begin with a number and no header.
        return any(_is_table(folder / f"{split}.tsv") for split in SPLITS)

    def is_meant(self, folder: Path) -> bool:
        wanted = self.settings.language.lower().split("-")
        return folder.name.lower().split("_")[: len(wanted)] == wanted

    def tables(self) -> dict[str, Split]:
        """The tables that the study uses, with their splits."""
        return self.used(split for split in SPLITS if (self.root / f"{split}.tsv").is_file())

    def annotations(self) -> list[Path]:
        return [self.root / f"{table}.tsv" for table in self.tables()]

    def entries(self) -> Iterator[Utterance | Reject]:
        for table, split in self.tables().items():
            audio = self._audio(table)
            for number, line in lines(self.root / f"{table}.tsv"):
                cells = [cell.strip() for cell in line.split("\t")]
                if len(cells) != CELLS:
                    yield Reject(line=number, reason=f"{len(cells)} cells in {table}.tsv, not {CELLS}", split=split)
                    continue
                _, name, written, normalised, *_ = cells
                yield Utterance(
                    line=number,
                    utterance_id=Path(name).stem,
                    audio=AudioReference(self.relative(audio / Path(name).name)),
                    language=self.settings.language,
                    text=written if self.settings.transcript == "written" else normalised,
                    split=split,
                )

    def _audio(self, table: str) -> Path:
        """The folder of the audio of a table."""
        places = [self.root / "audio" / table, self.root / table, self.root.parent.parent / self.root.name / table]
        for folder in places:
            if folder.is_dir() and folder.is_relative_to(self.folder):
                return folder
        archive = next(self.root.rglob(f"{table}.tar.gz"), None)
        advice = f'unpack {archive}: tar xzf "{archive}" -C "{archive.parent}"' if archive else "put its audio there"
        raise CorpusError(f"{self.root / 'audio' / table}: no such folder; {advice}")


def _is_table(path: Path) -> bool:
    try:
        _, line = next(lines(path))
    except (StopIteration, CorpusError):
        return False
    number, _, rest = line.partition("\t")
    return number.isdecimal() and rest.count("\t") == CELLS - 2
