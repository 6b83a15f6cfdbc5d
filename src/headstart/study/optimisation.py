"""Keys that the training stages have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from headstart.study.fields import Count, Positive, Settings, Share

SAVE_MINUTES = (
    "Minutes between saved states, from which a killed job resumes. The first is saved after a minute at most: a job "
    "whose limit is shorter than this, and not known, would otherwise begin at update 0 at every try."
)


class Optimisation(Settings):
    """What every training stage sets: length, batches, optimiser and schedule."""

    updates: Count = Field(description="Optimiser updates.")
    batch_seconds: Positive = Field(description="Audio in a batch, padding included, in seconds.")
    learning_rate: Positive = Field(description="Peak learning rate.")
    warmup: Share = Field(description="Share of updates in which the rate rises to its peak.")
    hold: Share = Field(description="Share of updates at the peak; the rest decays.")
    decay_to: Positive = Field(description="Final learning rate as a share of the peak.")
    optimiser: Literal["adamw", "muon"] = Field(
        "adamw",
        exclude_if=lambda name: name == "adamw",  # so that results from before there was such a key stay valid
        description="AdamW, or Muon for the matrices of the encoder's layers and AdamW for all else. Muon makes "
        "updates orthogonal, in blocks of 64 rows. In short fine-tuning and refinement, with twice the learning rate, "
        "it needs about half as many updates; in pre-training it did not help (docs/performance.md).",
    )
    weight_decay: float = Field(ge=0.0, description="Decoupled weight decay, on matrices only.")
    gradient_clip: Positive = Field(description="Largest gradient norm.")
    log_every: Count = Field(description="Updates between learning curve rows.")
    save_minutes: Positive = Field(description=SAVE_MINUTES)
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Type that the network computes in, behind float32 weights; `auto` is bfloat16 where it is fast.",
    )
    accumulate: Count = Field(
        1,
        description="Parts that a batch is computed in, one after another, where memory is short. The gradient is that "
        "of the whole batch.",
    )

    shifts: Count = Field(
        1,
        exclude_if=lambda shifts: shifts == 1,  # so that results from before there was such a key stay valid
        description="Places within its first frame at which a clip may begin; one is drawn each time it is used, so "
        "that few clips are not learnt by heart. With ten minutes of transcripts, 16 lowered CER by 3 % on "
        "average, in five of six cases (docs/results.md); with hours of audio, it did not help (docs/performance.md).",
    )

    @model_validator(mode="after")
    def _schedule(self) -> Optimisation:
        if self.warmup + self.hold > 1:
            raise ValueError(f"warmup {self.warmup} and hold {self.hold} are together more than all updates")
        return self


class MaskedOptimisation(Optimisation):
    """What training with CTC sets besides: what of the encoder's input and activations is left out at random."""

    mask_time_share: Share = Field(0.2, description="Share of frames covered by time masks, before overlap.")
    mask_time_length: Count = Field(5, description="Frames in a time mask.")
    mask_feature_share: Share = Field(0.05, description="Share of channels covered by feature masks.")
    mask_feature_length: Count = Field(16, description="Channels in a feature mask.")
    dropout: Share = Field(0.1, description="Dropout in the encoder.")
