"""Our own prefix beam search, for systems for which there is no wheel of `ctc_beam_decoder`.

It keeps, merges and drops the same prefixes as pyctcdecode does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import nlargest

import numpy as np

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
        self._prefixes = {word[:end] for word in fusion.model.vocabulary for end in range(1, len(word) + 1)}

    def decode(self, log_probs_TV: np.ndarray) -> list[Hypothesis]:
        """The texts of the last beams, the best first; at least one.

        Args:
            log_probs_TV: see `log_probabilities`.
        """
        root = _Prefix(self, "", "", self.fusion.model.start, 0.0)
        beams: dict[tuple[_Prefix, int], float] = {(root, -1): 0.0}  # by prefix and the last frame's label
        for row in log_probs_TV.tolist():
            best = max(row)
            labels = [(label, p) for label, p in enumerate(row) if p >= self.least_label or p == best]
            grown: dict[tuple[_Prefix, int], float] = {}
            for label, p in labels:
                for (prefix, last), score in beams.items():
                    key = prefix if label in (0, last) else prefix.extended(label), label
                    score += p
                    grown[key] = score if (other := grown.get(key)) is None else log_add(other, score)
            beams = self._pruned(grown)
        acoustic: dict[str, float] = {}
        for (prefix, _), score in beams.items():
            text = prefix.finished().strip()
            acoustic[text] = score if text not in acoustic else log_add(acoustic[text], score)
        return self.fusion.ranked(acoustic)

    def _pruned(self, beams: dict[tuple[_Prefix, int], float]) -> dict[tuple[_Prefix, int], float]:
        whole = [(score + key[0].score, key, score) for key, score in beams.items()]
        least = max(total for total, _, _ in whole) + self.least_beam
        kept = [entry for entry in whole if entry[0] >= least]
        if len(kept) > self.beam:
            kept = nlargest(self.beam, kept, key=lambda entry: entry[0])
        return {key: score for _, key, score in kept}

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
    """

    __slots__ = ("_engine", "_extended", "_finished", "part", "score", "state", "text")

    def __init__(self, engine: PythonEngine, text: str, part: str, state: tuple[str, ...], finished: float):
        self._engine, self.text, self.part, self.state = engine, text, part, state
        self._finished = finished  # what the finished tokens add
        self.score = finished + engine.unknown_prefix(part)
        self._extended: dict[int, _Prefix] = {}

    def extended(self, label: int) -> _Prefix:
        """The prefix with one more character or word boundary; always the same object for the same text."""
        if label not in self._extended:
            self._extended[label] = self._extend(self._engine.labels[label])
        return self._extended[label]

    def _extend(self, character: str) -> _Prefix:
        engine, boundary = self._engine, character == WORD_BOUNDARY
        if engine.fusion.characters:
            if boundary and self.part in ("", WORD_BOUNDARY):  # none at the beginning, and no two in sequence
                return self
            return _Prefix(engine, self.finished(), character, *self._complete())
        if not boundary:
            return _Prefix(engine, self.text, self.part + character, self.state, self._finished)
        return _Prefix(engine, self.finished(), "", *self._complete()) if self.part else self

    def _complete(self) -> tuple[tuple[str, ...], float]:
        """State and score once the unfinished token is finished."""
        if not self.part:
            return self.state, self._finished
        log10, state = self._engine.fusion.model.score(self.state, self.part)
        return state, self._finished + self._engine.fusion.token(log10, self.part)

    def finished(self) -> str:
        """The text with the unfinished token."""
        if self._engine.fusion.characters:
            return self.text + (" " if self.part == WORD_BOUNDARY else self.part)
        return f"{self.text} {self.part}".strip()


def log_add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))
