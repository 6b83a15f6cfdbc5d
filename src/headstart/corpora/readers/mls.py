"""Multilingual LibriSpeech.

Read directly: lhotse's recipe opens every audio file, and does not read the limited training sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusFileError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, folders, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

LANGUAGES = {
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
}
PARTS = 6  # of ten minutes in the hour of limited supervision


class MlsCorpus(RecordedCorpus):
    """Multilingual LibriSpeech: read audiobooks in eight languages."""

    reader: Literal["mls"] = Field(description="`mls`: Multilingual LibriSpeech as OpenSLR distributes it.")
    amount: Literal["all", "10min", "1h", "10h"] = Field(
        "all", description="How much of the training split, by the corpus's own lists of limited supervision."
    )
    part: int = Field(0, ge=0, lt=PARTS, description="Which ten minutes of the hour, for `amount: 10min`.")


class MlsReader(RootedReader):
    """Reads the transcripts of each split of one language."""

    section = MlsCorpus
    description = Description(
        title="Multilingual LibriSpeech",
        layout="""
            mls_german/ or mls_german_opus/
              train/transcripts.txt                               4800_10003_000000 <tab> text
              train/audio/4800/10003/4800_10003_000000.flac       or .opus
              train/limited_supervision/9hr/handles.txt           and 1hr/0 to 1hr/5
              dev/ test/
            """,
        example="path: data/raw/mls_german, language: de",
        source="https://www.openslr.org/94",
        licence="CC BY 4.0",
        notes=(
            "`amount: 10min` is one part of the hour of limited supervision, `1h` is the hour, and `10h` the hour and "
            "the nine hours.",
            "Where several languages lie in `path`, the folder of `language` is read. The folders of text for language "
            "models (mls_lm_german) are not read; name such a file in `text`.",
        ),
    )
    contents = "train/transcripts.txt"
    next_line = re.compile(r"\d+_\d+_\d{6}")

    def is_root(self, folder: Path) -> bool:
        return any((folder / split / "transcripts.txt").is_file() for split in ("train", "dev", "test"))

    def is_meant(self, folder: Path) -> bool:
        name = LANGUAGES.get(self.settings.language.split("-")[0].lower(), "")
        return folder.name.startswith(f"mls_{name}") if name else False

    def transcripts(self) -> dict[Path, Split]:
        """The transcript files that the study uses, with their splits."""
        named = {folder.name: path for folder in folders(self.root) if (path := folder / "transcripts.txt").is_file()}
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        return [*self.transcripts(), *self._lists()]

    def entries(self) -> Iterator[Utterance | Reject]:
        wanted = {name for path in self._lists() for _, name in lines(path)} if self.settings.amount != "all" else None
        for transcript, split in self.transcripts().items():
            suffix = next((path.suffix for path in transcript.parent.glob("audio/*/*/*.*")), ".flac")
            for number, line in lines(transcript):
                name, _, text = line.partition("\t")
                if wanted is not None and transcript.parent.name == "train" and name not in wanted:
                    continue
                speaker, book, *_ = (*name.split("_"), "", "")
                audio = transcript.parent / "audio" / speaker / book / f"{name}{suffix}"
                yield Utterance(
                    line=number,
                    utterance_id=name,
                    audio=AudioReference(self.relative(audio)),
                    language=self.settings.language,
                    text=text.strip(),
                    speaker=speaker,
                    split=split,
                )

    def _lists(self) -> list[Path]:
        """The lists of ids that are the training split; none where it is the whole one."""
        lists = self.root / "train" / "limited_supervision"
        hour = [lists / "1hr" / str(part) / "handles.txt" for part in range(PARTS)]
        wanted = {
            "all": [],
            "10min": [hour[self.settings.part]],
            "1h": hour,
            "10h": [*hour, lists / "9hr" / "handles.txt"],
        }[self.settings.amount]
        for path in wanted:
            if not path.is_file():
                raise CorpusFileError(f"{path}: no such list, which `amount: {self.settings.amount}` needs")
        return wanted
