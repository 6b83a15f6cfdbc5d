"""VoxPopuli, transcribed speeches of the European Parliament.

Read directly: lhotse's recipe downloads the annotations itself, and opens every recording.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, audio_by_stem
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.corpora import RecordedCorpus

SPLITS = ("train", "dev", "test")
TEXTS = {"normalised": ("normalized_text", "normed_text"), "written": ("raw_text", "original_text")}


class VoxPopuliCorpus(RecordedCorpus):
    """VoxPopuli: speeches in the European Parliament."""

    reader: Literal["voxpopuli"] = Field(description="`voxpopuli`: one language of VoxPopuli's transcribed speech.")
    transcript: Literal["written", "normalised"] = Field(
        "normalised", description="The corpus's normalised transcript, or the one as written, which some rows lack."
    )


class VoxPopuliReader(RootedReader):
    """Reads the table of each split with clips, or the one table with stretches of whole sessions."""

    section = VoxPopuliCorpus
    description = Description(
        title="VoxPopuli, transcribed speeches in one language",
        layout="""
            transcribed_data/de/
              asr_train.tsv asr_dev.tsv asr_test.tsv   id  raw_text  normalized_text  speaker_id  split, and more
              2013/20130114-0900-PLENARY-1-de_20130114-17:12:30_0.ogg
            or, without cutting the sessions:
              asr_de.tsv.gz                      session_id|id_|start_time|end_time|normed_text|speaker_id|split ...
              de/2013/20130114-0900-PLENARY-1_de.ogg
            """,
        example="path: data/raw/voxpopuli/transcribed_data/de, language: de",
        source="https://github.com/facebookresearch/voxpopuli",
        licence="CC0, with the European Parliament's legal notice",
        notes=(
            "The first form is what the project's `get_asr_data` writes and, with other folders of audio, what the "
            "Hugging Face hub has once its archives are unpacked. The second is the annotation that is downloaded, "
            "with the recordings of raw_audios.",
        ),
    )
    contents = "asr_train.tsv, or asr_LANGUAGE.tsv(.gz)"

    def is_root(self, folder: Path) -> bool:
        return any(folder.glob("asr_*.tsv")) or any(folder.glob("asr_*.tsv.gz"))

    def is_meant(self, folder: Path) -> bool:
        return folder.name.lower() == self.settings.language.lower().split("-")[0]

    def annotations(self) -> list[Path]:
        """The tables of the splits that the study uses, or the table of all splits."""
        if tables := {split: path for split in SPLITS if (path := self.root / f"asr_{split}.tsv").is_file()}:
            return [tables[split] for split in self.used(tables)]
        names = [f"asr_{self.settings.language.lower().split('-')[0]}.tsv{suffix}" for suffix in ("", ".gz")]
        whole = [path for name in names if (path := self.root / name).is_file()]
        if not whole:
            raise CorpusError(f"{self.root}: no table asr_train.tsv and no {names[0]}; does `language` fit the corpus?")
        return whole[:1]

    @cached_property
    def audio(self) -> dict[str, Path]:
        """The audio files by name."""
        return audio_by_stem(self.root, deep=True)

    def entries(self) -> Iterator[Utterance | Reject]:
        for path in self.annotations():
            for line, row in _rows(path):
                yield from self._entry(row, line, path)

    def _entry(self, row: dict[str, str], line: int, path: Path) -> Iterator[Utterance | Reject]:
        theirs = row.get("split")
        if theirs in ("", "None"):
            return  # without a split, there is no checked transcript
        if theirs not in SPLITS:
            name = row.get("id") or row.get("id_")
            yield Reject(line=line, reason=f"split {theirs!r} is none of VoxPopuli's", utterance_id=name)
            return
        if (split := self.split(theirs, f"{path}, line {line}")) is None:
            return
        text = next((row[key] for key in TEXTS[self.settings.transcript] if row.get(key) is not None), None)
        if text is None:
            yield Reject(line=line, reason="fewer cells than columns", utterance_id=row.get("id"), split=split)
            return
        session = row.get("session_id")
        try:
            audio = self._stretch(row) if session else self._clip(row["id"])
        except (KeyError, ValueError, TypeError):
            yield Reject(
                line=line, reason=f"no times, or no id, in {path.name}", utterance_id=row.get("id_"), split=split
            )
            return
        yield Utterance(
            line=line,
            utterance_id=f"{session}-{row['id_']}" if session else row["id"],
            audio=audio,
            language=self.settings.language,
            text=text.strip(),
            speaker=speaker if (speaker := row.get("speaker_id") or "") not in ("", "None") else None,
            split=split,
        )

    def _clip(self, name: str) -> AudioReference:
        return AudioReference(self.relative(self.audio.get(name, self.root / name[:4] / f"{name}.ogg")))

    def _stretch(self, row: dict[str, str]) -> AudioReference:
        session, language = row["session_id"], self.settings.language.lower().split("-")[0]
        names = (session, f"{session}_{language}", f"{session}_original")
        path = next((self.audio[name] for name in names if name in self.audio), self.root / f"{session}.ogg")
        start_s, end_s = float(row["start_time"]), float(row["end_time"])
        return AudioReference(self.relative(path), start_s, end_s - start_s)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with tabs, or with vertical bars, with the line on which each ends."""
    text = read_text(path)
    says_its_end(path, text)
    file = io.StringIO(text, newline="")
    bars = "|" in file.readline()
    file.seek(0)
    # Quotes are ordinary characters where tabs separate.
    quoting = csv.QUOTE_MINIMAL if bars else csv.QUOTE_NONE
    table = csv.DictReader(file, delimiter="|" if bars else "\t", quoting=quoting)
    if "split" not in (table.fieldnames or []):
        raise CorpusError(f"{path}: no column split; its first line is {(table.fieldnames or [])[:8]}")
    try:
        for row in table:
            yield table.line_num, row
    except csv.Error as error:
        raise CorpusError(f"{path}: not a valid table after line {table.line_num} ({error})") from None
