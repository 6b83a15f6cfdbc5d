"""`pretrain`: self-supervised pre-training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.study.fields import Count, Positive, Settings, Share
from headstart.study.optimisation import SAVE_MINUTES, Optimisation


class Data2vec(Settings):
    """What data2vec adds to pre-training (Baevski et al. 2022, arXiv 2202.03555)."""

    average_layers: Count = Field(8, description="Transformer layers, from the top, whose outputs the target averages.")
    ema_start: Share = Field(0.99, description="First decay of the teacher's weights, an update (paper: 0.999).")
    ema_end: Share = Field(0.999, description="Last decay of the teacher's weights (paper: 0.9999).")
    ema_anneal: Share = Field(0.1, description="Share of updates in which the decay goes from first to last.")


class BestRq(Settings):
    """What BEST-RQ adds to pre-training (Chiu et al. 2022, arXiv 2202.01855)."""

    codebooks: Count = Field(1, description="Random codebooks, each with an output layer of its own (paper: 1).")
    entries: Count = Field(64, description="Entries in each codebook (paper: 8192).")
    code_size: Count = Field(16, description="Size of an entry, to which log-mel frames are projected (paper: 16).")


class Hubert(Settings):
    """What HuBERT adds to pre-training (Hsu et al. 2021, arXiv 2106.07447)."""

    clusters: Count = Field(128, description="Clusters of frames, found by k-means before training (paper: 100).")
    codebooks: Count = Field(
        2, description="Sets of clusters, each of principal components and with an output layer of its own (paper: 1)."
    )
    layer: int = Field(
        0,
        ge=0,
        description="Transformer layer whose outputs are clustered, of the start that this one continues from: a "
        "second iteration (paper: 6 of 12, with 500 clusters). 0: log-mel features instead.",
    )
    restart: bool = Field(
        False,
        description="Begin with new random weights in the shape of the start that this one continues from, which then "
        "only gives the targets (paper: true).",
    )
    projection_size: Count = Field(128, description="Size in which outputs and clusters are compared (paper: 256).")
    temperature: Positive = Field(0.1, description="Temperature of their similarities (paper: 0.1).")

    @model_validator(mode="after")
    def _some_use(self) -> Hubert:
        if self.restart and not self.layer:
            raise ValueError("restart is true, but nothing is taken from another start; give the layer, or drop `from`")
        return self


def is_standard(value: object) -> bool:
    """Whether HuBERT's settings are left out of dumps, so that starts from before they existed stay valid."""
    return value == Hubert()


class Pretrain(Optimisation):
    """Self-supervised pre-training: wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), data2vec, BEST-RQ or HuBERT.

    Where a default is not the paper's, it is what works for a small encoder and hours of audio: see docs/results.md.
    Keys about negatives, codes, Gumbel noise, diversity or the quantiser are for wav2vec 2.0 only.
    """

    objective: Literal["wav2vec2", "data2vec", "best-rq", "hubert"] = Field(
        "wav2vec2",
        description="What is predicted of masked frames: their code, a teacher's layers, a random projection, or a "
        "cluster.",
    )
    updates: Count = Field(1000, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds (paper: 1.6 h).")
    learning_rate: Positive = Field(
        3e-3,
        description="Peak learning rate (paper: 5e-4, for a base model). The default suits small models and wav2vec2; "
        "hubert needs about 1e-3 there.",
    )
    warmup: Share = Field(0.08, description="Share of updates in which the rate rises (paper: 8 %).")
    hold: Share = Field(0.0, description="Share of updates at the peak.")
    decay_to: Positive = Field(0.02, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="Decoupled weight decay (paper: 0.01).")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between learning curve rows.")
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    crop_seconds: float = Field(8.0, ge=1.0, description="Longer utterances are cropped, at a place drawn per epoch.")
    mask_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="Share of frames that masked spans cover, before overlap (paper: 0.65)."
    )
    mask_length: Count = Field(8, description="Frames in a masked span (paper: 10 = 200 ms).")
    negatives: Count = Field(100, description="Distractors for each masked frame, from its own utterance.")
    contrastive_temperature: Positive = Field(0.1, description="Temperature of the similarities (paper: 0.1).")
    gumbel_start: Positive = Field(2.0, description="First Gumbel-softmax temperature (paper: 2).")
    gumbel_end: Positive = Field(0.5, description="Last Gumbel-softmax temperature (paper: 0.5).")
    gumbel_decay: Positive = Field(0.999, lt=1.0, description="Factor on it, each update (paper: 0.999995).")
    diversity_weight: float = Field(0.1, ge=0.0, description="Weight of the diversity loss (paper: 0.1).")
    freeze_front_end: bool = Field(
        True,
        description="Keep the front-end as it is: a new encoder's mel filters, or the parent's. wav2vec 2.0 trains "
        "it (false), which takes far more updates. A new encoder without mel filters always trains its front-end.",
    )
    freeze_quantiser: Share = Field(
        1.0,
        description="Share of updates, at first, that leave the quantiser as it is: k-means clusters (paper: 0).",
    )
    dropout: Share = Field(0.0, description="Dropout in the encoder.")
    patience: Count = Field(
        2000,
        description="Updates after which a run stops that has learnt nothing: loss at chance, targets all alike, or "
        "codes all the same, at every row of the learning curve over so many updates.",
    )
    data2vec: Data2vec = Field(Data2vec(), description="Of the objective data2vec.")
    best_rq: BestRq = Field(BestRq(), description="Of the objective best-rq.")
    hubert: Hubert = Field(Hubert(), exclude_if=is_standard, description="Of the objective hubert.")

    def parent_of(self, start: str | None) -> str | None:
        """The start whose weights training begins with: `start`, which it continues from, or None for new ones."""
        return None if self.objective == "hubert" and self.hubert.restart else start
