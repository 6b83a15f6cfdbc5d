"""Corpora of the IARPA Babel program, and those in the same form.

Read directly: lhotse's recipe opens every audio file, reads conversations only, and replaces tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import regex
from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, CorpusFileError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, folders, lines
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Folder, Split

_TIME = regex.compile(r"\[(\d{1,6}(?:\.\d+)?)\]")
_NO_SPEECH = regex.compile(r"(?:<(?:no-speech|breath|click|cough|dtmf|int|laugh|lipsmack|ring|sta)>\s*)+")
STYLES = ("conversational", "scripted")


class BabelCorpus(RecordedCorpus):
    """One language of Babel: telephone speech."""

    reader: Literal["babel"] = Field(description="`babel`: one language of the Babel program.")
    styles: list[Literal["conversational", "scripted"]] = Field(
        ["conversational"], min_length=1, description="Which recordings: conversations, prompted speech, or both."
    )
    romanised: bool = Field(False, description="Whether to read the Latin transcripts (transcript_roman).")
    recordings: Folder | None = Field(
        None,
        description="File with the names of the training recordings to use, one a line, such as Kaldi's "
        "sub-train.list or train.LimitedLP.list; all if null.",
    )
    splits: dict[str, Split | None] = Field(
        {"training": "train", "sub-train": None, "dev": "dev", "eval": "test"},
        description="The corpus's folders -> our splits; null leaves one out.",
    )


class BabelReader(RootedReader):
    """Reads transcripts in which a line of time stands between two stretches."""

    section = BabelCorpus
    description = Description(
        title="Babel, telephone speech in one language",
        layout="""
            IARPA_BABEL_BP_101/
              conversational/training/transcription/BABEL_BP_101_10033_20111024_205740_inLine.txt
                                          [0.000]
                                          <no-speech>
                                          [3.245]
                                          words <hes> words
                                          [4.870]
              conversational/training/audio/BABEL_BP_101_10033_20111024_205740_inLine.sph      or .wav
              conversational/dev/ conversational/eval/ scripted/training/
            """,
        example="path: data/raw/IARPA_BABEL_BP_101, language: yue",
        source="https://catalog.ldc.upenn.edu, for example LDC2016S02",
        licence="of the Linguistic Data Consortium",
        notes=(
            "Stretches of nothing but `<no-speech>` and noises are rejected. Tags beside words, such as `<hes>`, "
            "`<foreign>` and `(())`, stay as transcribed; `text: {tags: drop}` drops those in brackets.",
            "The two sides of a call, inLine and outLine, are two speakers. Most recipes test on `dev`, because `eval` "
            "has no transcripts: `splits: {training: train, dev: test, eval: null}`.",
        ),
    )
    contents = "conversational/ or scripted/"

    def is_root(self, folder: Path) -> bool:
        return any((folder / style / "training").is_dir() or (folder / style / "dev").is_dir() for style in STYLES)

    def transcripts(self) -> dict[Path, Split]:
        """The folders of transcripts, with their splits."""
        kind = "transcript_roman" if self.settings.romanised else "transcription"
        parts = [part for style in self.settings.styles for part in folders(self.root / style)]
        parts = [part for part in parts if (part / kind).is_dir() and any((part / kind).glob("*.txt"))]
        used = self.used(dict.fromkeys(part.name for part in parts))
        return {part / kind: used[part.name] for part in parts if part.name in used}

    def annotations(self) -> list[Path]:
        listed = [Path(self.settings.recordings)] if self.settings.recordings else []
        if listed and not listed[0].is_file():
            raise CorpusFileError(f"{listed[0]}: no such file, which `recordings` names")
        return listed + [path for folder in self.transcripts() for path in sorted(folder.glob("*.txt"))]

    def entries(self) -> Iterator[Utterance | Reject]:
        wanted = (
            {Path(name).stem for _, name in lines(Path(self.settings.recordings))} if self.settings.recordings else None
        )
        if wanted is not None and not wanted:
            raise CorpusError(f"{self.settings.recordings}: names no recording")
        for folder, split in self.transcripts().items():
            audio = audio_by_stem(folder.with_name("audio"))
            for path in sorted(folder.glob("*.txt")):
                if split != "train" or wanted is None or path.stem in wanted:
                    yield from self._recording(path, audio.get(path.stem, path.with_suffix(".sph")), split)

    def _recording(self, path: Path, audio: Path, split: Split) -> Iterator[Utterance | Reject]:
        # BABEL_BP_101_10033_20111024_205740_inLine: language pack, speaker, day, time, side
        parts = path.stem.split("_")
        speaker = f"{parts[3]}_{parts[6]}" if len(parts) > 6 else path.stem
        start_s, words, began = None, [], 0
        for number, line in lines(path):
            time = _TIME.fullmatch(line)
            if not time:
                words.append(line)
                began = began or number
                continue
            end_s = float(time[1])
            if start_s is None and words:
                yield Reject(line=began, reason=f"no time before the first words of {path.name}", split=split)
            elif words:
                yield self._stretch(" ".join(words), began, path.stem, speaker, audio, (start_s, end_s), split)
            start_s, words, began = end_s, [], 0
        if words:
            yield Reject(line=began, reason=f"no time after the last words of {path.name}", split=split)

    def _stretch(
        self, text: str, line: int, recording: str, speaker: str, path: Path, times: tuple[float, float], split: Split
    ) -> Utterance | Reject:
        start_s, end_s = times
        known = {
            "line": line,
            "utterance_id": f"{recording}_{round(100 * start_s):06d}",
            "audio": AudioReference(self.relative(path), start_s, end_s - start_s),
            "split": split,
        }
        if end_s <= start_s:
            return Reject(reason=f"times do not go on: from {start_s:g} s to {end_s:g} s", **known)
        if time := _TIME.search(text):
            return Reject(reason=f"two lines in one: a time among words: {time[0]}", **known)
        if _NO_SPEECH.fullmatch(text):
            return Reject(reason=f"no speech: {text}", **known)
        return Utterance(text=text, language=self.settings.language, speaker=speaker, **known)
