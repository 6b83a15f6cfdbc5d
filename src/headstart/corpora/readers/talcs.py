"""TALCS, lessons in Mandarin and English.

Read directly: lhotse's recipe opens every audio file, replaces letters, and takes each utterance for a speaker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, folders, lines
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split


class TalcsCorpus(RecordedCorpus):
    """TALCS: Mandarin lessons of English."""

    reader: Literal["talcs"] = Field(description="`talcs`: TALCS as TAL distributes it.")
    language: str = Field("zh", description="BCP 47 language.")
    splits: dict[str, Split | None] = Field(
        {"train_set": "train", "dev_set": "dev", "test_set": "test"},
        description="The corpus's folders -> our splits; null leaves one out.",
    )


class TalcsReader(RootedReader):
    """Reads the transcripts of each split."""

    section = TalcsCorpus
    description = Description(
        title="TALCS, Mandarin-English lessons",
        layout="""
            TALCS_corpus/
              train_set/label.txt      210_40223_210_6228_1_1533298404_4812267_555 上面 是 HE IS ALWAYS
              train_set/wav/210_40223_210_6228_1_1533298404_4812267_555.wav      or in folders of wav/
              dev_set/ test_set/
            """,
        example="path: data/raw/TALCS_corpus",
        source="https://ai.100tal.com/dataset",
        licence="of TAL Education Group",
        notes=(
            "Speakers are unknown. Tokens are tagged by script. Full-width Latin letters stay as transcribed; "
            "`text: {map: ...}` replaces them.",
            "Recordings without a transcript are rejected.",
        ),
    )
    contents = "train_set/label.txt"
    next_line = re.compile(r"\d+(_\d+){5}")

    def is_root(self, folder: Path) -> bool:
        return any((folder / part / "label.txt").is_file() for part in ("train_set", "dev_set", "test_set"))

    def parts(self) -> dict[Path, Split]:
        """The folders of splits."""
        named = {folder.name: folder for folder in folders(self.root) if (folder / "label.txt").is_file()}
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        return [part / "label.txt" for part in self.parts()]

    def entries(self) -> Iterator[Utterance | Reject]:
        for part, split in self.parts().items():
            audio = audio_by_stem(part / "wav", deep=True)
            for number, line in lines(part / "label.txt"):
                name, *rest = line.split(None, 1)
                text = rest[0] if rest else ""
                tokens, tags = tokens_by_script(text, ("zh", "en"))
                yield Utterance(
                    line=number,
                    utterance_id=name,
                    audio=AudioReference(self.relative(audio.pop(name, part / "wav" / f"{name}.wav"))),
                    language=self.settings.language,
                    text=text,
                    split=split,
                    tokens=tokens or None,
                    token_languages=tags or None,
                )
            for name, path in audio.items():
                reason = "no transcript: label.txt does not name it"
                reference = AudioReference(self.relative(path))
                yield Reject(line=0, reason=reason, utterance_id=name, audio=reference, split=split)
