"""Base class of the self-supervised objectives: random crops of unlabelled audio, with spans of frames masked.

Shape suffixes: B utterances, T frames, N masked frames of an utterance (padded), C channels, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.devices import moved
from headstart.encoder.front_end import (
    FRAMES_QUANTUM,
    frame_counts,
    frame_stride,
    front_end,
    length_mask,
    padded_frames,
    prepared_audio,
    samples_for,
)
from headstart.encoder.model import span_mask
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.objectives.shifts import Shifts
from headstart.study.pretrain import Pretrain
from headstart.training import loop as training
from headstart.training.batching import Batch, endless_batches
from headstart.training.ranks import Ranks


def masked_frames(mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of each utterance's masked frames, ascending and padded with zeros, for use with `gather_frames`.

    Returns:
        Positions, int64 (B, N), and which of them are real rather than padding, bool (B, N). N is the largest number
        of masked frames in an utterance.
    """
    counts = mask_BT.sum(1)
    real_BN = torch.arange(int(counts.max()), device=counts.device)[None] < counts[:, None]
    index_BN = torch.zeros(real_BN.shape, dtype=torch.long, device=counts.device)
    index_BN[real_BN] = mask_BT.nonzero()[:, 1]  # both sides are ordered by utterance, then by frame
    return index_BN, real_BN


def gather_frames(x_BTD: torch.Tensor, index_BN: torch.Tensor) -> torch.Tensor:
    """Select the frames at these positions of each utterance: (B, N, D)."""
    batch, time, size = x_BTD.shape
    places = index_BN + time * torch.arange(batch, device=index_BN.device)[:, None]
    return x_BTD.reshape(batch * time, size).index_select(0, places.flatten()).view(batch, -1, size)


@dataclass
class Masks:
    """The masked frames of a whole batch.

    Attributes:
        frames: valid frames of each clip (B,).
        mask_BT: whether a frame is masked, bool.
        index_BN: positions of the masked frames, padded with zeros.
        real_BN: which of these positions are real, not padding.
        counts: masked frames of each clip, on the CPU (B,).
        masked: number of masked frames in the batch, by which losses are divided.
    """

    frames: torch.Tensor
    mask_BT: torch.Tensor
    index_BN: torch.Tensor
    real_BN: torch.Tensor
    counts: torch.Tensor
    masked: int

    def places(self, positions: list[int]) -> torch.Tensor:
        """For a part of the batch, where in its flattened (B, N) frames are real, ascending.

        They are computed on the CPU: to find them on a GPU, or to index by `real_BN`, would wait for the GPU.
        """
        real_BN = length_mask(self.counts[positions], self.real_BN.shape[1])
        return moved(real_BN.flatten().nonzero()[:, 0], self.real_BN.device)


