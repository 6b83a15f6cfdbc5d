"""What self-supervised objectives share: crops of unlabelled audio in which spans of frames are masked.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), C channels, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.encoder.front_end import (
    FRAMES_QUANTUM,
    frame_counts,
    frame_stride,
    front_end,
    prepared_audio,
    samples_for,
)
from headstart.encoder.model import span_mask
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.study.sections import Pretrain
from headstart.training import loop as training
from headstart.training.batching import Batch, endless_batches
from headstart.training.ranks import Ranks


def masked_frames(mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of each utterance's masked frames, in order and padded with zeros, and which are real: (B, N) both."""
    counts = mask_BT.sum(1)
    real_BN = torch.arange(int(counts.max()), device=counts.device)[None] < counts[:, None]
    index_BN = torch.zeros(real_BN.shape, dtype=torch.long, device=counts.device)
    index_BN[real_BN] = mask_BT.nonzero()[:, 1]  # both run through the utterances in order, and through frames in order
    return index_BN, real_BN


def gather_frames(x_BTD: torch.Tensor, index_BN: torch.Tensor) -> torch.Tensor:
    """Frames at these places of each utterance: (B, N, D)."""
    batch, time, size = x_BTD.shape
    rows = index_BN + time * torch.arange(batch, device=index_BN.device)[:, None]
    return x_BTD.reshape(batch * time, size).index_select(0, rows.flatten()).view(batch, -1, size)


@dataclass
class Masks:
    """What is masked in a batch, in whatever parts it is computed.

    Frames of each clip (B,); which are masked (B, T), their places and which of those are real (B, N); masked frames in
    all, by which losses are divided.
    """

    frames: torch.Tensor
    mask_BT: torch.Tensor
    index_BN: torch.Tensor
    real_BN: torch.Tensor
    masked: int


class MaskedAudio(training.Objective):
    """Base of objectives that ask an encoder about masked frames of unlabelled audio.

    The network may have more submodules than an objective needs: output layers of another one, say.

    Args:
        network: with `base_model`, an encoder of any family, and the objective's own output layers.
        settings: of pre-training; a stage with a loop of its own heeds masks, crops and the objective's keys only.
        freeze_front_end: whether to keep the convolutional front-end as it is.
        seed: of batches and crops.
    """

    loss_name: str  # the metric that is compared with `trivial_name`, what it would be if nothing were learnt
    trivial_name = "trivial_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        self.freeze_front_end = freeze_front_end
        self.network, self.clips, self.settings, self.seed = network, clips, settings, seed
        config = network.config
        receptive, stride = samples_for(config, 1), frame_stride(config)
        self.quantum = FRAMES_QUANTUM * stride
        self.overlap = receptive - stride  # so that a padded length gives a whole number of quanta of frames
        self.crop = int(settings.crop_seconds * SAMPLE_RATE) // self.quantum * self.quantum + self.overlap
        self.lengths = np.minimum(clips.lengths, self.crop)

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        lengths = np.maximum(self.lengths - self.overlap, 1)
        for epoch, clips in endless_batches(lengths, limit, self.quantum, self.seed, start):
            yield self.batch_of(epoch, clips)

    def batch_of(self, epoch: int, clips: list[int]) -> Batch:
        """A batch of these clips, as indices; where a long one is cropped depends on the epoch."""
        longest = int(np.maximum(self.lengths[clips] - self.overlap, 1).max())
        padded = -(-longest // self.quantum) * self.quantum + self.overlap
        return Batch(epoch, clips, float(self.lengths[clips].sum() / SAMPLE_RATE), (len(clips), padded))

    def names(self, batch: Batch) -> list[str]:
        return self.clips.take(batch.clips).column("utterance_id")

    def trainable(self, update: int) -> set[str]:
        """Names of all parameters of the network, its other submodules' too, but for those that the objective keeps."""
        names = {name for name, _ in self.network.named_parameters()}
        return {n for n in names if ".feature_extractor." not in n} if self.freeze_front_end else names

    def masks(self, batch: Batch, ranks: Ranks) -> Masks:
        """Random spans of a batch's frames."""
        config, settings = self.network.config, self.settings
        frames = frame_counts(config, torch.from_numpy(self.lengths[batch.clips]))
        size = int(frame_counts(config, torch.tensor(batch.shape[1])))
        mask_BT = span_mask(frames, size, settings.mask_share, settings.mask_length)
        index_BN, real_BN = masked_frames(mask_BT)
        tensors = (tensor.to(ranks.device) for tensor in (frames, mask_BT, index_BN, real_BN))
        return Masks(*tensors, int(real_BN.sum()))

    def audio(self, batch: Batch, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared crops of a part of a batch (B, S), and their sample counts (B,)."""
        crops = [self._crop(batch.clips[i], batch.epoch) for i in positions]
        return prepared_audio(self.network.config, crops, batch.shape[1])

    def features(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        """Front-end features of a part of a batch (B, T, C)."""
        return front_end(self.network.base_model, *self.audio(batch, positions))

    def _crop(self, index: int, epoch: int) -> torch.Tensor:
        samples = self.clips.audio(index)
        spare = len(samples) - self.lengths[index]
        begin = int(np.random.default_rng([self.seed, epoch, index]).integers(spare + 1)) if spare else 0
        return torch.from_numpy(samples[begin : begin + self.lengths[index]].copy())

    def collapsed(self, curve: list[dict[str, float]]) -> str | None:
        """The remedy, when every row of the last `patience` updates shows the same kind of collapse; else None."""
        since = curve[-1]["step"] - self.settings.patience
        rows = [row for row in curve if row["step"] > since and self.loss_name in row]
        return self.remedy(rows) if since >= 0 and rows else None

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        """What is wrong in all of these rows and what to change; None when nothing is."""
        if any(row[self.loss_name] <= 0.995 * row[self.trivial_name] for row in rows):
            return None
        loss, trivial = rows[-1][self.loss_name], rows[-1][self.trivial_name]
        patience = self.settings.patience
        return (
            f"for {patience} updates the loss has stayed at that of a network that knows nothing ({loss:.3f} of "
            f"{trivial:.3f}); raise learning_rate, batch_seconds or updates, or raise patience if the rate is rising"
        )
