"""CS-FLEURS, code-switched sentences in pairs of languages.

Read directly; lhotse has no recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import regex
from pydantic import Field, field_validator

from headstart.corpora.language_codes import bcp47
from headstart.corpora.reader import AudioReference, CorpusError, Description, Reject, Utterance
from headstart.corpora.rooted import RootedReader, lines
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split
from headstart.text.scripts import shared_script

PARTS = ("read/test", "xtts/train", "xtts/test1", "xtts/test2", "mms/test")
_MARKED = regex.compile(r"\*\*(.*?)\*\*|((?:(?!\*\*).)+)", flags=regex.DOTALL)
_EMPTY = regex.compile(r"\*\*")


class CsFleursCorpus(RecordedCorpus):
    """CS-FLEURS: read and synthetic code-switched speech."""

    reader: Literal["cs_fleurs"] = Field(description="`cs_fleurs`: a pair of languages of CS-FLEURS.")
    pair: str = Field(description="The pair as the corpus writes it, such as `hin-eng`.")
    language: str = Field("", description="BCP 47 language of the utterances; the first of the pair if empty.")
    splits: dict[str, Split | None] = Field(
        {"xtts/train": "train", "read/test": "test", "xtts/test1": None, "xtts/test2": None, "mms/test": None},
        description="The corpus's folders -> our splits; null leaves one out.",
    )

    @field_validator("pair")
    @classmethod
    def _two_codes(cls, pair: str) -> str:
        if not regex.fullmatch(r"[a-z]{2,3}-[a-z]{2,3}", pair):
            raise ValueError("should be two codes of languages, such as hin-eng")
        return pair


class CsFleursReader(RootedReader):
    """Reads the metadata of each part, and of it the utterances of one pair."""

    section = CsFleursCorpus
    description = Description(
        title="CS-FLEURS, code-switched sentences in 113 pairs of languages",
        layout="""
            cs-fleurs/
              read/test/metadata.jsonl        {"id", "file_name", "text", "language": "hin-eng", "speaker", ...}
              read/test/audio/hin/hin_1759_CC.wav
              xtts/train/ xtts/test1/ xtts/test2/ mms/test/
            """,
        example="path: data/raw/cs-fleurs, pair: hin-eng",
        source="https://huggingface.co/datasets/byan/cs-fleurs",
        licence="CC BY-NC 4.0",
        notes=(
            "Only read/test is speech of people; the other parts are synthetic. By default, xtts/train is the training "
            "split and read/test the test split.",
            "Where the text marks the second language (`**English**`), the marks are removed and the tokens are tagged "
            "by them; otherwise they are tagged by script where the scripts of the two languages differ.",
        ),
    )
    contents = "folders such as read/test with metadata.jsonl"

    def is_root(self, folder: Path) -> bool:
        return any((folder / part / "metadata.jsonl").is_file() for part in PARTS)

    def parts(self) -> dict[Path, Split]:
        """The folders that the study uses, with their splits."""
        found = [part for part in PARTS if (self.root / part / "metadata.jsonl").is_file()]
        return {self.root / name: split for name, split in self.used(found).items()}

    def annotations(self) -> list[Path]:
        return [part / "metadata.jsonl" for part in self.parts()]

    def entries(self) -> Iterator[Utterance | Reject]:
        pairs, any_read = set(), False
        for part, split in self.parts().items():
            for number, line in lines(part / "metadata.jsonl"):
                try:
                    row = json.loads(line)
                    pair, name = row["language"], row["file_name"]
                except (ValueError, KeyError, TypeError) as error:
                    yield Reject(line=number, reason=f"not a row of metadata: {error}", split=split)
                    continue
                pairs.add(pair)
                if pair == self.settings.pair:
                    any_read = True
                    yield self._utterance(row, number, part, str(name), split)
        if not any_read:
            raise CorpusError(
                f"{self.root}: no utterance of {self.settings.pair}; there are {', '.join(sorted(pairs))}"
            )

    def _utterance(self, row: dict[str, Any], number: int, part: Path, name: str, split: Split) -> Utterance:
        first, second = (bcp47(code) for code in self.settings.pair.split("-"))
        text, tokens, tags = _tagged(str(row.get("text") or ""), first, second)
        return Utterance(
            line=number,
            # Ids are those of sentences in some parts; file names are not shared.
            utterance_id=str(part.relative_to(self.root) / Path(name).with_suffix("")).replace("/audio/", "/"),
            audio=AudioReference(self.relative(part / name)),
            language=self.settings.language or first,
            text=text,
            speaker=str(row["speaker"]) if row.get("speaker") else None,
            split=split,
            tokens=tokens or None,
            token_languages=tags or None,
        )


def _tagged(text: str, first: str, second: str) -> tuple[str, list[str], list[str]]:
    """The text without marks, with its tokens and their languages where marks or scripts tell them."""
    tokens: list[str] = []
    tags: list[str] = []
    plain = " ".join(_EMPTY.sub("", text).split())
    if "**" in text:
        for marked, unmarked in _MARKED.findall(text):
            words = (marked or unmarked).split()
            tokens += words
            tags += [second if marked else first] * len(words)
    elif shared_script((first, second)) is None:
        tokens, tags = tokens_by_script(plain, (first, second))
    return plain, tokens, tags
