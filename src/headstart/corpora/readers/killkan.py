"""Killkan, a radio drama in Kichwa with Spanish.

Read through the conllu library. The annotations are in ELAN too; the CoNLL-U file has the same and is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import AUDIO, RootedReader
from headstart.corpora.text_files import read_text
from headstart.study.corpora import RecordedCorpus
from headstart.text.tags import NO_SPEECH, SEVERAL, UNDETERMINED

TAGS = {"KC": "qu", "ES": "es", "MIXED": SEVERAL, "LANG3": UNDETERMINED, "OTHER": NO_SPEECH}


class KillkanCorpus(RecordedCorpus):
    """Killkan: Kichwa with tagged Spanish words."""

    reader: Literal["killkan"] = Field(description="`killkan`: Killkan as its authors distribute it.")
    language: str = Field("qu", description="BCP 47 language of the utterances.")


class KillkanReader(RootedReader):
    """Reads the sentences of the treebank, which have times in the recording of their chapter."""

    section = KillkanCorpus
    description = Description(
        title="Killkan, Kichwa radio drama with Spanish words",
        layout="""
            killkan/
              kc_killkan-ud-test.conllu      # sent_id = 1_0, # sent = ..., # start = 3100, # end = 6450
                                             1 Ari ari INTJ _ _ 5 discourse _ CSID=KC|Lang=qu|SpaceAfter=No
              Chapter1/01 MASTER K1.mp4      or any other audio format, one file a chapter
              Chapter1/1/01 MASTER K11.mp4   or a file for each sentence, counted from 1
            """,
        example="path: data/raw/killkan",
        source="https://github.com/ctaguchi/killkan",
        licence="CC BY 4.0",
        notes=(
            "Tokens carry the corpus's own tags: Kichwa (qu), Spanish (es), both in one word (mul), another language "
            "(und), and punctuation (zxx).",
            "The actors are not named; `speaker` is the chapter, so that splits are drawn by chapter. Stretches of a "
            "chapter's recording are used where it is there, and the files of single sentences otherwise.",
        ),
    )
    contents = "a treebank (.conllu) and folders Chapter1 to Chapter20"

    def is_root(self, folder: Path) -> bool:
        return any(folder.glob("*.conllu"))

    def annotations(self) -> list[Path]:
        return sorted(self.root.glob("*.conllu"))

    def entries(self) -> Iterator[Utterance | Reject]:
        import conllu
        from conllu.exceptions import ParseException

        number = 0
        for path in self.annotations():
            # One sentence after the other, so that a damaged one costs itself.
            for block in read_text(path).replace("\r\n", "\n").split("\n\n"):
                if not block.strip():
                    continue
                number += 1
                try:
                    sentences = conllu.parse(block + "\n\n")
                except (ParseException, ValueError) as error:  # ValueError: a number of thousands of digits
                    yield Reject(line=number, reason=f"not CoNLL-U: {error}")
                    continue
                for sentence in sentences:
                    yield self._sentence(sentence, number)
        if not number:
            raise CorpusError(f"{self.root}: its treebank has no sentence")

    def _sentence(self, sentence: Any, number: int) -> Utterance | Reject:
        facts = sentence.metadata
        name, text = facts.get("sent_id"), facts.get("sent") or facts.get("text") or ""
        chapter, _, place = (name or "").partition("_")
        try:
            audio = self._audio(chapter, int(place), int(facts["start"]), int(facts["end"]))
        except (KeyError, ValueError):
            return Reject(line=number, reason="no chapter and times in the comments", utterance_id=name)
        if not all(isinstance(token.get("form"), str) and token.get("id") for token in sentence):
            return Reject(line=number, reason="a word without an id or a form", utterance_id=name, audio=audio)
        words = list(_surface(sentence))
        return Utterance(
            line=number,
            utterance_id=name,
            audio=audio,
            language=self.settings.language,
            text=text.strip(),
            speaker=f"chapter{chapter}",
            tokens=[word for word, _ in words] or None,
            token_languages=[tag for _, tag in words] or None,
        )

    def _audio(self, chapter: str, place: int, start_ms: int, end_ms: int) -> AudioReference:
        folder = self.root / f"Chapter{int(chapter)}"
        if found := _recording(folder):
            return AudioReference(self.relative(found), start_ms / 1000, (end_ms - start_ms) / 1000)
        found = _recording(folder / str(place + 1)) or folder / f"{chapter} MASTER K{chapter}.mp4"
        return AudioReference(self.relative(found))


def _recording(folder: Path) -> Path | None:
    """The first audio file of a folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((path for path in files if path.suffix.lower() in AUDIO), None)


def _surface(sentence: Any) -> Iterator[tuple[str, str]]:
    """The words as they are written, each with the BCP 47 tag of its language."""
    covered = 0  # the last of the syntactic words that a written word holds
    for token in sentence:
        place = token["id"]
        if isinstance(place, tuple) and place[1] == "-":
            covered = place[2]
        elif isinstance(place, tuple) or place <= covered:
            continue  # an empty node, or a part of a written word
        code = (token.get("misc") or {}).get("CSID")
        yield token["form"].strip(), TAGS.get(code or "", UNDETERMINED)
