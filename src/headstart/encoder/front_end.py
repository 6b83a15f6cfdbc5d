"""From audio to what an encoder's first layer takes: normalised audio, frame arithmetic, front-end features.

Every family but one has a convolutional front-end with weights. wav2vec2-bert takes log-mel features instead, two
10 ms frames stacked: that front-end has no weights, so it is always frozen.

Shape suffixes: B utterances, S samples, T frames, R frames of all utterances, C channels, K samples under a kernel.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from transformers import SeamlessM4TFeatureExtractor

from headstart.encoder.convolutions import convolution
from headstart.features.audio import SAMPLE_RATE

FRAMES_QUANTUM = 32  # batches are padded to multiples of so many frames: every new shape costs time
MEL_WINDOW, MEL_HOP = 400, 160  # samples, fixed in transformers' extractor
MEL_STACK = 2  # mel frames in a frame
MEL_CHANNELS = 80 * MEL_STACK


def takes_log_mel(config: Any) -> bool:
    """Whether the encoder takes log-mel features, and so has no convolutional front-end."""
    return config.model_type == "wav2vec2-bert"


@cache
def log_mel_extractor() -> SeamlessM4TFeatureExtractor:
    """transformers' log-mel features, normalised over each clip: what wav2vec2-bert takes."""
    return SeamlessM4TFeatureExtractor(sampling_rate=SAMPLE_RATE, stride=MEL_STACK)


# ------------------------------------------------------------------------------------------- frame arithmetic


def frame_counts(config: Any, samples: torch.Tensor) -> torch.Tensor:
    """Frames that the front-end makes of clips with so many samples.

    A log-mel clip with an odd number of mel frames has a last frame that is half padding. transformers hides it from
    attention but decodes it, so it counts (see `encode` in model.py); a clip of one mel frame cannot be normalised.
    """
    if takes_log_mel(config):
        mel = torch.div(samples - MEL_WINDOW, MEL_HOP, rounding_mode="floor") + 1
        return torch.where(mel < 2, 0, torch.div(mel + MEL_STACK - 1, MEL_STACK, rounding_mode="floor"))
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples.clamp(min=0)


def samples_for(config: Any, frames: int) -> int:
    """Fewest samples of which the front-end makes `frames` frames."""
    if takes_log_mel(config):
        return (max(2, MEL_STACK * (frames - 1) + 1) - 1) * MEL_HOP + MEL_WINDOW
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def frame_stride(config: Any) -> int:
    """Samples from one frame to the next."""
    return MEL_HOP * MEL_STACK if takes_log_mel(config) else math.prod(config.conv_stride)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where a position is within its row's length: (B, size)."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


# ------------------------------------------------------------------------------------------- audio and features


