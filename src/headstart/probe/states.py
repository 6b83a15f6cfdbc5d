"""The hidden states of an encoder for all frames of some clips, kept in memory.

Shape suffixes: L layers, N frames of all clips, T frames of one clip, D hidden channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headstart.analyse.analysis import BATCH_SECONDS, layers_of
from headstart.encoder.front_end import frame_counts
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.score.transcription import batches_by_length


@dataclass(frozen=True)
class States:
    """Hidden states of some layers, with the frames of all clips one after the other.

    Attributes:
        values: (L, N, D), float32.
        starts: of each clip, its first frame.
        frames: of each clip, its number of frames.
    """

    values: torch.Tensor
    starts: np.ndarray
    frames: np.ndarray

    def clip(self, index: int) -> torch.Tensor:
        """The states of one clip, (L, T, D)."""
        return self.values[:, self.starts[index] : self.starts[index] + self.frames[index]]

    def batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of some clips, (L, B, T, D), padded with those of other frames, and their frame counts (B,)."""
        frames = self.frames[indices]
        offsets = np.minimum(np.arange(frames.max())[None], frames[:, None] - 1)
        rows = torch.from_numpy(self.starts[indices][:, None] + offsets)
        return self.values[:, rows], torch.from_numpy(frames)


def states_of(encoder: Any, clips: Clips, layers: range) -> States:
    """The hidden states of a frozen encoder for all clips, each as if it were alone, in one pass over the audio.

    Args:
        encoder: transformers' base model, in evaluation mode.
        layers: which to keep; 0 is the input of the first Transformer layer.
    """
    frames = frame_counts(encoder.config, torch.tensor(clips.lengths)).numpy()
    starts = np.cumsum(frames) - frames
    values = torch.empty(len(layers), int(frames.sum()), encoder.config.hidden_size)
    for batch in batches_by_length(clips.lengths, int(BATCH_SECONDS * SAMPLE_RATE)):
        for index, outputs in zip(batch, layers_of(encoder, clips, batch), strict=True):
            for kept, layer in zip(values, layers, strict=True):
                kept[starts[index] : starts[index] + frames[index]] = outputs[layer]
    return States(values, starts, frames)


def standardise(train: States, dev: States) -> None:
    """Standardise both in place, by the means and variances of the channels of `train`, and divide by the root of D.

    A linear layer can learn nothing more or less for it, but one learning rate then suits all layers and all widths.
    """
    mean_L1D = train.values.mean(1, keepdim=True)
    deviation_L1D = train.values.std(1, keepdim=True).clamp(min=1e-6)
    scale_L1D = 1 / (deviation_L1D * train.values.shape[2] ** 0.5)
    for states in (train, dev):
        states.values.sub_(mean_L1D).mul_(scale_L1D)
