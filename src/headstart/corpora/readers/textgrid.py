"""Praat: recordings, each with a TextGrid."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.annotations import AnnotatedReader, TieredCorpus
from headstart.corpora.reader import CorpusError, Description
from headstart.corpora.text_files import read_text
from headstart.corpora.tiers import Label, Tier

# A quoted text, in which "" stands for a quotation mark; a number that stands alone; a comment.
VALUE = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\S)|(?<!\S)(!.*)')


class TextGridCorpus(TieredCorpus):
    """Recordings with Praat TextGrids."""

    reader: Literal["textgrid"] = Field(description="`textgrid`: recordings, each with a TextGrid of Praat.")


class TextGridReader(AnnotatedReader):
    """Reads TextGrids: long and short text files, in UTF-8 or UTF-16."""

    section = TextGridCorpus
    suffixes = (".textgrid",)
    description = Description(
        title="Recordings with Praat TextGrids",
        layout="""
            my_corpus/
              anna/story1.wav
              anna/story1.TextGrid      interval tiers; each interval with text is an utterance
              anna/story2.wav
              anna/story2.TextGrid
              ...
            """,
        example="path: my_corpus, language: quw, tiers: [utterance], speaker_pattern: '^([^/]+)/'",
        source="https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html",
        notes=(
            "With one interval tier that has labels, `tiers` is not needed. With several, the error lists them.",
            "A label has to be an utterance, a sentence or so. Tiers of single words or phones, as forced aligners "
            "write them, make clips of a word each.",
            "A folder of a name in `splits` (`train`, `dev`, `test`, ...) is that split. Recordings elsewhere are "
            "drawn into splits: by speaker where speakers are known, and a recording always as a whole.",
            "Binary TextGrids are refused: save them as text.",
        ),
    )

    def tiers_of(self, path: Path) -> list[Tier]:
        """The interval tiers of a TextGrid. Of tiers with the same name, the second is called NAME-2."""
        text = read_text(path)
        if text.startswith("ooBinaryFile"):
            raise CorpusError(f"{path}: a binary TextGrid; save it as a text file in Praat")
        try:
            return _tiers(_values(text))
        except (ValueError, IndexError) as error:
            raise CorpusError(f"{path}: not a TextGrid, cut short or damaged: {error}") from None


def _values(text: str) -> list[float | str]:
    """The values of a text file of Praat: numbers and quoted texts. All else, such as `xmin =`, is for people."""
    return [
        float(number) if number else string.replace('""', '"')
        for string, number, comment in VALUE.findall(text)
        if not comment
    ]


def _tiers(values: list[float | str]) -> list[Tier]:
    """Tiers from the values of a TextGrid, which are the same in long and short files; `ValueError` if they are not."""
    place = 0

    def take(kind: type, what: str):
        nonlocal place
        if place == len(values):
            raise ValueError(f"it ends where {what} should be")
        value, place = values[place], place + 1
        if not isinstance(value, kind):
            raise ValueError(f"{value!r} stands where {what} should be")
        return value

    form, kind = take(str, "the form of the file"), take(str, "the kind of the object")
    if not form.startswith("ooTextFile") or kind != "TextGrid":
        raise ValueError(f"its first lines say {form!r} and {kind!r}")
    take(float, "the begin"), take(float, "the end")
    names, tiers = Counter(), []
    for _ in range(int(take(float, "the number of tiers"))):
        kind, name = take(str, "the kind of a tier"), take(str, "the name of a tier")
        if kind not in ("IntervalTier", "TextTier"):
            raise ValueError(f"{kind!r} is no kind of tier")
        end = take(float, "the begin of a tier")
        last = take(float, "the end of a tier")
        labels = []
        for _ in range(int(take(float, f"the number of labels of tier {name!r}"))):
            begin = take(float, f"a time of tier {name!r}")
            if begin < end - 0.001:
                raise ValueError(f"tier {name!r} goes back from {end:g} s to {begin:g} s")
            if kind == "IntervalTier":
                end = take(float, f"a time of tier {name!r}")
                labels.append(Label(begin, end, take(str, f"a label of tier {name!r}")))
            else:
                take(str, f"a label of tier {name!r}")
        if labels and end > last + 0.001:
            raise ValueError(f"tier {name!r} goes on to {end:g} s after its end at {last:g} s")
        names[name] += 1
        if kind == "IntervalTier":
            tiers.append(Tier(name if names[name] == 1 else f"{name}-{names[name]}", labels))
    if place < len(values):
        raise ValueError(f"{len(values) - place} values more than its tiers have")
    return tiers
