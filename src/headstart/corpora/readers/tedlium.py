"""TED-LIUM 3, and the earlier releases.

Read directly: lhotse's recipe opens every audio file, reads the legacy distribution only, numbers segments by line, and
does not say which it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import regex
from pydantic import Field

from headstart.corpora.reader import AudioReference, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, folders, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

IGNORED = "ignore_time_segment_in_scoring"
_NO_WORDS = regex.compile(r"<sil>|\(\d+\)|\([^()]*$")  # silences, and numbers of pronunciations
_SUFFIX = regex.compile(r"(?<=\w) (?='(?:s|m|d|t|re|ve|ll)\b)")  # "that 's"
_LABEL = regex.compile(r"^<[^<>]*,[^<>]*> ?")  # "<o,f0,male>"


class TedliumCorpus(RecordedCorpus):
    """TED-LIUM: talks in English."""

    reader: Literal["tedlium"] = Field(description="`tedlium`: TED-LIUM as it is distributed.")
    language: str = Field("en", description="BCP 47 language.")
    distribution: Literal["legacy", "speaker-adaptation"] = Field(
        "legacy", description="Which splits of release 3: those of releases 1 and 2, or those for speaker adaptation."
    )


class TedliumReader(RootedReader):
    """Reads the segments of each talk."""

    section = TedliumCorpus
    description = Description(
        title="TED-LIUM 3, English talks",
        layout="""
            TEDLIUM_release-3/
              legacy/train/stm/AaronHuey_2010X.stm      AaronHuey_2010X 1 AaronHuey_2010X 0.00 15.32 <o,f0,male> text
              legacy/train/sph/AaronHuey_2010X.sph
              legacy/dev/ legacy/test/ speaker-adaptation/ data/
            """,
        example="path: data/raw/TEDLIUM_release-3",
        source="https://www.openslr.org/51",
        licence="CC BY-NC-ND 3.0",
        notes=(
            "Segments that say `ignore_time_segment_in_scoring` have no transcript and are rejected.",
            "Suffixes that stand apart are joined to their words (`that 's` becomes `that's`). Silences (`<sil>`) and "
            "numbers of pronunciations (`the(2)`), which are no words, are removed. `<unk>` and `{NOISE}` stay: "
            "`text: {tags: drop}` drops them.",
            "The speaker is the name before `_`: some people gave several talks.",
            "Releases 1 and 2, whose folders train, dev and test lie at the top, are read too.",
        ),
    )
    contents = "train/stm and train/sph, or legacy with them"
    next_line = re.compile(r"<(?!unk>)|(?<!<unk)>")  # a label such as <o,f0,male>, or half of one

    def is_root(self, folder: Path) -> bool:
        return any((parent / "train" / "stm").is_dir() for parent in (folder / self.settings.distribution, folder))

    def stm(self) -> dict[Path, Split]:
        """The folders of transcripts, with their splits."""
        inner = self.root / self.settings.distribution
        parts = folders(inner if inner.is_dir() else self.root)
        named = {folder.name: folder / "stm" for folder in parts if (folder / "stm").is_dir()}
        return {named[name]: split for name, split in self.used(named).items()}

    def annotations(self) -> list[Path]:
        return [path for folder in self.stm() for path in sorted(folder.glob("*.stm"))]

    def entries(self) -> Iterator[Utterance | Reject]:
        for folder, split in self.stm().items():
            for path in sorted(folder.glob("*.stm")):
                for number, line in lines(path):
                    if not line.startswith(";;"):
                        yield self._segment(line, number, path, split)

    def _segment(self, line: str, number: int, path: Path, split: Split) -> Utterance | Reject:
        cells = line.split(None, 5)
        try:
            recording, start_s, end_s = cells[0], float(cells[3]), float(cells[4])
            name = f"{recording}-{round(100 * start_s):07d}-{round(100 * end_s):07d}"
        except (IndexError, ValueError, OverflowError):  # also of times that are not finite
            return Reject(line=number, reason=f"not a line of STM in {path.name}", split=split)
        audio = AudioReference(
            self.relative(path.parent.with_name("sph") / f"{recording}.sph"), start_s, end_s - start_s
        )
        text = _LABEL.sub("", cells[5] if len(cells) > 5 else "")
        if text == IGNORED:
            return Reject(line=number, reason=f"no transcript: {IGNORED}", utterance_id=name, audio=audio, split=split)
        return Utterance(
            line=number,
            utterance_id=name,
            audio=audio,
            language=self.settings.language,
            text=" ".join(_SUFFIX.sub("", " ".join(_NO_WORDS.sub(" ", text).split())).split()),
            speaker=recording.split("_")[0],
            split=split,
        )
