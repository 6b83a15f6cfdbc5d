"""`semisup`: the semi-supervised stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.study.fields import Count, Positive, Settings, Share
from headstart.study.optimisation import SAVE_MINUTES, MaskedOptimisation


class Loss(Settings):
    """When a loss of the semi-supervised stage counts, and how much."""

    weight: float = Field(1.0, ge=0.0, description="Its weight; 0 leaves it out.")
    begin: Share = Field(0.0, description="Share of updates before it sets in.")
    ramp: Share = Field(0.0, description="Share of updates in which its weight then rises.")
    end: Share = Field(1.0, description="Share of updates after which it is left out.")

    @model_validator(mode="after")
    def _some_time(self) -> Loss:
        if self.weight and self.begin >= self.end:
            raise ValueError(f"it begins at {self.begin:g} of the updates and ends at {self.end:g}")
        return self

    def at(self, passed: float) -> float:
        """The weight of the loss at an update; `passed` is the share of updates up to and including this one."""
        if not self.begin < passed <= self.end:
            return 0.0
        return self.weight * (min(1.0, (passed - self.begin) / self.ramp) if self.ramp else 1.0)


class Semisup(MaskedOptimisation):
    """The semi-supervised stage between pre-training and fine-tuning: wav2vec-S (Zhu et al. 2022, arXiv 2110.04484).

    The paper has published no code. Which losses, which teacher, when and how much is our interpretation, and every
    part of it is a setting: see docs/semisup.md.
    """

    updates: Count = Field(300, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, labelled and not, in seconds.")
    labelled_share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5,
        description="Share of a batch's audio that is labelled. Batches are all labelled as long as no loss takes "
        "other audio, and where the start has none.",
    )
    learning_rate: Positive = Field(1e-3, description="Peak learning rate.")
    head_rate: Positive = Field(1.0, description="Learning rate of the CTC output layer, as a multiple.")
    warmup: Share = Field(0.1, description="Share of updates in which the rate rises.")
    hold: Share = Field(0.4, description="Share of updates at the peak.")
    decay_to: Positive = Field(0.05, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="Decoupled weight decay.")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between learning curve rows, with dev evaluations.")
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    supervised: Loss = Field(Loss(), description="CTC on transcripts of the labelled audio.")
    pseudo: Loss = Field(
        Loss(begin=0.6, ramp=0.1),
        description="CTC on pseudo-labels of the unlabelled audio, made on the fly. By "
        "default it begins late (`begin` 0.6), when the supervised part has settled, and rises (`ramp` 0.1).",
    )
    ssl: Loss = Field(
        Loss(weight=0.0),
        description="The self-supervised loss of the start that it refines, on the unlabelled audio (on the labelled "
        "where there is none), with that start's settings. Left out by default (`weight` 0).",
    )
    units: Literal["characters", "phones", "subwords"] = Field(
        "characters", description="What transcripts are spelt in: one inventory for all languages."
    )
    subwords: Count = Field(200, description="Entries of the vocabulary of subwords (byte-pair encoding).")
    phones: Literal["espeak", "corpus"] = Field(
        "espeak", description="Where phones come from: eSpeak NG, or the corpora's `columns.phonemes`."
    )
    teacher: Literal["ema", "self"] = Field(
        "ema",
        description="What the pseudo-labels come from: an exponential moving average of the weights (momentum "
        "pseudo-labelling), or the model as it is (slimIPL).",
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.98, description="Decay of the teacher's weights, an update."
    )
    min_confidence: Share = Field(
        0.8,
        description="Pseudo-labels whose mean probability, over the frames that are not blank, is less are not used.",
    )
    cache_updates: int = Field(
        0,
        ge=0,
        description="Updates for which a clip's pseudo-labels are kept and used again; 0 for none.",
    )
    guard_every: Count = Field(
        20, description="Pseudo-labelled updates between checks for collapsed labels and a diverged teacher."
    )
    pause: Share = Field(0.05, description="Share of updates without pseudo-labels after they have collapsed.")
    freeze_front_end: bool = Field(True, description="Keep the front-end as it is, as in `finetune`.")
    freeze_encoder: Share = Field(0.0, description="Share of updates, at first, that train the output layers only.")
    freeze_layers: int = Field(0, ge=0, description="Transformer layers, from the bottom, that stay as they are.")
    dev_minutes: float = Field(1.0, ge=0.0, description="Minutes of each labelled corpus's dev split to evaluate.")
    keep_head: bool = Field(
        False,
        description="Keep the output layer, so that the start is itself a recogniser of its source. Fine-tuning always "
        "begins with a new one.",
    )
    reset_layers: int = Field(
        0, ge=0, description="Transformer layers, from the top, that get new random weights at the end."
    )

    @model_validator(mode="after")
    def _some_loss(self) -> Semisup:
        if not (self.supervised.weight or self.pseudo.weight or self.ssl.weight):
            raise ValueError("supervised, pseudo and ssl all have weight 0: nothing is left to learn from")
        covered = 0.0
        for loss in sorted((self.supervised, self.pseudo, self.ssl), key=lambda loss: loss.begin):
            if loss.weight and loss.begin <= covered:
                covered = max(covered, loss.end)
        if covered < 1.0:
            raise ValueError(f"nothing is learnt after {covered:g} of the updates, where no loss has a weight")
        return self
