"""`finetune`: CTC fine-tuning."""

from __future__ import annotations

from pydantic import Field

from headstart.study.fields import Count, Positive, Share
from headstart.study.optimisation import SAVE_MINUTES, MaskedOptimisation


class Finetune(MaskedOptimisation):
    """Fine-tuning with connectionist temporal classification (CTC) on characters."""

    updates: Count = Field(600, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds.")
    learning_rate: Positive = Field(1e-3, description="Peak learning rate.")
    warmup: Share = Field(0.1, description="Tri-stage schedule: share of updates in which the rate rises.")
    hold: Share = Field(0.4, description="Tri-stage schedule: share of updates at the peak.")
    decay_to: Positive = Field(0.05, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="Decoupled weight decay.")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between dev evaluations, each a learning curve row.")
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    freeze_front_end: bool = Field(
        True,
        description="Keep the front-end as it is: the start's, or the mel filters of random weights. Random weights "
        "without mel filters always train their front-end.",
    )
    freeze_encoder: Share = Field(0.0, description="Share of updates, at first, that train the output layer only.")
    dev_minutes: Positive = Field(5.0, description="Minutes of the dev split, from its start, that are evaluated.")
