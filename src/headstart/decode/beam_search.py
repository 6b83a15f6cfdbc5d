"""Prefix beam search over CTC log-probabilities with an n-gram language model (Hannun et al. 2014, arXiv 1408.2873).

There are two engines with one method, `decode`. Both keep, merge and drop prefixes as pyctcdecode does, and the texts
that they find are scored by the same `Fusion`, so that they agree:

- `NativeEngine` is the package `ctc_beam_decoder`, in C++ with KenLM. It has wheels for some systems only.
- `PythonEngine` (prefix_search.py) is our own, for all others. It is slower.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headstart.decode.fusion import LEAST_BEAM, LEAST_LABEL, LEAST_PROBABILITY, Fusion, Hypothesis
from headstart.decode.prefix_search import PythonEngine, log_add
from headstart.text.normalisation import WORD_BOUNDARY

log = logging.getLogger(__name__)

BEGINNING = "▁"  # ctc_beam_decoder takes a label with it for the beginning of a word
LAST = "\ue000"  # a character of private use, which NativeEngine appends to every text
# Labels that ctc_beam_decoder takes for a blank, the beginning of a word and an unknown character; and LAST.
NOT_NATIVE = {"_", BEGINNING, "⁇", LAST}


class Engine(Protocol):
    """A beam search with its labels, language model and weights."""

    def decode(self, log_probs_TV: np.ndarray) -> list[Hypothesis]:
        """Texts by their score, the best first; at least one.

        Args:
            log_probs_TV: what `headstart.decode.fusion.log_probabilities` returns.
        """


def beam_search(labels: Sequence[str], fusion: Fusion, arpa: str | Path, beam: int) -> Engine:
    """The native engine where it is installed and can spell these labels, else our own.

    Args:
        labels: of the columns of the log-probabilities; see `headstart.decode.fusion.search_labels`.
        arpa: the file of the fusion's language model.
        beam: prefixes that are kept at each frame.
    """
    if native() is None or not NOT_NATIVE.isdisjoint(labels):
        return PythonEngine(labels, fusion, beam)
    return NativeEngine(labels, fusion, arpa, beam)


@cache
def native() -> Any | None:
    """The package `ctc_beam_decoder`; None where it is not installed or cannot be loaded, which is logged once."""
    try:
        import ctc_beam_decoder

        if ctc_beam_decoder.has_kenlm():
            return ctc_beam_decoder
        problem = "it was built without KenLM"
    except (ImportError, OSError, RuntimeError) as error:
        problem = str(error)
    log.info("ctc_beam_decoder cannot be used (%s): texts are decoded with our own, slower beam search", problem)
    return None


class NativeEngine:
    """Beam search by `ctc_beam_decoder`.

    Two of its habits are got round. It scores a word boundary at the end as an unknown word; every text is therefore
    made to end with a word `LAST`, which is removed again. And it has word models only; characters are given to it as
    words of one letter. It then counts two word boundaries with a blank between them as two tokens while it searches,
    so that a character model finds a little less with it than with `PythonEngine`.

    Args:
        labels, fusion, arpa, beam: see `beam_search`.
        least_label, least_beam: see `headstart.decode.fusion`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fusion: Fusion,
        arpa: str | Path,
        beam: int,
        least_label: float = LEAST_LABEL,
        least_beam: float = LEAST_BEAM,
    ):
        self.fusion = fusion
        self._options = {"beam_width": beam, "beam_prune_logp": least_beam, "token_min_logp": least_label}
        if fusion.characters:
            spelt, ending = [BEGINNING + label for label in (*labels[1:], LAST)], (LAST,)
        else:
            spelt = [" " if label == WORD_BOUNDARY else label for label in (*labels[1:], LAST)]
            ending = WORD_BOUNDARY, LAST
        # The frames that spell the last word; log-probabilities of the labels and of LAST, shape (1 or 2, labels + 1).
        self._ending = np.full((len(ending), len(labels) + 1), math.log(LEAST_PROBABILITY), np.float32)
        self._ending[range(len(ending)), [[*labels, LAST].index(label) for label in ending]] = 0.0
        with _quiet():
            self._decoder = native().build_ctcdecoder(
                ["", *spelt],
                str(arpa),
                unigrams=sorted(fusion.model.vocabulary),
                alpha=fusion.weights.alpha,
                beta=fusion.weights.beta,
                unk_score_offset=fusion.weights.unknown,
            )

    def decode(self, log_probs_TV: np.ndarray) -> list[Hypothesis]:
        """See `Engine.decode`."""
        without_last = np.pad(log_probs_TV, [(0, 0), (0, 1)], constant_values=math.log(LEAST_PROBABILITY))
        frames = np.concatenate([without_last, self._ending])
        acoustic: dict[str, float] = {}
        for text, _, _, score, _ in self._decoder.decode_beams(frames, **self._options):
            *words, last = text.split() or [""]
            if last != LAST or LAST in "".join(words):
                continue
            text = " ".join("".join(words).replace(WORD_BOUNDARY, " ").split() if self.fusion.characters else words)
            acoustic[text] = score if text not in acoustic else log_add(acoustic[text], score)
        return self.fusion.ranked(acoustic or {"": float(log_probs_TV[:, 0].sum())})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without KenLM's messages, which go to the error output of the process and not to Python's."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
