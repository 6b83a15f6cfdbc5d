"""Tuning: the language model's weight and the bonus for each token that give the lowest word error rate on dev."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from headstart.decode.beam_search import Engine
from headstart.decode.fusion import TO_NATURAL, Fusion, Hypothesis, Weights, tokens
from headstart.score.alignment import align_words, count_edits

log = logging.getLogger(__name__)

ALPHAS = tuple(round(0.1 * i, 1) for i in range(21))
BETAS = tuple(0.25 * i for i in range(-4, 13))
START = Weights(0.5, 0.5)
ROUNDS = 3


class Tuning(NamedTuple):
    """Weights, and the word errors and words of the dev utterances on which they were chosen."""

    weights: Weights
    errors: int
    words: int


class _Candidates:
    """The texts that beam search has found for one utterance, with what their scores follow from."""

    def __init__(self, reference: str, language: str):
        self.reference, self.language = reference, language
        self._acoustic: dict[str, float] = {}
        self._errors: dict[str, int] = {}
        self._columns: tuple[np.ndarray, ...] | None = None

    def add(self, found: Sequence[Hypothesis], normalise: Callable[[str, str], str]) -> None:
        """Add texts; of a text that was found before, the better score counts: it has more label paths in it."""
        for one in found:
            self._acoustic[one.text] = max(one.acoustic, self._acoustic.get(one.text, -np.inf))
            if one.text not in self._errors:
                counts = count_edits(align_words(self.reference, normalise(one.text, self.language)))
                self._errors[one.text] = int(counts.errors)
        self._columns = None

    def errors(self, fusion: Fusion, weights: Weights) -> int:
        """Word errors of the best text with these weights."""
        if self._columns is None:
            texts = sorted(self._acoustic)
            self._columns = (
                np.array([self._acoustic[text] for text in texts]),
                np.array([fusion.sentence(text) for text in texts]) * TO_NATURAL,
                np.array([len(tokens(text, fusion.characters)) for text in texts]),
                np.array([self._errors[text] for text in texts]),
            )
        acoustic, language, lengths, errors = self._columns
        return int(errors[np.argmax(acoustic + weights.alpha * language + weights.beta * lengths)])


def tune(
    engine: Callable[[Fusion], Engine],
    fusion: Fusion,
    log_probs: Sequence[np.ndarray],
    references: Sequence[tuple[str, str]],
    normalise: Callable[[str, str], str],
) -> Tuning:
    """Choose weights of a grid by the word errors of dev utterances; of equally good ones, those with smaller alpha.

    Beam search lists many texts for each utterance. Which of them is best is computed for all weights from the same
    lists, since weights only shift their scores. As lists depend on the weights of the search, it is done again with
    the weights that were chosen, and the choice among all texts that have been found, until the weights stay the same,
    `ROUNDS` times at most.

    Args:
        engine: makes a beam search with the weights of a fusion.
        fusion: the language model; its weights do not matter.
        log_probs: of each utterance; see `headstart.decode.fusion.log_probabilities`.
        references: the normalised text of each, which is not empty, and its language.
        normalise: what is done to hypotheses, given their language, before their errors are counted.
    """
    candidates = [_Candidates(*reference) for reference in references]
    weights, best = START, 0
    for _ in range(ROUNDS):
        search = engine(fusion.weighted(weights))
        for one, frames in zip(candidates, log_probs, strict=True):
            one.add(search.decode(frames), normalise)
        before = weights
        best, weights = _best(candidates, fusion)
        if weights == before:
            break
    words = sum(len(reference.split()) for reference, _ in references)
    log.info("alpha %g, beta %g: %d errors in %d words of dev", *weights, best, words)
    return Tuning(weights, best, words)


def _best(candidates: Sequence[_Candidates], fusion: Fusion) -> tuple[int, Weights]:
    """The least errors, and the weights that give them."""
    found = []
    for weights in map(Weights._make, product(ALPHAS, BETAS)):
        errors = sum(one.errors(fusion, weights) for one in candidates)
        found.append((errors, weights.alpha, abs(weights.beta), weights.beta))
    errors, alpha, _, beta = min(found)
    return errors, Weights(alpha, beta)
