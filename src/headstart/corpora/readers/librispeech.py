"""LibriSpeech, and Libri-Light's limited splits of it.

Read directly: lhotse's recipe opens every FLAC file, and leaves out files without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, folders, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Positive, Split

TRANSCRIPTS = "*.trans.txt"
EVALUATION: dict[str, Split | None] = {"dev-clean": "dev", "test-clean": "test", "dev-other": None, "test-other": None}
MINI: dict[str, Split | None] = {"train-clean-5": "train", "dev-clean-2": "dev"}
LIMITED = "librispeech_finetuning"
PARTS = 6  # of ten minutes in the hour of Libri-Light


class LibriSpeechCorpus(RecordedCorpus):
    """LibriSpeech: 960 hours of read English."""

    reader: Literal["librispeech"] = Field(description="`librispeech`: LibriSpeech as OpenSLR distributes it.")
    language: str = Field("en", description="BCP 47 language.")
    splits: dict[str, Split | None] = Field(
        {"train-clean-100": "train", "train-clean-360": "train", "train-other-500": "train", **EVALUATION, **MINI},
        description="The corpus's folders -> our splits; null leaves one out.",
    )
    max_seconds: Positive = Field(36.0, description="Longer clips go to the rejects file.")


class LibriSpeechReader(RootedReader):
    """Reads the folders of LibriSpeech, each with transcripts of one chapter of one speaker beside its FLAC files."""

    section = LibriSpeechCorpus
    description = Description(
        title="LibriSpeech, read English",
        layout="""
            LibriSpeech/
              train-clean-100/103/1240/103-1240.trans.txt      103-1240-0000 CHAPTER ONE ...
                                       103-1240-0000.flac
              dev-clean/ test-clean/ ...
            """,
        example="path: data/raw/LibriSpeech, splits: {train-clean-100: train, dev-clean: dev, test-clean: test, "
        "dev-other: null, test-other: null}",
        source="https://www.openslr.org/12",
        licence="CC BY 4.0",
        notes=(
            "Folders that are not there are left out, unless `splits` of the study names them. By default `dev-other` "
            "and `test-other` are left out. Mini LibriSpeech (https://www.openslr.org/31) is read too.",
            "No speaker is in two of its splits.",
        ),
    )
    contents = "folders such as train-clean-100, of a folder a speaker"
    next_line = re.compile(r"\d+-\d+-\d{4}")

    def is_root(self, folder: Path) -> bool:
        return bool(_parts(folder))

    def parts(self) -> dict[Path, Split]:
        """The folders of speakers that the study uses, with their splits."""
        named = _parts(self.root)
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        """The folders of speakers: there are thousands of transcript files, which `audio_files` names."""
        return list(self.parts())

    def audio_files(self) -> Iterable[str]:
        """Transcripts and audio."""
        for part in self.parts():
            for transcript in sorted(part.glob(f"*/*/{TRANSCRIPTS}")):
                yield self.relative(transcript)
                yield from map(self.relative, audio_by_stem(transcript.parent).values())

    def entries(self) -> Iterator[Utterance | Reject]:
        number = 0
        for part, split in self.parts().items():
            for transcript in sorted(part.glob(f"*/*/{TRANSCRIPTS}")):
                for entry in self._chapter(transcript, split, number):
                    number += 1
                    yield entry

    def _chapter(self, transcript: Path, split: Split, number: int) -> Iterator[Utterance | Reject]:
        """The utterances of one transcript file, and its audio files without a transcript."""
        audio = audio_by_stem(transcript.parent)
        for _, line in lines(transcript):
            number += 1
            name, _, text = line.partition(" ")
            path = audio.pop(name, transcript.with_name(f"{name}.flac"))
            yield Utterance(
                line=number,
                utterance_id=name,
                audio=AudioReference(self.relative(path)),
                language=self.settings.language,
                text=text.strip(),
                speaker=name.split("-")[0],
                split=split,
            )
        for name, path in audio.items():
            number += 1
            yield Reject(
                line=number,
                reason=f"no transcript: {transcript.name} does not name it",
                utterance_id=name,
                audio=AudioReference(self.relative(path)),
                split=split,
            )


def _parts(folder: Path) -> dict[str, Path]:
    """The folders in a folder that hold speakers, by name; other folders are not searched."""
    named = [part for part in folders(folder) if part.name.startswith(("train-", "dev-", "test-"))]
    return {part.name: part for part in named if any(part.glob(f"*/*/{TRANSCRIPTS}"))}


class LibriLightCorpus(LibriSpeechCorpus):
    """Libri-Light's limited splits: 10 minutes, 1 hour or 10 hours of LibriSpeech with transcripts."""

    reader: Literal["librilight"] = Field(description="`librilight`: the limited splits of Libri-Light.")
    amount: Literal["10min", "1h", "10h"] = Field("10h", description="How much of them is the training split.")
    part: int = Field(0, ge=0, lt=PARTS, description="Which ten minutes of the hour, for `amount: 10min`.")
    splits: dict[str, Split | None] = Field(
        {**EVALUATION},
        description="Folders of LibriSpeech below `path` -> our splits; null leaves one out.",
    )


class LibriLightReader(LibriSpeechReader):
    """Reads the limited splits, and the dev and test folders of LibriSpeech that lie with them."""

    section = LibriLightCorpus
    description = Description(
        title="Libri-Light's limited splits of LibriSpeech",
        layout="""
            librispeech_finetuning/
              1h/0/clean/103/1240/103-1240.trans.txt      six parts, 0 to 5, of ten minutes
                                  103-1240-0000.flac
              9h/clean/ 9h/other/                         the rest of the ten hours
            LibriSpeech/                                  beside it, for the dev and test splits
              dev-clean/ test-clean/ ...
            """,
        example="path: data/raw, amount: 1h",
        source="https://github.com/facebookresearch/libri-light, data_preparation",
        licence="CC BY 4.0 (LibriSpeech)",
        notes=(
            "`amount: 10min` is one part of the hour, `1h` is the hour, and `10h` the hour and the nine hours.",
            "The archive has no dev and test split. Those of LibriSpeech are used where they lie below `path`; "
            "otherwise `dev_share` and `test_share` of the training speakers are drawn.",
        ),
    )
    contents = LIMITED

    def is_root(self, folder: Path) -> bool:
        return (folder / LIMITED / "1h").is_dir() or (folder.name == LIMITED and (folder / "1h").is_dir())

    def parts(self) -> dict[Path, Split]:
        limited = self.root if self.root.name == LIMITED else self.root / LIMITED
        wanted = {
            "10min": [limited / "1h" / str(self.settings.part)],
            "1h": folders(limited / "1h"),
            "10h": [*folders(limited / "1h"), limited / "9h"],
        }[self.settings.amount]
        parts: dict[Path, Split] = {}
        for folder in wanted:
            found = (
                [half for half in folders(folder) if any(half.glob(f"*/*/{TRANSCRIPTS}"))] if folder.is_dir() else []
            )
            if not found:
                raise CorpusError(f"{folder}: no transcripts, which `amount: {self.settings.amount}` needs")
            parts |= dict.fromkeys(found, "train")
        librispeech = self.root if limited != self.root else self.root.parent
        named = {
            folder.name: folder
            for parent in (librispeech, librispeech / "LibriSpeech")
            if parent.is_relative_to(self.folder)
            for folder in (folders(parent) if parent.is_dir() else [])
            if folder.name in self.settings.splits
        }
        return parts | {named[name]: split for name, split in self.used(named).items()}
