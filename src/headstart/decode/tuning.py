"""Tuning: the language model's weight and the bonus for each token that give the lowest word error rate on dev."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from headstart.decode.beam_search import Engine
from headstart.decode.fusion import Fusion, Hypothesis, Weights
from headstart.score.alignment import align_words, count_edits
from headstart.text.normalisation import normalise_hypothesis

log = logging.getLogger(__name__)

ALPHAS = tuple(round(0.1 * i, 1) for i in range(21))
BETAS = tuple(0.5 * i for i in range(-2, 13))
UNKNOWN = (-10.0, -20.0)
START = tuple(Weights(0.5, 1.0, unknown) for unknown in UNKNOWN)
ROUNDS = 3


class Tuning(NamedTuple):
    """Weights, and the word errors and words of the dev utterances on which they were chosen."""

    weights: Weights
    errors: int
    words: int


class _Candidates:
    """The texts that beam search has found for one utterance, with what their scores follow from."""

    def __init__(self, reference: str):
        self.reference = reference
        self._acoustic: dict[str, float] = {}
        self._errors: dict[str, int] = {}
        self._columns: tuple[np.ndarray, ...] | None = None

    def add(self, found: Sequence[Hypothesis]) -> None:
        """Add texts; of a text that was found before, the better score counts: it has more label paths in it."""
        for one in found:
            self._acoustic[one.text] = max(one.acoustic, self._acoustic.get(one.text, -np.inf))
            if one.text not in self._errors:
                alignment = align_words(self.reference, normalise_hypothesis(one.text))
                self._errors[one.text] = count_edits(alignment).errors
        self._columns = None

    def errors(self, fusion: Fusion, weights: Weights) -> int:
        """Word errors of the best text with these weights."""
        if self._columns is None:
            texts = sorted(self._acoustic)
            self._columns = (
                np.array([self._acoustic[text] for text in texts]),
                *np.array([fusion.parts(text) for text in texts]).T,
                np.array([self._errors[text] for text in texts]),
            )
        acoustic, *parts, errors = self._columns
        return int(errors[np.argmax(acoustic + weights.added(*parts))])


def tune(
    engine: Callable[[Fusion], Engine],
    fusion: Fusion,
    log_probs: Sequence[np.ndarray],
    references: Sequence[str],
) -> Tuning:
    """Choose weights of a grid by the word errors of dev utterances; of equally good ones, those with smaller alpha.

    Beam search lists many texts for each utterance. Which of them is best is computed for all weights from the same
    lists, since weights only shift their scores. The lists depend on the weights of the search, though. Therefore it
    is done with those of `START`, and then with the weights that were chosen, which are chosen anew among all texts
    that have been found, until they stay the same, `ROUNDS` times in all at most.

    Args:
        engine: makes a beam search with the weights of a fusion.
        fusion: the language model; its weights do not matter.
        log_probs: of each utterance; see `headstart.decode.fusion.log_probabilities`.
        references: the normalised text of each, which is not empty.
    """
    candidates = [_Candidates(reference) for reference in references]
    searched, wanted = set(), set(START)
    for _ in range(ROUNDS):
        for weights in sorted(wanted):
            search = engine(fusion.weighted(weights))
            for one, frames in zip(candidates, log_probs, strict=True):
                one.add(search.decode(frames))
        searched |= wanted
        best, weights = _best(candidates, fusion)
        wanted = {weights} - searched
        if not wanted:
            break
    words = sum(len(reference.split()) for reference in references)
    log.info("alpha %g, beta %g, unknown words %g: %d errors in %d words of dev", *weights, best, words)
    return Tuning(weights, best, words)


def _best(candidates: Sequence[_Candidates], fusion: Fusion) -> tuple[int, Weights]:
    """The least errors, and the weights that give them."""

    def order(weights: Weights) -> tuple[float, ...]:
        errors = sum(one.errors(fusion, weights) for one in candidates)
        return errors, weights.alpha, abs(weights.beta), weights.beta, -weights.unknown

    grid = [Weights(*values) for values in product(ALPHAS, BETAS, UNKNOWN)]
    best = min(grid, key=order)
    return int(order(best)[0]), best
