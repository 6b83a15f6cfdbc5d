"""`decoding`: beam search with a language model, beside greedy decoding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headstart.study.fields import Count, Positive, Settings


class LanguageModel(Settings):
    """The n-gram language model of each target, trained on its training text."""

    units: Literal["auto", "words", "characters"] = Field(
        "auto",
        description="Tokens of the model. `auto`: words, but characters where over a quarter of the words of the dev "
        "split are not in the training text.",
    )
    order: Annotated[int, Field(ge=2, le=6)] | None = Field(
        None, description="Length of the longest n-grams; if null, 3 of words and 6 of characters."
    )


class Search(Settings):
    """How beam search is done."""

    beam: Count = Field(64, description="Beginnings of transcripts that beam search keeps at each frame.")
    n_best: Count = Field(5, description="Best transcripts that the score file lists for each utterance.")
    tuning_minutes: Positive = Field(
        5.0, description="Minutes of the dev split, from its start, on which each run's weights are tuned."
    )


class Decoding(Search):
    """Decoding with a language model. Greedy decoding is always done too, and both are reported."""

    language_model: LanguageModel | None = Field(
        LanguageModel(), description="The language model; null for greedy decoding only."
    )
