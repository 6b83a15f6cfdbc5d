"""Frames of audio that languages are compared by: of a layer of an encoder, or cepstral coefficients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clusters import mfcc, slopes

BATCH_SECONDS = 60.0


class Sounds(Protocol):
    """Clips of a split, or of any recordings: `Clips`, or `Samples`."""

    lengths: Sequence[int]

    def __len__(self) -> int: ...

    def audio(self, index: int) -> NDArray[np.int16]: ...

    def take(self, indices: Iterable[int]) -> Sounds: ...


class Samples:
    """Clips that are in memory: int16 samples at 16 kHz."""

    def __init__(self, clips: Sequence[NDArray[np.int16]]):
        self.clips, self.lengths = clips, [len(clip) for clip in clips]

    def __len__(self) -> int:
        return len(self.clips)

    def audio(self, index: int) -> NDArray[np.int16]:
        return self.clips[index]

    def take(self, indices: Iterable[int]) -> Samples:
        return Samples([self.clips[index] for index in indices])


def frames_of(sounds: Sounds, encoder: str | None, layer: int | None) -> list[NDArray[np.float32]]:
    """The frames of each clip, about 50 a second: (T, D) each.

    Args:
        sounds: the clips.
        encoder: checkpoint folder; None for cepstral coefficients.
        layer: of the encoder; None for the middle one.

    Raises:
        DataError: the encoder has no such layer.
        CheckpointError: it cannot be loaded.
    """
    if encoder is None:
        return [cepstral_frames(sounds.audio(index)) for index in range(len(sounds))]
    return _encoder_frames(sounds, _encoder(encoder), layer, encoder)


def cepstral_frames(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Cepstral coefficients less their mean over the clip, and their slopes, every 20 ms: (T, 26).

    What a microphone or a room does to all frames alike is in the mean, and leaves with it.
    """
    coefficients = mfcc(samples)
    both = np.hstack([coefficients - coefficients.mean(0), slopes(coefficients)])
    return both[::2].astype(np.float32)


@lru_cache(maxsize=1)
def _encoder(folder: str) -> Any:
    from headstart.encoder.checkpoints import encoder_model

    return encoder_model(folder, None, 0.0).base_model.eval()


def _encoder_frames(sounds: Sounds, encoder: Any, layer: int | None, folder: str) -> list[NDArray[np.float32]]:
    from headstart.analyse.analysis import layers_of
    from headstart.score.transcription import batches_by_length

    layers = encoder.config.num_hidden_layers
    layer = (layers + 1) // 2 if layer is None else layer
    if layer > layers:
        raise DataError(f"similarity.acoustic.layer: {Path(folder)} has {layers} layers, there is no layer {layer}")
    frames: list[NDArray[np.float32]] = [np.zeros((0, encoder.config.hidden_size), np.float32)] * len(sounds)
    for batch in batches_by_length(sounds.lengths, int(BATCH_SECONDS * SAMPLE_RATE)):
        for index, states in zip(batch, layers_of(encoder, sounds, batch), strict=True):
            frames[index] = states[layer].numpy()
    return frames
