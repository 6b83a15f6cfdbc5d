"""Alignments of a hypothesis with its reference, as text with one letter for each edit.

The letters are `H` (hit), `S` (substitution), `D` (deletion) and `I` (insertion), in the order of the reference. A hit
and a substitution take one token of each side, a deletion one of the reference and an insertion one of the hypothesis,
so that the letters say which tokens stand side by side; `steps` spells that out. Alignments are jiwer's, which is
imported only where something is aligned: what reads alignments does without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

HIT, SUBSTITUTION, DELETION, INSERTION = "HSDI"
LETTERS = {"equal": HIT, "substitute": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}  # by jiwer's names


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


def align_words(reference: str, hypothesis: str) -> str:
    """Alignment of the words of two normalised texts, which are what spaces separate."""
    import jiwer

    return _letters(jiwer.process_words(reference, hypothesis).alignments[0])


def align_characters(reference: str, hypothesis: str) -> str:
    """Alignment of the characters of two normalised texts, spaces included."""
    import jiwer

    return _letters(jiwer.process_characters(reference, hypothesis).alignments[0])


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


def _letters(chunks: list[Any]) -> str:
    """The letters of jiwer's chunks, each of which is a stretch of equal edits."""
    return "".join(
        LETTERS[chunk.type] * (chunk.ref_end_idx - chunk.ref_start_idx or chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
    )
