"""Forced alignment: which frames spell which word of a text, and how probable the network finds the word there."""

from __future__ import annotations

import math
from itertools import groupby
from typing import NamedTuple

import numpy as np

from headstart.text.normalisation import WORD_BOUNDARY


class Span(NamedTuple):
    """The frames of one label or one word, `begin` to `end - 1`, and the sum of their log-probabilities.

    Frames of the blank belong to no label; inside a word they count in `end - begin` but not in `frames`.
    """

    begin: int
    end: int
    frames: int
    log_probability: float

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of the labels in their frames, between 0 and 1."""
        return math.exp(min(0.0, self.log_probability / self.frames))


def fits(labels: list[int], frames: int) -> bool:
    """Whether a CTC path of so many frames can spell these labels: two equal labels need a blank between them."""
    repeats = sum(a == b for a, b in zip(labels, labels[1:], strict=False))
    return len(labels) + repeats <= frames


def align_labels(log_probs_TV: np.ndarray, labels: list[int], blank: int = 0) -> tuple[float, list[Span]]:
    """The most probable CTC path that spells these labels, by torchaudio's Viterbi search.

    Where several paths are equally probable, it is one of them.

    Args:
        log_probs_TV: log-probabilities of the labels in each frame.
        labels: without blanks; they fit (see `fits`).

    Returns:
        The log-probability of the path, and the frames of each label.
    """
    if not labels:
        return float(log_probs_TV[:, blank].astype(np.float64).sum()), []
    import torch
    from torchaudio.functional import forced_align

    targets = torch.tensor([labels], dtype=torch.int32)
    path, scores = forced_align(torch.from_numpy(log_probs_TV)[None], targets, blank=blank)
    steps = list(zip(range(len(log_probs_TV)), path[0].tolist(), scores[0].tolist(), strict=True))
    spans = []
    for label, run in groupby(steps, key=lambda step: step[1]):
        frames = [(t, score) for t, _, score in run]
        if label != blank:
            spans.append(Span(frames[0][0], frames[-1][0] + 1, len(frames), sum(score for _, score in frames)))
    return float(scores.double().sum()), spans


def align_words(log_probs_TV: np.ndarray, text: str, labels: list[str]) -> list[Span] | None:
    """The frames of each word of a normalised text.

    A CTC network tends to spell a character in one frame and to give blanks around it. A word's span therefore begins
    and ends some hundredths of a second inside the word.

    Args:
        log_probs_TV: what `headstart.decode.fusion.log_probabilities` returns.
        labels: of its columns; see `headstart.decode.fusion.search_labels`.

    Returns:
        One span for each word; None if a character is not among the labels, or if there are too few frames.
    """
    columns = {label: column for column, label in enumerate(labels)}
    spelt = text.replace(" ", WORD_BOUNDARY)
    if any(character not in columns for character in spelt):
        return None
    wanted = [columns[character] for character in spelt]
    if not fits(wanted, len(log_probs_TV)):
        return None
    _, spans = align_labels(log_probs_TV, wanted)
    words, begin = [], 0
    for word in text.split():
        own = spans[begin : begin + len(word)]
        frames, log_probability = sum(span.frames for span in own), sum(span.log_probability for span in own)
        words.append(Span(own[0].begin, own[-1].end, frames, log_probability))
        begin += len(word) + 1  # the word boundary
    return words
