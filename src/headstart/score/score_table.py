"""The rows of a score file as arrays, from which every metric is counted.

`ScoreTable.tokens` is the table's main answer: the tokens of all references one after the other, each with its edit and
the insertions that belong to it. Metrics are sums over some of these tokens; nothing is aligned again.

An insertion belongs to the reference token that it precedes, and after the last token of an utterance, to that one.
This is the rule of PIER (docs/scoring.md). An utterance without reference tokens keeps its insertions to itself: they
are errors, but of no token and no language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.score.alignment import DELETION, HIT, INSERTION, SUBSTITUTION, EditCounts
from headstart.text.tags import NO_LANGUAGE

TOKENISATIONS = ("word", "char", "mixed", "raw")
WITH_LANGUAGES = ("word", "mixed")
LM = "lm"
DECODINGS = ("", LM)  # without and with a language model
Column = Sequence[Any]


def suffix(decoding: str) -> str:
    """What columns and metrics of a decoding have at the end of their names."""
    return f"_{decoding}" if decoding else ""


def alignment_column(tokenisation: str, decoding: str = "") -> str:
    """The column of the score file that has the alignments of a tokenisation and decoding."""
    return f"{tokenisation}_alignment{suffix(decoding)}"


ALIGNMENT_COLUMNS = tuple(alignment_column(name, decoding) for decoding in DECODINGS for name in TOKENISATIONS)
LANGUAGE_COLUMNS = ("word_languages", "mixed_languages")


@dataclass(frozen=True)
class Tokens:
    """The reference tokens of N utterances, T in all, one after the other.

    Attributes:
        utterances: N.
        utterance: number of each token's utterance `[T]`, in ascending order.
        edit: letter of each token's edit `[T]`, as a character code.
        before: insertions before each token `[T]`.
        after: insertions after each token `[T]`; not 0 only for the last token of an utterance.
        alone: insertions in utterances without reference tokens `[N]`.
        language: index of each token's language in `languages` `[T]`, -1 where it is not tagged.
        languages: all tags, sorted.
        neutral: whether each token is of no language `[T]`: not tagged, or with a neutral tag.
    """

    utterances: int
    utterance: NDArray[np.int64]
    edit: NDArray[np.uint8]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    alone: NDArray[np.int64]
    language: NDArray[np.int64]
    languages: list[str]
    neutral: NDArray[np.bool_]

    def is_edit(self, letter: str) -> NDArray[np.bool_]:
        """Which tokens have this edit."""
        return self.edit == ord(letter)

    @cached_property
    def insertions(self) -> NDArray[np.int64]:
        """Insertions that belong to each token `[T]`."""
        return self.before + self.after

    def of_languages(self, languages: Collection[str]) -> NDArray[np.bool_]:
        """Which tokens have one of these tags."""
        return np.isin(self.language, [i for i, name in enumerate(self.languages) if name in languages])

    def total(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The sum of `values` `[T]` over the tokens of each utterance `[N]`."""
        return np.bincount(self.utterance, values, self.utterances).astype(np.int64)

    def counts(self, chosen: NDArray[np.bool_] | None = None, insertions: bool = True) -> EditCounts:
        """Edits of each utterance: of all tokens, or of the chosen ones `[T]`, with or without their insertions."""
        every = chosen is None
        chosen = np.ones(len(self.utterance), bool) if chosen is None else chosen
        hits, substitutions, deletions = (
            self.total(chosen & self.is_edit(letter)) for letter in (HIT, SUBSTITUTION, DELETION)
        )
        inserted = self.total(np.where(chosen, self.insertions, 0)) + (self.alone if every else 0)
        return EditCounts(hits, substitutions, deletions, inserted if insertions else np.zeros_like(hits))

    @cached_property
    def spoken(self) -> NDArray[np.int64]:
        """Indices of the tokens that have a language, in order `[B]`. Neutral tokens are skipped."""
        return np.flatnonzero(~self.neutral)

    @cached_property
    def switches(self) -> NDArray[np.int64]:
        """Places `i` in `spoken` where the language changes between tokens `i` and `i + 1` of one utterance."""
        left, right = self.spoken[:-1], self.spoken[1:]
        changes = (self.utterance[left] == self.utterance[right]) & (self.language[left] != self.language[right])
        return np.flatnonzero(changes)

    @cached_property
    def switch_distance(self) -> NDArray[np.int64]:
        """Distance of each token from the nearest switch of its utterance `[T]`; 0 if there is none, or it is neutral.

        The two tokens beside a switch have distance 1, those beside these 2. Neutral tokens do not count.
        """
        distance = np.zeros(len(self.utterance), np.int64)
        if not len(self.switches):
            return distance
        places, owner = np.arange(len(self.spoken)), self.utterance[self.spoken]
        following = np.searchsorted(self.switches, places)
        nearest = np.full(len(places), len(places) + 1)
        for index, sign in ((following, 1), (following - 1, -1)):
            valid = (index >= 0) & (index < len(self.switches))
            switch = self.switches[np.clip(index, 0, len(self.switches) - 1)]
            valid &= owner[switch] == owner
            gap = switch - places + 1 if sign > 0 else places - switch
            nearest = np.where(valid, np.minimum(nearest, gap), nearest)
        distance[self.spoken] = np.where(nearest <= len(places), nearest, 0)
        return distance


