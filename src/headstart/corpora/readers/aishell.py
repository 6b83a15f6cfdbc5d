"""AISHELL-1, read Mandarin.

Read directly: lhotse's recipe opens every audio file, replaces letters, and leaves out files without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import regex
from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, folders, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

_BETWEEN_CHARACTERS = regex.compile(r"(?<=\p{Han}) +(?=\p{Han})")


class AishellCorpus(RecordedCorpus):
    """AISHELL-1: read Mandarin."""

    reader: Literal["aishell"] = Field(description="`aishell`: AISHELL-1 as OpenSLR distributes it.")
    language: str = Field("zh", description="BCP 47 language.")


class AishellReader(RootedReader):
    """Reads the one transcript file and the audio of each split, speaker by speaker."""

    section = AishellCorpus
    description = Description(
        title="AISHELL-1, read Mandarin",
        layout="""
            data_aishell/
              transcript/aishell_transcript_v0.8.txt      BAC009S0002W0122 words with spaces between them
              wav/train/S0002/BAC009S0002W0122.wav
              wav/dev/ wav/test/
            """,
        example="path: data/raw/data_aishell",
        source="https://www.openslr.org/33",
        licence="Apache 2.0",
        notes=(
            "The archive holds an archive for each speaker in wav/, which have to be unpacked there.",
            "Some recordings have no transcript; they are rejected. The spaces between Chinese words, which the "
            "transcripts have for a dictionary, are removed. Full-width Latin letters stay; `text: {map: ...}` "
            "replaces them.",
        ),
    )
    contents = "transcript/ and wav/"
    next_line = re.compile(r"BAC009S\d{4}W\d{4}")

    def is_root(self, folder: Path) -> bool:
        return (folder / "wav").is_dir() and any(folder.glob("transcript/aishell_transcript*.txt"))

    def annotations(self) -> list[Path]:
        return sorted(self.root.glob("transcript/aishell_transcript*.txt"))

    def parts(self) -> dict[Path, Split]:
        """The folders of speakers, with their splits."""
        wav = self.root / "wav"
        named = {folder.name: folder for folder in folders(wav) if any(folder.glob("*/*.wav"))}
        if not named and any(wav.glob("*.tar.gz")):
            raise CorpusError(f'{wav}: the archives of the speakers are still packed; unpack them: cd "{wav}" && '
                              "for f in *.tar.gz; do tar xzf $f; done")  # fmt: skip
        return {named[name]: split for name, split in self.used(named).items()}

    def check(self) -> None:
        super().check()
        self.parts()

    def entries(self) -> Iterator[Utterance | Reject]:
        texts = {}
        for path in self.annotations():
            for number, line in lines(path):
                name, _, text = line.partition(" ")
                texts[name] = number, _BETWEEN_CHARACTERS.sub("", text.strip())
        for part, split in self.parts().items():
            for speaker in folders(part):
                for name, path in audio_by_stem(speaker).items():
                    audio = AudioReference(self.relative(path))
                    if name not in texts:
                        reason = "no transcript: the transcript file does not name it"
                        yield Reject(line=0, reason=reason, utterance_id=name, audio=audio, split=split)
                        continue
                    number, text = texts[name]
                    yield Utterance(
                        line=number,
                        utterance_id=name,
                        audio=audio,
                        language=self.settings.language,
                        text=text,
                        speaker=speaker.name,
                        split=split,
                    )