def prepared_audio(config: Any, clips: list[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips padded with zeros, as transformers' feature extractor makes them for this encoder.

    Each has zero mean and unit variance, unless the encoder was trained on audio as it is (`config.do_normalize`) or
    normalises its log-mel features instead.

    Args:
        clips: int16 or float samples of each clip, shape (S_i,).
        length: samples to pad to.

    Returns:
        float32 audio (B, length) and the clips' sample counts (B,).
    """
    normalise = getattr(config, "do_normalize", True) and not takes_log_mel(config)
    audio_BS = torch.zeros(len(clips), length)
    for row, clip in zip(audio_BS, clips, strict=True):
        x = clip.float()
        # The feature extractor's epsilon, on its [-1, 1] scale.
        x = x / 32768 if clip.dtype == torch.int16 else x
        row[: len(x)] = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7) if normalise else x
    return audio_BS, torch.tensor([len(clip) for clip in clips])


def front_end(encoder: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Front-end features of a batch; valid frames are those of each clip alone, whatever the padding.

    Args:
        encoder: transformers' base model of any family; its convolutions run on its device and in its type.
        audio_BS: float32 audio from `prepared_audio`, on any device.
        samples: valid samples of each clip (B,).

    Returns:
        Features (B, T, C).
    """
    weight = encoder.feature_projection.projection.weight
    if takes_log_mel(encoder.config):
        return log_mel(encoder.config, audio_BS, samples).to(weight.device, weight.dtype)
    layers, stride = encoder.feature_extractor.conv_layers, frame_stride(encoder.config)
    batch, time = audio_BS.shape
    # Whole strides: then every layer's input splits into blocks, and the batch is one long sequence of them.
    audio_BS = F.pad(audio_BS.to(weight.device, weight.dtype), (0, -time % stride))
    h_RC = audio_BS.reshape(-1, 1)
    for layer in layers:
        if isinstance(getattr(layer, "layer_norm", None), torch.nn.GroupNorm):
            h_RC = group_normed_convolution(layer, audio_BS, samples.to(weight.device)).flatten(0, 1)
        else:
            h_RC = convolution(layer.conv, h_RC)
            if hasattr(layer, "layer_norm"):
                h_RC = layer.layer_norm(h_RC)
        h_RC = layer.activation(h_RC)
    return h_RC.view(batch, -1, h_RC.shape[1])[:, : int(frame_counts(encoder.config, torch.tensor(time)))]


def log_mel(config: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """transformers' log-mel features of each clip alone, in float32: (B, T, C).

    Padding is zero, and so is a last frame that is half padding: by that `encode` knows it.
    """
    size = int(frame_counts(config, torch.tensor(audio_BS.shape[1])))
    features_BTC = torch.zeros(len(audio_BS), size, MEL_CHANNELS)
    frames = frame_counts(config, samples).tolist()
    for row, clip, length, count in zip(features_BTC, audio_BS.float().cpu(), samples.tolist(), frames, strict=True):
        if count:
            made = log_mel_extractor()(clip[:length].numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
            row[:count] = made["input_features"][0] * made["attention_mask"][0, :, None]
    return features_BTC


def group_normed_convolution(layer: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """The first layer of a group-norm front-end: a convolution of audio, normalised over each clip's own frames.

    Over the frames of a clip, a filter's outputs w·x have mean w·E[x] and variance w·Cov[x]·w, so that the mean and
    covariance of the few samples under the kernel give every channel's statistics, and normalising is one more scale
    of the filter and one offset. Nothing passes over the (T, C) outputs, and padding is in no statistic. The
    convolution's bias would be taken off again with the mean.

    Args:
        layer: transformers' layer with `conv` and a `layer_norm` of one channel a group.
        audio_BS: audio (B, S), S a multiple of the stride.
        samples: valid samples of each clip (B,).

    Returns:
        Normalised outputs (B, S / stride, C).
    """
    conv, norm = layer.conv, layer.layer_norm
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    frames = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    windows_BTK = F.pad(audio_BS, (0, kernel - stride)).unfold(1, kernel, stride)
    # float64: a filter may suppress nearly all of what the covariance holds.
    valid_BTK = windows_BTK.double() * length_mask(frames, windows_BTK.shape[1])[:, :, None]
    count_B11 = frames.clamp(min=1)[:, None, None]
    mean_B1K = valid_BTK.sum(1, keepdim=True) / count_B11
    covariance_BKK = valid_BTK.mT @ valid_BTK / count_B11 - mean_B1K.mT @ mean_B1K
    weight_CK = conv.weight[:, 0].double()
    variance_BC = torch.einsum("ck,bkl,cl->bc", weight_CK, covariance_BKK, weight_CK).clamp(min=0.0)
    scale_BC = norm.weight / torch.sqrt(variance_BC + norm.eps)
    offset_BC = norm.bias - scale_BC * (mean_B1K @ weight_CK.T)[:, 0]
    weight_BKC = weight_CK.T * scale_BC[:, None]
    return torch.baddbmm(offset_BC[:, None].to(audio_BS.dtype), windows_BTK, weight_BKC.to(audio_BS.dtype))
