"""Transcription: greedy transcripts of clips by a fine-tuned network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from headstart.devices import moved
from headstart.encoder.front_end import frame_counts, front_end, prepared_audio, samples_for, waveform
from headstart.encoder.model import encode
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.text.normalisation import decode


def clip_features(
    network: Any, clips: Clips, indices: Sequence[int], size: int, shifts: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Front-end features of these clips, padded to `size` frames (B, size, C), and the frames that are real (B,).

    With `shifts`, so many samples of each clip are left out at its start.
    """
    audio = [waveform(clips, i)[shift:] for i, shift in zip(indices, shifts or [0] * len(indices), strict=True)]
    audio_BS, samples = prepared_audio(network.config, audio, samples_for(network.config, size))
    return front_end(network.base_model, audio_BS, samples), frame_counts(network.config, samples)


def batches_by_length(lengths: ArrayLike, limit: int) -> Iterator[list[int]]:
    """Indices in order of length, in batches of at most `limit` in all when padded to the longest."""
    lengths, batch = np.asarray(lengths), []
    for index in map(int, np.argsort(lengths, kind="stable")):
        if batch and (len(batch) + 1) * lengths[index] > limit:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def transcribe(network: Any, clips: Clips, vocabulary: dict[str, int], batch_seconds: float = 60.0) -> list[str]:
    """Greedy transcripts of `clips` by a fine-tuned network, in their order."""
    texts = [""] * len(clips)
    for index, logits_TV in emissions(network, clips, vocabulary, batch_seconds):
        texts[index] = greedy(logits_TV, vocabulary)
    return texts


def greedy(logits_TV: np.ndarray, vocabulary: dict[str, int]) -> str:
    """The greedy transcript: the best label of each frame, repeats and blanks removed."""
    return decode(logits_TV.argmax(-1).tolist(), vocabulary)


@torch.no_grad()
def emissions(
    network: Any, clips: Clips, vocabulary: dict[str, int], batch_seconds: float = 60.0
) -> Iterator[tuple[int, np.ndarray]]:
    """The outputs of a fine-tuned network for each clip, in order of length.

    Yields:
        The index of a clip, and its logits for the labels of the vocabulary, shape (frames, labels), float32.
    """
    shortest = samples_for(network.config, 1)  # a clip of no frame is padded to one, and has the empty transcript
    for batch in batches_by_length(clips.lengths, int(batch_seconds * SAMPLE_RATE)):
        audio = [waveform(clips, i) for i in batch]
        audio_BS, samples = prepared_audio(network.config, audio, max(shortest, int(clips.lengths[batch].max())))
        features_BTC = front_end(network.base_model, audio_BS, samples)
        frames = frame_counts(network.config, samples)
        logits_BTV = _logits(network, features_BTC, frames, vocabulary).float().cpu().numpy()
        for index, logits_TV, count in zip(batch, logits_BTV, frames.tolist(), strict=True):
            yield index, logits_TV[:count]


@torch.no_grad()
def best_paths(
    network: Any, features_BTC: torch.Tensor, frames: torch.Tensor, vocabulary: dict[str, int]
) -> list[list[int]]:
    """The best label of each valid frame, as an index of the vocabulary, from front-end features."""
    best_BT = _logits(network, features_BTC, frames, vocabulary).argmax(-1).cpu()
    return [path[:count].tolist() for path, count in zip(best_BT, frames.tolist(), strict=True)]


def _logits(network: Any, features_BTC: torch.Tensor, frames: torch.Tensor, vocabulary: dict[str, int]) -> torch.Tensor:
    context_BTD, _ = encode(network.base_model, features_BTC, moved(frames, features_BTC.device))
    # A label that no training transcript has (bos, padding of the output layer) is never the answer.
    return network.lm_head(context_BTD)[..., : len(vocabulary)]