class ScoreTable:
    """Rows of a score file.

    Args:
        columns: by the names of the score file; what is not there counts as null in every row.
        neutral: tags of no language.
        points: languages whose words are the points of interest; by default all but the matrix language.
        decoding: whose alignments are counted: "", or "lm" for that with a language model.

    Raises:
        ValueError: a row has more or fewer language tags than reference tokens.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        neutral: Collection[str] = NO_LANGUAGE,
        points: Collection[str] | None = None,
        decoding: str = "",
    ):
        self.columns, self.neutral, self.decoding = columns, frozenset(neutral), decoding
        self._points = points
        self._tokens: dict[str, Tokens] = {}
        self._decodings = {decoding: self}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Column:
        """A column; null in every row if the table has none of this name."""
        return self.columns.get(name, (None,) * len(self))

    def decoded(self, decoding: str) -> ScoreTable:
        """The same utterances as another decoding has them."""
        if decoding not in self._decodings:
            other = ScoreTable(self.columns, self.neutral, self._points, decoding)
            other._decodings = self._decodings
            self._decodings[decoding] = other
        return self._decodings[decoding]

    def alignments(self, tokenisation: str) -> Column:
        """The alignment of each row, None where it has none. Mixed units are words where they are not stored."""
        stored = self.column(alignment_column(tokenisation, self.decoding))
        if tokenisation != "mixed":
            return stored
        return [word if mixed is None else mixed for mixed, word in zip(stored, self.alignments("word"), strict=True)]

    @property
    def has_mixed(self) -> bool:
        """Whether there are references whose mixed units are not their words. It does not depend on hypotheses."""
        return len(self.tokens("mixed").utterance) > len(self.tokens("word").utterance)

    def tags(self, tokenisation: str) -> Column:
        """The language tags of each row's reference tokens, None where they are not known."""
        if tokenisation not in WITH_LANGUAGES:
            return (None,) * len(self)
        words, units = self.column("word_languages"), self.column("mixed_languages")
        if tokenisation == "word":
            return words
        return [word if unit is None else unit for unit, word in zip(units, words, strict=True)]

    @cached_property
    def all_languages(self) -> list[str]:
        """The tags of the reference words from the most frequent one on, neutral ones among them."""
        tags = Counter(chain.from_iterable(row for row in self.tags("mixed") if row))
        return sorted(tags, key=lambda tag: (-tags[tag], tag))

    @property
    def languages(self) -> list[str]:
        """The same without neutral tags."""
        return [tag for tag in self.all_languages if tag not in self.neutral]

    @property
    def points_of_interest(self) -> frozenset[str]:
        """Languages whose words are the points of interest: all but the matrix language, unless they were given.

        The matrix language is the one with the most reference tokens in the whole table.
        """
        return frozenset(self.languages[1:] if self._points is None else self._points)

    def tokens(self, tokenisation: str) -> Tokens:
        """The reference tokens of all rows that have an alignment."""
        if tokenisation not in self._tokens:
            stored = self.column(alignment_column(tokenisation, self.decoding))
            words = tokenisation == "mixed" and all(row is None for row in stored)
            self._tokens[tokenisation] = self.tokens("word") if words else self._read(tokenisation)
        return self._tokens[tokenisation]

    def _read(self, tokenisation: str) -> Tokens:
        count = len(self)
        alignments = [alignment or "" for alignment in self.alignments(tokenisation)]
        letters = np.frombuffer("".join(alignments).encode("ascii"), np.uint8)
        owner = np.repeat(np.arange(count), [len(alignment) for alignment in alignments])
        inserted = letters == ord(INSERTION)
        utterance, size = owner[~inserted], int((~inserted).sum())
        # Each insertion's number of reference tokens before it is the index of the token that it precedes.
        following, of = np.cumsum(~inserted)[inserted], owner[inserted]
        padded = np.append(utterance, -1)
        precedes = padded[following] == of
        follows = ~precedes & (following > 0) & (padded[following - 1] == of)
        before, after = (
            np.bincount(index, minlength=size)[:size] for index in (following[precedes], following[follows] - 1)
        )
        alone = np.bincount(of[~precedes & ~follows], minlength=count)
        language, names = self._languages(tokenisation, np.bincount(utterance, minlength=count), utterance)
        neutral = np.append([name in self.neutral for name in names], True).astype(bool)[language]
        return Tokens(count, utterance, letters[~inserted], before, after, alone, language, names, neutral)

    def _languages(
        self, tokenisation: str, sizes: NDArray[np.int64], utterance: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[str]]:
        rows = self.tags(tokenisation)
        tagged = np.array([row is not None for row in rows], bool) & (sizes > 0)
        chosen = [row for row, known in zip(rows, tagged.tolist(), strict=True) if known]
        lengths = np.zeros(len(rows), np.int64)
        lengths[tagged] = [len(row) for row in chosen]
        if wrong := np.flatnonzero(tagged & (lengths != sizes)).tolist():
            row = wrong[0]
            raise ValueError(f"row {row + 1} has {lengths[row]} language tags for {sizes[row]} reference tokens")
        flat = list(chain.from_iterable(chosen))
        names = sorted(set(flat))
        numbers = {name: i for i, name in enumerate(names)}
        language = np.full(len(utterance), -1, np.int64)
        language[tagged[utterance]] = [numbers[tag] for tag in flat]
        return language, names
