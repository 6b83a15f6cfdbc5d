"""SEAME, conversations and interviews in Mandarin and English from South-East Asia.

Read directly; lhotse has no recipe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import regex
from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, CorpusFileError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem, lines
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Folder, Split
from headstart.text.tags import UNDETERMINED

STYLES = ("conversation", "interview")
LANGUAGES = {"CS": "zh", "ZH": "zh", "EN": "en"}
TOLERANCE = 3  # hundredths of a second by which the lists round otherwise
EVALUATION = ("dev_man", "dev_sge")
_PARTICLE = regex.compile(r"\[([^\[\]<>()]+)\]")


class SeameCorpus(RecordedCorpus):
    """SEAME: Mandarin-English code-switching in Singapore and Malaysia."""

    reader: Literal["seame"] = Field(description="`seame`: SEAME as the LDC distributes it.")
    language: str = Field("zh", description="BCP 47 language where a segment is code-switched.")
    phase: Literal["phaseI", "phaseII"] = Field("phaseII", description="Which transcripts; phase II names languages.")
    lists: Folder | None = Field(
        None,
        description="Folder of the published splits (train/wav_file.txt, dev_man/text, dev_sge/text); without it, "
        "splits are drawn.",
    )
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev_man": "test", "dev_sge": None, "other": None},
        description="The published splits -> ours; null leaves one out. `other` is what none of the lists has.",
    )


class SeameReader(RootedReader):
    """Reads the table of segments beside each recording."""

    section = SeameCorpus
    description = Description(
        title="SEAME, Mandarin-English conversations and interviews",
        layout="""
            data/                                                  or seame_d1/data/ and seame_d2/data/ in a folder
              conversation/transcript/phaseII/01NC01FBX_0101.txt     01NC01FBX_0101  17890  19240  CS  然后 then
              conversation/audio/01NC01FBX_0101.flac                 times in ms; CS, ZH or EN
              interview/transcript/phaseII/NI01MAX_0101.txt
              interview/audio/NI01MAX_0101.flac
            """,
        example="path: data/raw/seame, lists: data/raw/SEAME-dev-set",
        source="https://catalog.ldc.upenn.edu/LDC2015S04; the lists: https://github.com/zengzp0912/SEAME-dev-set",
        licence="of the Linguistic Data Consortium",
        notes=(
            "With `lists`, dev_man (mostly Mandarin) is the test split, dev_sge (mostly Singapore English) is left "
            "out, and the dev split is drawn from the training speakers. Segments are matched within 30 ms.",
            "Tokens are tagged by script. Discourse particles, which are words, lose their brackets (`[lah]`, `[啊]`). "
            "Fillers and noises such as `(er)`, `(ppl)` and `<v-noise>` stay, tagged as undetermined, and so are words "
            "of other languages (`#nasi-lemak#`). `text: {tags: drop}` drops those in brackets.",
            "A speaker is the part of the recording's name without its number, place of recording and channel.",
        ),
    )
    contents = "conversation/transcript or interview/transcript"

    def is_root(self, folder: Path) -> bool:
        return bool(_styles(folder))

    def transcripts(self) -> dict[Path, Path]:
        """The tables of segments, each with the folder of its recordings."""
        tables = {}
        for style in _styles(self.root):
            folder, phase = style / "transcript", style / "transcript" / self.settings.phase
            for path in sorted((phase if phase.is_dir() else folder).glob("*.txt")):
                tables[path] = style / "audio"
        return tables

    def annotations(self) -> list[Path]:
        return [*self.transcripts(), *self._lists().values()]

    def entries(self) -> Iterator[Utterance | Reject]:
        used = self.used(["train", *EVALUATION, "other"]) if self.settings.lists else None
        transcripts = self.transcripts()
        audio = {folder: audio_by_stem(folder) for folder in transcripts.values()}
        for path, folder in transcripts.items():
            for number, line in lines(path):
                entry = self._segment(line, number, path, audio[folder], folder)
                if used is None:
                    yield entry
                elif split := used.get(self._listed(entry)):
                    yield replace(entry, split=split)

    def _segment(self, line: str, number: int, path: Path, audio: dict[str, Path], folder: Path) -> Utterance | Reject:
        languages = self.settings.phase == "phaseII"
        cells = line.split("\t", 4 if languages else 3)
        try:
            recording, start_ms, end_ms = cells[0], float(cells[1]), float(cells[2])
            code, text = (cells[3].strip(), cells[4]) if languages else ("CS", cells[3])
            name = f"{recording}-{round(start_ms / 10):06d}-{round(end_ms / 10):06d}"
        except (IndexError, ValueError, OverflowError):  # also of times that are not finite
            return Reject(line=number, reason=f"not a segment with times and text in {path.name}")
        found = audio.get(recording, folder / f"{recording}.flac")
        reference = AudioReference(self.relative(found), start_ms / 1000, (end_ms - start_ms) / 1000)
        if code not in LANGUAGES:
            return Reject(line=number, reason=f"language {code!r} in {path.name}", utterance_id=name, audio=reference)
        text = _PARTICLE.sub(r"\1", text)
        tokens, tags = tokens_by_script(text, ("zh", "en"))
        tags = [UNDETERMINED if token.startswith("#") else tag for token, tag in zip(tokens, tags, strict=True)]
        return Utterance(
            line=number,
            utterance_id=name,
            audio=reference,
            language=self.settings.language if code == "CS" else LANGUAGES[code],
            text=text.strip(),
            speaker=_speaker(recording),
            tokens=tokens or None,
            token_languages=tags or None,
        )

    def _lists(self) -> dict[str, Path]:
        """The files of the published splits, by split."""
        if not self.settings.lists:
            return {}
        folder = Path(self.settings.lists)
        files = {"train": folder / "train" / "wav_file.txt", **{name: folder / name / "text" for name in EVALUATION}}
        for path in files.values():
            if not path.is_file():
                raise CorpusFileError(f"{path}: no such file; set `lists` to the folder of the published splits")
        return files

    @cached_property
    def _published(self) -> tuple[set[str], dict[str, list[tuple[int, int, str]]]]:
        """The training recordings, and the evaluation segments of each recording, sorted."""
        files = self._lists()
        training = {line.split("/")[-2].lower() for _, line in lines(files["train"]) if line.count("/") > 1}
        segments = defaultdict(list)
        for name in EVALUATION:
            for number, line in lines(files[name]):
                parts = line.split()[0].lower().split("-")
                try:
                    recording, start, end = parts[-3], int(parts[-2]), int(parts[-1])
                except (IndexError, ValueError):
                    raise CorpusError(f"{files[name]}, line {number}: no id of a segment of SEAME") from None
                segments[recording].append((start, end, name))
        return training, {recording: sorted(found) for recording, found in segments.items()}

    def _listed(self, entry: Utterance | Reject) -> str:
        """The published split of a segment."""
        training, segments = self._published
        if not entry.utterance_id:
            return "train"
        recording, start, end = entry.utterance_id.lower().rsplit("-", 2)
        found = segments.get(recording, [])
        for begin, stop, name in found[bisect_left(found, (int(start) - TOLERANCE,)) :]:
            if begin >= int(start) + TOLERANCE:
                break
            if abs(stop - int(end)) < TOLERANCE:
                return name
        return "train" if recording in training else "other"


def _styles(folder: Path) -> list[Path]:
    """The folders of conversations and interviews: in `data`, of which each of the corpus's discs has one."""
    parents = [folder, folder / "data", *sorted(folder.glob("seame*/data"))]
    return [parent / name for parent in parents for name in STYLES if (parent / name / "transcript").is_dir()]


def _speaker(recording: str) -> str:
    """The speaker: `NC01FB` of `01NC01FBX_0101`, `NI01MA` of `NI01MAX_0101`."""
    name = recording.split("_")[0]
    return (name[2:] if name[:1].isdigit() else name)[:6].upper()