class MaskedAudio(training.Objective):
    """Base of objectives that predict a target for each masked frame of unlabelled audio.

    Args:
        network: has an encoder of any family as `base_model`, and the objective's output layers. It may have other
            submodules too, such as the CTC output layer of the semi-supervised stage.
        clips: utterances to train on; those longer than `crop_seconds` are cropped anew in each epoch.
        settings: of pre-training. When the semi-supervised stage uses the objective as one of its losses, it makes its
            own batches and schedule, and only the keys of masks, crops and the objective itself apply.
        freeze_front_end: whether the convolutional front-end is not trained.
        seed: of batches and crops.
    """

    # Collapse is detected by comparing the metric `loss_name` with the metric `trivial_name`, the loss of a trivial
    # predictor that ignores its input.
    loss_name: str
    trivial_name = "trivial_loss"

    def __init__(self, network: Any, clips: Clips, settings: Pretrain, freeze_front_end: bool, seed: int):
        self.freeze_front_end = freeze_front_end
        self.network, self.clips, self.settings, self.seed = network, clips, settings, seed
        config = network.config
        receptive, stride = samples_for(config, 1), frame_stride(config)
        self.quantum = FRAMES_QUANTUM * stride
        self.overlap = receptive - stride  # n * stride + overlap samples give exactly n frames
        self.crop = int(settings.crop_seconds * SAMPLE_RATE) // self.quantum * self.quantum + self.overlap
        self.shifts = Shifts(settings.shifts, config, seed)
        shifted = np.maximum(clips.lengths - self.shifts.room, np.minimum(clips.lengths, receptive))
        self.lengths = np.minimum(shifted, self.crop)

    def batches(self, start: int) -> Iterator[Batch]:
        """Endless batches, from number `start` on."""
        limit = int(self.settings.batch_seconds * SAMPLE_RATE)
        lengths = np.maximum(self.lengths - self.overlap, 1)
        for epoch, clips in endless_batches(lengths, limit, self.quantum, self.seed, start):
            yield self.batch_of(epoch, clips)

    def batch_of(self, epoch: int, clips: list[int]) -> Batch:
        """The batch of the clips with these indices. The epoch decides where long clips are cropped."""
        longest = int(np.maximum(self.lengths[clips] - self.overlap, 1).max())
        padded = padded_frames(self.network.config, longest) * frame_stride(self.network.config) + self.overlap
        return Batch(epoch, clips, float(self.lengths[clips].sum() / SAMPLE_RATE), (len(clips), padded))

    def utterance_ids(self, batch: Batch) -> list[str]:
        return self.clips.take(batch.clips).column("utterance_id")

    def trainable(self, update: int) -> set[str]:
        """Names of all parameters of the network, without those of a frozen front-end."""
        names = {name for name, _ in self.network.named_parameters()}
        return {n for n in names if ".feature_extractor." not in n} if self.freeze_front_end else names

    def masks(self, batch: Batch, ranks: Ranks) -> Masks:
        """Draw the random spans of frames that are masked in a batch."""
        config, settings = self.network.config, self.settings
        frames = frame_counts(config, torch.from_numpy(self.lengths[batch.clips]))
        size = int(frame_counts(config, torch.tensor(batch.shape[1])))
        mask_BT = span_mask(frames, size, settings.mask_share, settings.mask_length)
        index_BN, real_BN = masked_frames(mask_BT)
        counts = real_BN.sum(1)
        tensors = (moved(tensor, ranks.device) for tensor in (frames, mask_BT, index_BN, real_BN))
        return Masks(*tensors, counts, int(counts.sum()))

    def audio(self, batch: Batch, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised and padded crops of a part of a batch (B, S), and their sample counts (B,)."""
        crops = [self._crop(batch.clips[i], batch.epoch) for i in positions]
        return prepared_audio(self.network.config, crops, batch.shape[1])

    def features(self, batch: Batch, positions: list[int]) -> torch.Tensor:
        """Front-end features of a part of a batch (B, T, C)."""
        return front_end(self.network.base_model, *self.audio(batch, positions))

    def _crop(self, index: int, epoch: int) -> torch.Tensor:
        samples = self.clips.audio(index)
        spare = len(samples) - self.lengths[index]
        if spare > self.shifts.room:
            begin = int(np.random.default_rng([self.seed, epoch, index]).integers(spare + 1))
        else:
            begin = min(self.shifts.draw(epoch, index, len(samples)), spare)
        return torch.from_numpy(samples[begin : begin + self.lengths[index]].copy())

    def collapse_advice(self, curve: list[dict[str, float]]) -> str | None:
        """Advice from `remedy` on the rows of the last `patience` updates; None before so many updates have passed."""
        since = curve[-1]["step"] - self.settings.patience
        rows = [row for row in curve if row["step"] > since and self.loss_name in row]
        return self.remedy(rows) if since >= 0 and rows else None

    def remedy(self, rows: list[dict[str, float]]) -> str | None:
        """Name a collapse that all of these learning curve rows show, and what to change; None if there is none.

        Here: in every row, the loss is above 99.5 % of the trivial predictor's.
        """
        if any(row[self.loss_name] <= 0.995 * row[self.trivial_name] for row in rows):
            return None
        loss, trivial = rows[-1][self.loss_name], rows[-1][self.trivial_name]
        patience = self.settings.patience
        return (
            f"for {patience} updates the loss has stayed at that of a network that knows nothing ({loss:.3f} of "
            f"{trivial:.3f}); raise learning_rate, batch_seconds or updates, or raise patience if the rate is rising"
        )
