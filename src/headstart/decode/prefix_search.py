"""Our own prefix beam search, for systems for which there is no wheel of `ctc_beam_decoder`.

It keeps, merges and drops the same prefixes as pyctcdecode does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import nlargest
from operator import itemgetter

import numpy as np

from headstart.decode.arpa import State
from headstart.decode.fusion import LEAST_BEAM, LEAST_LABEL, LONG_PREFIX, Fusion, Hypothesis
from headstart.text.normalisation import WORD_BOUNDARY


class PythonEngine:
    """Prefix beam search in Python.

    Args:
        labels: see `search_labels`.
        fusion: the language model and its weights.
        beam: prefixes that are kept at each frame.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fusion: Fusion,
        beam: int,
        least_label: float = LEAST_LABEL,
        least_beam: float = LEAST_BEAM,
    ):
        self.labels, self.fusion, self.beam = list(labels), fusion, beam
        self.least_label, self.least_beam = least_label, least_beam
        self.boundary = self.labels.index(WORD_BOUNDARY)
        self._prefixes = {word[:end] for word in fusion.model.vocabulary for end in range(1, len(word) + 1)}

    def decode(self, log_probs_TV: np.ndarray) -> list[Hypothesis]:
        """The texts of the last beams, the best first; at least one.

        Args:
            log_probs_TV: see `log_probabilities`.
        """
        root = _Prefix(self, "", "", self.fusion.model.start, 0.0)
        beams: dict[tuple[_Prefix, int], float] = {(root, 0): 0.0}  # by prefix and the last frame's label
        for row in log_probs_TV.tolist():
            best = max(row)
            labels = [(label, p) for label, p in enumerate(row) if p >= self.least_label or p == best]
            # By prefix and label as well; or, where a label extends a prefix, by that prefix and ~label. Most of these
            # are dropped at once, so that only those that are kept become objects.
            grown: dict[tuple[_Prefix, int], float] = {}
            for (prefix, last), score in beams.items():
                children = prefix.children
                for label, p in labels:
                    if label in (0, last):
                        key = prefix, label
                    elif (child := children.get(label)) is not None:
                        key = child, label
                    else:
                        key = prefix, ~label
                    total = score + p
                    grown[key] = total if (other := grown.get(key)) is None else log_add(other, total)
            beams = self._pruned(grown)
        acoustic: dict[str, float] = {}
        for (prefix, _), score in beams.items():
            text = prefix.finished().strip()
            acoustic[text] = score if text not in acoustic else log_add(acoustic[text], score)
        return self.fusion.ranked(acoustic)

    def _pruned(self, grown: dict[tuple[_Prefix, int], float]) -> dict[tuple[_Prefix, int], float]:
        """The best of the prefixes that a frame gives, those that are extended as prefixes of their own."""
        whole = [
            (score + (key[0].score if key[1] >= 0 else key[0].extended_score(~key[1])), key, score)
            for key, score in grown.items()
        ]
        least = max(whole, key=itemgetter(0))[0] + self.least_beam
        kept = [entry for entry in whole if entry[0] >= least]
        if len(kept) > self.beam:
            kept = nlargest(self.beam, kept, key=itemgetter(0))
        beams: dict[tuple[_Prefix, int], float] = {}
        for _, (prefix, label), score in kept:
            key = (prefix, label) if label >= 0 else (prefix.extended(~label), ~label)
            beams[key] = score if (other := beams.get(key)) is None else log_add(other, score)
        return beams

    def unknown_prefix(self, part: str) -> float:
        """What an unfinished word costs: something where no known word begins so."""
        if part in self._prefixes or not part:
            return 0.0
        return self.fusion.weights.unknown * max(1.0, len(part) / LONG_PREFIX)


class _Prefix:
    """The beginning of a text: finished tokens, and the one that is not finished. Compared by identity.

    Attributes:
        text: the finished tokens as text.
        part: the token that is not finished, `""` if there is none.
        score: what the language model adds.
        children: the prefix with one more character or word boundary, by label, as far as it has been made.
    """

    __slots__ = ("_completed", "_engine", "_finished", "_state", "children", "part", "score", "text")

    def __init__(self, engine: PythonEngine, text: str, part: str, state: State, finished: float):
        self._engine, self.text, self.part, self._state = engine, text, part, state
        self._finished = finished  # what the finished tokens add
        self._completed: tuple[State, float] | None = None
        self.score = finished + engine.unknown_prefix(part)
        # No boundary at the beginning, and no two in sequence.
        self.children: dict[int, _Prefix] = {engine.boundary: self} if part in ("", WORD_BOUNDARY) else {}

    def extended(self, label: int) -> _Prefix:
        """The prefix with one more character or word boundary; always the same object for the same text."""
        if label not in self.children:
            part, (state, finished) = self._extension(label)
            text = self.finished() if self._completes(label) else self.text
            self.children[label] = _Prefix(self._engine, text, part, state, finished)
        return self.children[label]

    def extended_score(self, label: int) -> float:
        """`extended(label).score`, for which the prefix is not made."""
        part, (_, finished) = self._extension(label)
        return finished + self._engine.unknown_prefix(part)

    def _completes(self, label: int) -> bool:
        """Whether a label completes the unfinished token."""
        return self._engine.fusion.characters or label == self._engine.boundary

    def _extension(self, label: int) -> tuple[str, tuple[State, float]]:
        """The token that is not finished after one more label, and the state and score of those that are."""
        character = self._engine.labels[label]
        if not self._completes(label):
            return self.part + character, (self._state, self._finished)
        return character if self._engine.fusion.characters else "", self._complete()

    def _complete(self) -> tuple[State, float]:
        """State and score once the unfinished token is finished."""
        if not self.part:
            return self._state, self._finished
        if self._completed is None:
            log10, state = self._engine.fusion.model.score(self._state, self.part)
            self._completed = state, self._finished + self._engine.fusion.token(log10, self.part)
        return self._completed

    def finished(self) -> str:
        """The text with the unfinished token."""
        if self._engine.fusion.characters:
            return self.text + (" " if self.part == WORD_BOUNDARY else self.part)
        return f"{self.text} {self.part}".strip()


def log_add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))
