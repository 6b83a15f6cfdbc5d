"""ArzEn, interviews in Egyptian Arabic and English.

Read directly from the ids of utterances, which hold speaker, recording and times: its wav.scp is of the machine that it
was made on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import regex
from pydantic import Field

from headstart.corpora.reader import AudioReference, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, lines
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

SPLITS = ("train", "dev", "test")
# S04-C03-R04_011631-012393: speaker, recording, begin and end in hundredths of a second
_ID = regex.compile(r"(?P<speaker>[^-]+)-(?P<recording>.+)_(?P<start>\d{1,9})-(?P<end>\d{1,9})")


class ArzenCorpus(RecordedCorpus):
    """ArzEn: interviews with Egyptian students."""

    reader: Literal["arzen"] = Field(description="`arzen`: ArzEn as its authors distribute it.")
    language: str = Field("arz", description="BCP 47 language beside English, which utterances are said to be in.")


class ArzenReader(RootedReader):
    """Reads the one transcript file, and which recordings are of which split."""

    section = ArzenCorpus
    description = Description(
        title="ArzEn, Egyptian Arabic-English interviews",
        layout="""
            ArzEn_SpeechCorpus_1.0/
              ASR_files/text              S04-C03-R04_011631-012393 words in Arabic and Latin script
              recordings/C03-R04.WAV
              splits/train                names of recordings, one a line; without these files, splits are drawn
              splits/dev splits/test
            """,
        example="path: data/raw/ArzEn_SpeechCorpus_1.0",
        source="https://sites.google.com/view/arzen-corpus",
        licence="on request from the authors",
        notes=(
            "An id holds speaker, recording, begin and end. Tokens are tagged by script. Marks of the transcribers, "
            "such as `[HES]`, `(LAUGHTER)` and `//`, stay; `text: {tags: drop}` drops those in brackets.",
        ),
    )
    contents = "ASR_files/text"
    next_line = re.compile(r"S\d+-C\d+-R\d+_")

    def is_root(self, folder: Path) -> bool:
        return (folder / "ASR_files" / "text").is_file()

    def lists(self) -> dict[str, Path]:
        """The lists of recordings, by split."""
        paths = {split: self.root / "splits" / split for split in SPLITS}
        paths = {split: path if path.is_file() else path.with_suffix(".txt") for split, path in paths.items()}
        return {split: path for split, path in paths.items() if path.is_file()}

    def annotations(self) -> list[Path]:
        return [self.root / "ASR_files" / "text", *self.lists().values()]

    def entries(self) -> Iterator[Utterance | Reject]:
        listed = {Path(name.split()[0]).stem: split for split, path in self.lists().items() for _, name in lines(path)}
        used = self.used(self.lists())
        audio = audio_by_stem(self.root / "recordings")
        for number, line in lines(self.root / "ASR_files" / "text"):
            name, *rest = line.split(None, 1)
            found = _ID.fullmatch(name)
            if found is None:
                yield Reject(line=number, reason="no speaker, recording and times in the id", utterance_id=name)
                continue
            recording = found["recording"]
            start_s, end_s = int(found["start"]) / 100, int(found["end"]) / 100
            path = audio.get(recording, self.root / "recordings" / f"{recording}.WAV")
            reference = AudioReference(self.relative(path), start_s, end_s - start_s)
            split: Split | None = None
            if listed:
                theirs = listed.get(recording) or listed.get(name)
                if theirs is None:
                    yield Reject(line=number, reason="in no list of splits/", utterance_id=name, audio=reference)
                    continue
                if (split := used.get(theirs)) is None:
                    continue
            text = rest[0] if rest else ""
            tokens, tags = tokens_by_script(text, (self.settings.language, "en"))
            yield Utterance(
                line=number,
                utterance_id=name,
                audio=reference,
                language=self.settings.language,
                text=text,
                speaker=found["speaker"],
                split=split,
                tokens=tokens or None,
                token_languages=tags or None,
            )
