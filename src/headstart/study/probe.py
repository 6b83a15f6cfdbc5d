"""`probe`: what a linear layer recognises from the frozen layers of a start."""

from __future__ import annotations

from pydantic import Field

from headstart.study.fields import Count, Positive, Settings


class Probe(Settings):
    """A linear CTC layer on each frozen layer of every start: a guess, before any fine-tuning, of which start is best.

    For each target and label budget, the encoder of a start processes the audio once; then the linear layers, one for
    each layer of the encoder, are trained side by side and recognise the dev split. docs/transfer.md says what is made
    of their error rates.
    """

    minutes: Positive = Field(
        3.0, description="Minutes of the label budget that are used, drawn at random from a larger budget."
    )
    dev_minutes: Positive = Field(2.0, description="Minutes of the dev split, from its start, that are recognised.")
    updates: Count = Field(100, description="Updates of the linear layers.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds.")
    learning_rate: Positive = Field(0.3, description="First learning rate, which falls linearly to 0.")
    seeds: Count = Field(
        1, description="How many of the study's seeds, from the first, are probed: each has its own label budget."
    )
