"""Alignments of a hypothesis with its reference, as text with one letter for each edit.

The letters are `H` (hit), `S` (substitution), `D` (deletion) and `I` (insertion), in the order of the reference. A hit
and a substitution take one token of each side, a deletion one of the reference and an insertion one of the hypothesis,
so that the letters say which tokens stand side by side; `steps` spells that out. Alignments are those of rapidfuzz,
which jiwer uses as well, so that counts and alignments are jiwer's. It is imported only where something is aligned:
what reads alignments does without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

HIT, SUBSTITUTION, DELETION, INSERTION = "HSDI"
LETTERS = {"replace": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}  # by rapidfuzz's names


class EditCounts(NamedTuple):
    """Numbers of edits: those of one utterance, or arrays of those of many."""

    hits: int | np.ndarray
    substitutions: int | np.ndarray
    deletions: int | np.ndarray
    insertions: int | np.ndarray

    @property
    def errors(self) -> int | np.ndarray:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int | np.ndarray:
        """Tokens of the reference."""
        return self.hits + self.substitutions + self.deletions


class Step(NamedTuple):
    """One edit, with the indices of the tokens that it takes; None on the side of which it takes none."""

    edit: str
    reference: int | None
    hypothesis: int | None


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> str:
    """Alignment of two lists of tokens, or of the characters of two strings, with the fewest errors."""
    from rapidfuzz.distance import Levenshtein

    if not isinstance(reference, str):  # tokens become characters, which are compared faster
        characters = {token: chr(i) for i, token in enumerate(dict.fromkeys(chain(reference, hypothesis)))}
        reference, hypothesis = ("".join(map(characters.__getitem__, side)) for side in (reference, hypothesis))
    letters, done = [], 0
    for kind, at, _ in Levenshtein.editops(reference, hypothesis).as_list():
        letters.append(HIT * (at - done) + LETTERS[kind])
        done = at + (kind != "insert")
    return "".join(letters) + HIT * (len(reference) - done)


def align_words(reference: str, hypothesis: str) -> str:
    """Alignment of the words of two texts, which are what spaces separate."""
    return align(reference.split(), hypothesis.split())


def align_chars(reference: str, hypothesis: str) -> str:
    """Alignment of the characters of two texts, single spaces between words included."""
    return align(" ".join(reference.split()), " ".join(hypothesis.split()))


def count_edits(alignment: str) -> EditCounts:
    """How many edits of each kind an alignment has."""
    return EditCounts(*(alignment.count(letter) for letter in (HIT, SUBSTITUTION, DELETION, INSERTION)))


def steps(alignment: str) -> Iterator[Step]:
    """The edits of an alignment, each with the indices of its tokens."""
    reference = hypothesis = 0
    for edit in alignment:
        takes_reference, takes_hypothesis = edit != INSERTION, edit != DELETION
        yield Step(edit, reference if takes_reference else None, hypothesis if takes_hypothesis else None)
        reference += takes_reference
        hypothesis += takes_hypothesis
