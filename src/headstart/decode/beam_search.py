"""Prefix beam search over CTC log-probabilities with an n-gram language model (Hannun et al. 2014, arXiv 1408.2873).

There are two engines with one method, `decode`. Both keep, merge and drop prefixes as pyctcdecode does, and the texts
that they find are scored by the same `Fusion`, so that they agree:

- `NativeEngine` is the package `ctc_beam_decoder`, in C++ with KenLM. It has wheels for some systems only.
- `PythonEngine` (prefix_search.py) is our own, for all others. It is slower.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headstart.decode.fusion import LEAST_BEAM, LEAST_LABEL, UNKNOWN_OFFSET, Fusion, Hypothesis
from headstart.decode.prefix_search import PythonEngine, log_add
from headstart.text.normalisation import WORD_BOUNDARY

log = logging.getLogger(__name__)

BEGINNING = "▁"  # ctc_beam_decoder takes a label with it for the beginning of a word
NOT_NATIVE = {"_", BEGINNING, "⁇"}  # labels that ctc_beam_decoder takes for a blank, a boundary or an unknown character


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
        spelt = [BEGINNING + label for label in labels[1:]] if fusion.characters else [*labels[1:]]
        if not fusion.characters:
            spelt[spelt.index(WORD_BOUNDARY)] = " "
        with _quiet():
            self._decoder = native().build_ctcdecoder(
                ["", *spelt],
                str(arpa),
                unigrams=sorted(fusion.model.vocabulary),
                alpha=fusion.weights.alpha,
                beta=fusion.weights.beta,
                unk_score_offset=UNKNOWN_OFFSET,
            )

    def decode(self, log_probs_TV: np.ndarray) -> list[Hypothesis]:
        """See `Engine.decode`."""
        acoustic: dict[str, float] = {}
        for text, _, _, score, _ in self._decoder.decode_beams(log_probs_TV, **self._options):
            if self.fusion.characters:
                text = "".join(text.split()).replace(WORD_BOUNDARY, " ")
            text = " ".join(text.split())
            acoustic[text] = score if text not in acoustic else log_add(acoustic[text], score)
        # Its own scores are not used: it takes a word boundary at the end for the beginning of an unknown word.
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
