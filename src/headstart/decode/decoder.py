"""What the score file of a run says of an utterance beside its greedy transcript: see `Decoder.columns`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from headstart.decode.arpa import Arpa
from headstart.decode.beam_search import Engine, beam_search
from headstart.decode.forced_alignment import align_words
from headstart.decode.fusion import Fusion, Weights, log_probabilities, search_labels
from headstart.decode.language_model import language_model_units
from headstart.decode.tuning import Tuning, tune
from headstart.errors import DataError
from headstart.jobs import LanguageModelFiles, Search
from headstart.text.normalisation import normalise_hypothesis

_TIMES = pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())]))
COLUMNS = (
    pa.field("hypothesis_lm", pa.string()),
    pa.field("n_best_lm", pa.list_(pa.struct([("text", pa.string()), ("score", pa.float64())]))),
    pa.field("word_times", _TIMES),
    pa.field("word_confidence", pa.list_(pa.float64())),
    pa.field("reference_times", _TIMES),
)


class Decoder:
    """Decodes the outputs of one run.

    Args:
        vocabulary: label -> column of the run's logits.
        frame_s: seconds from one frame to the next.

    Attributes:
        tuning: the weights of the language model; None as long as there is none.
    """

    def __init__(self, vocabulary: dict[str, int], frame_s: float):
        self.vocabulary, self.frame_s = vocabulary, frame_s
        self.labels = search_labels(vocabulary)
        self.tuning: Tuning | None = None
        self._engine: Engine | None = None
        self._n_best = 0

    def use_language_model(
        self, files: LanguageModelFiles, search: Search, dev: Iterable[tuple[np.ndarray, str]]
    ) -> None:
        """Decode with a language model, with weights tuned on dev utterances.

        Args:
            dev: logits and normalised reference of each; those without a reference are left out.

        Raises:
            DataError: the ARPA file cannot be used, or there is no dev utterance with a reference.
        """
        fusion = Fusion(Arpa(files.arpa), language_model_units(files) == "characters", Weights(0.0, 0.0))

        def engine(fusion: Fusion) -> Engine:
            return beam_search(self.labels, fusion, files.arpa, search.beam)

        spoken = [utterance for utterance in dev if utterance[1]]
        if not spoken:
            raise DataError(
                "no dev utterance within decoding.tuning_minutes has a transcript, so that the weights of the language "
                "model cannot be tuned; raise it, or set decoding.language_model to null"
            )
        log_probs = [log_probabilities(logits_TV, self.vocabulary) for logits_TV, _ in spoken]
        self.tuning = tune(engine, fusion, log_probs, [reference for _, reference in spoken])
        self._engine, self._n_best = engine(fusion.weighted(self.tuning.weights)), search.n_best

    def weigh_language_model(self, files: LanguageModelFiles, search: Search, weights: Weights) -> None:
        """Decode with a language model, with weights that were tuned before.

        Raises:
            DataError: the ARPA file cannot be used.
        """
        fusion = Fusion(Arpa(files.arpa), language_model_units(files) == "characters", weights)
        self._engine, self._n_best = beam_search(self.labels, fusion, files.arpa, search.beam), search.n_best

    def facts(self) -> dict[str, Any] | None:
        """The weights and the dev errors that they were chosen by; None without a language model."""
        if self.tuning is None:
            return None
        weights, errors, words = self.tuning
        return {**weights._asdict(), "dev_errors": errors, "dev_words": words}

    def columns(self, logits_TV: np.ndarray, greedy: str, reference: str) -> dict[str, Any]:
        """The values of `COLUMNS` for one utterance.

        `hypothesis_lm` and `n_best_lm` are null without a language model; the first of `n_best_lm` is `hypothesis_lm`.
        Times and confidences are those of the words of `hypothesis_lm`, or of the greedy hypothesis where there is
        none. The confidence of a word is the geometric mean of the probabilities that the network gives to its
        characters in the frames in which the most probable path through the whole text spells them. Times are null
        where a text has a character that the run cannot spell, or too few frames.

        Args:
            logits_TV: outputs of the network.
            greedy: the normalised greedy hypothesis.
            reference: normalised.
        """
        log_probs_TV = log_probabilities(logits_TV, self.vocabulary)
        columns: dict[str, Any] = dict.fromkeys(field.name for field in COLUMNS)
        if self._engine is not None:
            scores: dict[str, float] = {}  # normalisation may make two texts one: the better score is the first
            for one in self._engine.decode(log_probs_TV):
                scores.setdefault(normalise_hypothesis(one.text), one.score)
            n_best = [{"text": text, "score": score} for text, score in list(scores.items())[: self._n_best]]
            columns |= {"hypothesis_lm": n_best[0]["text"], "n_best_lm": n_best}
        hypothesis = greedy if columns["hypothesis_lm"] is None else columns["hypothesis_lm"]
        words = align_words(log_probs_TV, hypothesis, self.labels)
        if words is not None:
            columns["word_times"] = self._times(words)
            columns["word_confidence"] = [word.confidence for word in words]
        words = align_words(log_probs_TV, reference, self.labels)
        columns["reference_times"] = None if words is None else self._times(words)
        return columns

    def _times(self, words: list[Any]) -> list[dict[str, float]]:
        return [
            {"start_s": round(word.begin * self.frame_s, 4), "end_s": round(word.end * self.frame_s, 4)}
            for word in words
        ]
