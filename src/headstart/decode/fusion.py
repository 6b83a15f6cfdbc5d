"""The score of a text in beam search: what the network gives, and what a language model adds.

It is `ln P_ctc(text) + alpha * ln P_lm(text) + beta * tokens` (Graves and Jaitly 2014). `P_ctc` is summed over all
label paths of the text that the search has kept. The tokens are words, or with a character model characters and word
boundaries. A token that the language model does not know has the probability of `<unk>`, lowered further by
`Weights.unknown`, since it takes a share of what `<unk>` stands for only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from headstart.decode.arpa import Arpa
from headstart.text.normalisation import BLANK, UNKNOWN, WORD_BOUNDARY

LONG_PREFIX = 6  # characters; beyond, the cost of an unknown prefix grows in proportion
# Natural logs: in a frame, less probable labels are not followed, but for the best one; and prefixes so much worse than
# the best one are dropped. pyctcdecode's -5 and -10 are for networks that have learnt from much speech. With them, a
# run on 5 minutes of transcripts had a word error rate of 57 % where it has 46 % with these.
LEAST_LABEL, LEAST_BEAM = -10.0, -20.0
LEAST_PROBABILITY = 1e-15  # of a label in a frame, so that no path is impossible
TO_NATURAL = math.log(10.0)
Values = float | np.ndarray


def tokens(text: str, characters: bool) -> list[str]:
    """The tokens of a normalised text: its words, or its characters with `|` between words."""
    return list(text.replace(" ", WORD_BOUNDARY)) if characters else text.split()


class Weights(NamedTuple):
    """How much the language model counts beside the network.

    Attributes:
        alpha: factor of the language model's log-probability.
        beta: bonus for each token, in natural log.
        unknown: added to log10 of the probability of a token that the language model does not know. While a search is
            inside such a word, it adds as much to the natural log of the score.
    """

    alpha: float
    beta: float
    unknown: float = -10.0

    def added(self, log10: Values, tokens: Values, unknown: Values) -> Values:
        """What a language model adds to the score of a text.

        Args:
            log10: of the text's probability, with `<unk>` for unknown tokens.
            tokens: their number.
            unknown: the number of unknown ones.
        """
        return self.alpha * TO_NATURAL * (log10 + self.unknown * unknown) + self.beta * tokens


class Hypothesis(NamedTuple):
    """A text with its score, and the part of the score that is the network's; both are natural logarithms."""

    text: str
    score: float
    acoustic: float


def search_labels(vocabulary: dict[str, int]) -> list[str]:
    """The labels of the columns of `log_probabilities`: the blank, the word boundary, and the characters."""
    return [label for label in sorted(vocabulary, key=vocabulary.get) if label != UNKNOWN]


def log_probabilities(logits_TV: np.ndarray, vocabulary: dict[str, int]) -> np.ndarray:
    """log-softmax over the labels of `search_labels`, shape (T, labels), float32.

    The unknown character is left out: no text has it, and no training transcript has taught it to the network. A word
    boundary before the first and after the last frame in which a character may be spelt becomes a blank: it changes no
    text, and a beam search need not treat texts with a boundary at either end differently.

    Args:
        logits_TV: outputs of the network for the labels of the vocabulary, any log-probabilities among them.
        vocabulary: label -> column of the logits.
    """
    labels = search_labels(vocabulary)
    x_TV = logits_TV[:, [vocabulary[label] for label in labels]].astype(np.float64)
    x_TV -= x_TV.max(1, keepdims=True, initial=-np.inf)
    x_TV -= np.log(np.exp(x_TV).sum(1, keepdims=True))
    blank, boundary = labels.index(BLANK), labels.index(WORD_BOUNDARY)
    characters = np.delete(x_TV, [blank, boundary], axis=1).max(1, initial=-np.inf)
    spelt = np.flatnonzero((characters >= LEAST_LABEL) | (characters == x_TV.max(1, initial=-np.inf)))
    outside = np.ones(len(x_TV), bool)
    if len(spelt):
        outside[spelt[0] : spelt[-1] + 1] = False
    x_TV[outside, blank] = np.logaddexp(x_TV[outside, blank], x_TV[outside, boundary])
    x_TV[outside, boundary] = -np.inf
    return np.ascontiguousarray(np.clip(x_TV, math.log(LEAST_PROBABILITY), 0.0), np.float32)


class Fusion:
    """What a language model adds to the score of a text, with given weights.

    Args:
        model: the language model.
        characters: whether its tokens are characters.
        weights: of the language model.
    """

    def __init__(self, model: Arpa, characters: bool, weights: Weights):
        self.model, self.characters, self.weights = model, characters, weights

    def token(self, log10: float, token: str) -> float:
        """What a token adds to the score, given log10 of its probability."""
        return self.weights.added(log10, 1, token not in self.model.vocabulary)

    def weighted(self, weights: Weights) -> Fusion:
        """The same language model with other weights."""
        return Fusion(self.model, self.characters, weights)

    def parts(self, text: str) -> tuple[float, int, int]:
        """log10 of the probability of a text, with `<unk>` for unknown tokens; its tokens; those that are unknown."""
        own = tokens(text, self.characters)
        return self.model.sentence(own), len(own), sum(token not in self.model.vocabulary for token in own)

    def score(self, text: str) -> float:
        """What the language model adds to the score of a text."""
        return self.weights.added(*self.parts(text))

    def ranked(self, acoustic: dict[str, float]) -> list[Hypothesis]:
        """Texts by their whole score, the best first, from the network's score of each."""
        scored = (Hypothesis(text, score + self.score(text), score) for text, score in acoustic.items())
        return sorted(scored, key=lambda one: (-one.score, one.text))
