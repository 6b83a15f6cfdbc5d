"""Killkan, a radio drama in Kichwa with Spanish.

Read through the conllu library, or pympi where there are only the ELAN files that the treebank was made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import regex
from pydantic import Field

from headstart.audio.suffixes import AUDIO
from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.readers.elan import opened
from headstart.corpora.rooted import RootedReader
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.corpora import RecordedCorpus
from headstart.text.tags import NO_SPEECH, SEVERAL, UNDETERMINED

ELAN = "Chapter*/Chapter*.eaf"
TAGS = {"KC": "qu", "ES": "es", "MIXED": SEVERAL, "LANG3": UNDETERMINED, "OTHER": NO_SPEECH}

_CODE = regex.compile(r"(?<!\w)CSID=(\w+)")


class Sentence(NamedTuple):
    """A sentence as the annotations have it."""

    name: str  # chapter and place in it
    text: str
    start_ms: str
    end_ms: str
    words: list[tuple[str, str]]  # with the corpus's code of its language


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
              Chapter1/Chapter1.eaf          read where there is no treebank
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
    contents = "a treebank (.conllu), or folders with ELAN files such as Chapter1/Chapter1.eaf"

    def is_root(self, folder: Path) -> bool:
        return any(folder.glob("*.conllu")) or any(folder.glob(ELAN))

    def annotations(self) -> list[Path]:
        """The treebank, or the ELAN file of each chapter where there is no treebank."""
        return sorted(self.root.glob("*.conllu")) or sorted(self.root.glob(ELAN), key=_chapter)

    def entries(self) -> Iterator[Utterance | Reject]:
        number = 0
        for path in self.annotations():
            for sentence in _treebank(path) if path.suffix == ".conllu" else _elan(path):
                number += 1
                yield (
                    Reject(line=number, reason=sentence)
                    if isinstance(sentence, str)
                    else self._utterance(sentence, number)
                )
        if not number:
            raise CorpusError(f"{self.root}: its annotations have no sentence")

    def _utterance(self, sentence: Sentence, number: int) -> Utterance | Reject:
        chapter, _, place = sentence.name.partition("_")
        try:
            audio = self._audio(chapter, int(place), int(sentence.start_ms), int(sentence.end_ms))
        except ValueError:
            return Reject(line=number, reason="no chapter and times", utterance_id=sentence.name or None)
        return Utterance(
            line=number,
            utterance_id=sentence.name,
            audio=audio,
            language=self.settings.language,
            text=sentence.text.strip(),
            speaker=f"chapter{chapter}",
            tokens=[word.strip() for word, _ in sentence.words] or None,
            token_languages=[TAGS.get(code, UNDETERMINED) for _, code in sentence.words] or None,
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


def _treebank(path: Path) -> Iterator[Sentence | str]:
    """The sentences of a treebank, or why one cannot be read: a damaged one costs only itself."""
    import conllu
    from conllu.exceptions import ParseException

    text = read_text(path)
    says_its_end(path, text)
    for block in text.replace("\r\n", "\n").split("\n\n"):
        if not block.strip():
            continue
        try:
            parsed = conllu.parse(block + "\n\n")
        except (ParseException, ValueError) as error:  # ValueError: a number of thousands of digits
            yield f"not CoNLL-U: {error}"
            continue
        for sentence in parsed:
            if not all(isinstance(token.get("form"), str) and token.get("id") for token in sentence):
                yield "not CoNLL-U: a word without an id or a form"
                continue
            numbers = [token["id"] for token in sentence if isinstance(token["id"], int)]
            if numbers != list(range(1, len(numbers) + 1)):  # two sentences, say, between which a line was lost
                yield f"damaged: words are not numbered from 1 to {len(numbers)}"
                continue
            facts = {key: value or "" for key, value in sentence.metadata.items()}
            text = facts.get("sent") or facts.get("text") or ""
            times = facts.get("start", ""), facts.get("end", "")
            yield Sentence(facts.get("sent_id", ""), text, *times, list(_surface(sentence)))


def _surface(sentence: Any) -> Iterator[tuple[str, str]]:
    """The words of a treebank's sentence as they are written, each with the corpus's code of its language."""
    covered = 0  # the last of the syntactic words that a written word holds
    for token in sentence:
        place = token["id"]
        if isinstance(place, tuple) and place[1] == "-":
            covered = place[2]
        elif isinstance(place, tuple) or place <= covered:
            continue  # an empty node, or a part of a written word
        yield token["form"], (token.get("misc") or {}).get("CSID") or ""


def _elan(path: Path) -> Iterator[Sentence]:
    """The sentences of a chapter's ELAN file. Words without a code are Kichwa, as in the authors' own conversion."""
    file = opened(path)
    missing = [tier for tier in ("default", "FORM", "MISC") if tier not in file.tiers]
    if missing:
        raise CorpusError(f"{path}: no tier {' and '.join(missing)}, which Killkan's chapters have")
    words: dict[str, dict[str, str]] = {}  # sentence -> word -> form
    for name, (sentence, form, *_) in file.tiers["FORM"][1].items():
        words.setdefault(sentence, {})[name] = form or ""
    codes = {word: _CODE.search(facts or "") for word, facts, *_ in file.tiers["MISC"][1].values()}
    for place, (name, (start, end, text, _)) in enumerate(file.tiers["default"][0].items()):
        tagged = [(form, code[1] if (code := codes.get(word)) else "KC") for word, form in words.get(name, {}).items()]
        times = (str(file.timeslots.get(slot)) for slot in (start, end))
        yield Sentence(f"{_chapter(path)}_{place}", text or "", *times, tagged)


def _chapter(path: Path) -> int:
    number = path.stem.removeprefix("Chapter")
    return int(number) if number.isdecimal() and len(number) < 5 else 0
