"""MUCS 2021, subtask 2: lectures in Hindi or Bengali with English.

Read through the reader of Kaldi data directories; lhotse's reads no file names relative to another folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import Description, Reject, Utterance
from headstart.corpora.readers.kaldi import KaldiCorpus, KaldiReader
from headstart.corpora.rooted import RootedReader, audio_by_stem, folders
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split


class MucsCorpus(RecordedCorpus):
    """MUCS 2021: Hindi-English or Bengali-English lectures."""

    reader: Literal["mucs"] = Field(description="`mucs`: Hindi-English or Bengali-English of MUCS 2021.")
    language: Literal["hi", "bn"] = Field(
        description="BCP 47 language beside English, which utterances are said to be in."
    )


class MucsReader(RootedReader):
    """Reads the Kaldi data directory of each split."""

    section = MucsCorpus
    description = Description(
        title="MUCS 2021, Hindi-English or Bengali-English lectures",
        layout="""
            mucs/                             or another folder of yours
              train/transcripts/wav.scp       072Wvm62KcQqRBNa 072Wvm62KcQqRBNa.wav
              train/transcripts/segments      utterance, recording, begin and end in seconds
              train/transcripts/text          utterance and words in Devanagari (or Bengali) and Latin
              train/transcripts/utt2spk
              train/072Wvm62KcQqRBNa.wav      (in another folder of train/, too)
              test/
            """,
        example="path: data/raw/mucs, language: hi",
        source="https://www.openslr.org/104",
        licence="CC BY-SA 4.0",
        notes=(
            "The archives of both languages hold the same folders, train and test: unpack each language apart.",
            "The names in wav.scp have no folder; recordings are found below the split by their names.",
            "Segments that end before they begin, or that lie outside their recording, are rejected.",
            "There is no dev split; it is drawn from the training speakers. Tokens are tagged by script.",
        ),
    )
    contents = "train/transcripts/wav.scp"

    def is_root(self, folder: Path) -> bool:
        return any((folder / split / "transcripts" / "wav.scp").is_file() for split in ("train", "test"))

    def is_meant(self, folder: Path) -> bool:
        names = {"hi": ("hindi", "hi-en"), "bn": ("bengali", "bn-en")}[self.settings.language]
        return folder.name.lower().startswith(names)

    def parts(self) -> dict[Path, Split]:
        """The folders of splits."""
        named = {part.name: part for part in folders(self.root) if (part / "transcripts" / "wav.scp").is_file()}
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        return [path for part in self.parts() for path in self._kaldi(part).annotations()]

    def _kaldi(self, part: Path) -> KaldiReader:
        path = str(part / "transcripts")
        return KaldiReader(KaldiCorpus(reader="kaldi", path=path, language=self.settings.language))

    def entries(self) -> Iterator[Utterance | Reject]:
        for part, split in self.parts().items():
            audio = audio_by_stem(part, deep=True)
            for entry in self._kaldi(part).utterances():
                if entry.audio is not None:
                    name = Path(entry.audio.path).name
                    found = audio.get(Path(name).stem, part / name)
                    entry = replace(entry, audio=entry.audio._replace(path=self.relative(found)))
                if isinstance(entry, Utterance) and entry.text:
                    tokens, tags = tokens_by_script(entry.text, (self.settings.language, "en"))
                    entry = replace(entry, tokens=tokens, token_languages=tags)
                yield replace(entry, split=split)
