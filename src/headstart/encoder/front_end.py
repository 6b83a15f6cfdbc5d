"""The front-end: normalisation of audio, the numbers of frames and samples, and the features that an encoder takes.

Every family but one has a convolutional front-end. wav2vec2-bert takes log-mel features instead, with two frames of
10 ms stacked: such a front-end has no weights, so it counts as frozen.

Shape suffixes: B utterances, S samples, T frames, R frames of all utterances, C channels, K samples under a kernel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from headstart.devices import moved
from headstart.encoder.convolutions import convolution
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips

FRAMES_QUANTUM = 32  # batches are padded to a multiple of this: fewer distinct shapes are faster
MEL_WINDOW, MEL_HOP = 400, 160  # samples, as in transformers' and Kaldi's log-mel features
MEL_STACK = 2  # mel frames that are stacked into a frame of the encoder
MEL_CHANNELS = 80 * MEL_STACK


def takes_log_mel(config: Any) -> bool:
    """Whether the encoder takes log-mel features instead of having a convolutional front-end."""
    return config.model_type == "wav2vec2-bert"


# ------------------------------------------------------------------------------------------- frame arithmetic


def frame_counts(config: Any, samples: torch.Tensor) -> torch.Tensor:
    """Number of frames that the front-end computes from clips with these numbers of samples; same shape.

    For log-mel features, an odd number of mel frames gives a last frame that is half padding. It counts, because
    transformers decodes it, though it is masked in attention (see `encode` in model.py). A clip with a single mel frame
    has no frames, because it cannot be normalised.
    """
    if takes_log_mel(config):
        mel = torch.div(samples - MEL_WINDOW, MEL_HOP, rounding_mode="floor") + 1
        return torch.where(mel < 2, 0, torch.div(mel + MEL_STACK - 1, MEL_STACK, rounding_mode="floor"))
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples.clamp(min=0)


def samples_for(config: Any, frames: int) -> int:
    """The fewest samples from which the front-end computes `frames` frames."""
    if takes_log_mel(config):
        return (max(2, MEL_STACK * (frames - 1) + 1) - 1) * MEL_HOP + MEL_WINDOW
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def frame_stride(config: Any) -> int:
    """Samples from one frame to the next."""
    return MEL_HOP * MEL_STACK if takes_log_mel(config) else math.prod(config.conv_stride)


def padded_frames(config: Any, samples: int) -> int:
    """The frames that a batch whose longest clip has `samples` is padded to: a multiple of `FRAMES_QUANTUM`."""
    return -(-samples // (FRAMES_QUANTUM * frame_stride(config))) * FRAMES_QUANTUM


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where a position is within its row's length: (B, size)."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


# ------------------------------------------------------------------------------------------- audio and features


def waveform(clips: Clips, index: int) -> torch.Tensor:
    """int16 samples of an utterance, shape (S,). A copy, because torch may write to its memory and not to the file."""
    return torch.from_numpy(clips.audio(index).copy())


def prepared_audio(config: Any, clips: list[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise clips and pad them with zeros, as transformers' feature extractor does for this encoder.

    Each clip is scaled to zero mean and unit variance, unless the encoder was pre-trained on audio that is not
    normalised (`config.do_normalize` is false) or takes log-mel features, which are normalised instead.

    Args:
        config: of the encoder.
        clips: int16 or float samples of each clip, shape (S_i,).
        length: samples to pad to.

    Returns:
        float32 audio (B, length) and the clips' sample counts (B,).
    """
    normalise = getattr(config, "do_normalize", True) and not takes_log_mel(config)
    audio_BS = torch.zeros(len(clips), length)
    for row, clip in zip(audio_BS, clips, strict=True):
        x = clip.float()
        # The feature extractor's epsilon, 1e-7, is meant for samples in [-1, 1].
        x = x / 32768 if clip.dtype == torch.int16 else x
        row[: len(x)] = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7) if normalise else x
    return audio_BS, torch.tensor([len(clip) for clip in clips])


def front_end(encoder: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Front-end features of a batch. Those of a clip's valid frames do not depend on the padding.

    Args:
        encoder: transformers' base model of any family; the features have its device and dtype.
        audio_BS: float32 audio from `prepared_audio`, on any device.
        samples: valid samples of each clip (B,).

    Returns:
        Features (B, T, C).
    """
    weight = encoder.feature_projection.projection.weight
    if takes_log_mel(encoder.config):
        return moved(log_mel(encoder.config, audio_BS, samples), weight.device).to(weight.dtype)
    layers, stride = encoder.feature_extractor.conv_layers, frame_stride(encoder.config)
    batch, time = audio_BS.shape
    # With a whole number of strides in each clip, the batch can be treated as one long sequence (see `convolution`).
    audio_BS = F.pad(moved(audio_BS, weight.device).to(weight.dtype), (0, -time % stride))
    h_RC = audio_BS.reshape(-1, 1)
    for layer in layers:
        if isinstance(getattr(layer, "layer_norm", None), torch.nn.GroupNorm):
            h_RC = group_normed_convolution(layer, audio_BS, moved(samples, weight.device)).flatten(0, 1)
        else:
            h_RC = convolution(layer.conv, h_RC)
            if hasattr(layer, "layer_norm"):
                h_RC = layer.layer_norm(h_RC)
        h_RC = layer.activation(h_RC)
    return h_RC.view(batch, -1, h_RC.shape[1])[:, : int(frame_counts(encoder.config, torch.tensor(time)))]


def log_mel(config: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Log-mel features as transformers' `SeamlessM4TFeatureExtractor` makes them, in float32: (B, T, C).

    These are Kaldi's of samples between -32768 and 32767, and each mel band of a clip is scaled to zero mean and unit
    variance. Padding is zero. A last frame that is half padding is zero too, by which `encode` recognises it.
    """
    from torchaudio.compliance.kaldi import fbank  # here, because one family needs it and it slows every job's start

    size = int(frame_counts(config, torch.tensor(audio_BS.shape[1])))
    features_BTC = torch.zeros(len(audio_BS), size, MEL_CHANNELS)
    frames = frame_counts(config, samples).tolist()
    for row, clip, length, count in zip(features_BTC, audio_BS.float().cpu(), samples.tolist(), frames, strict=True):
        if count:
            scaled = clip[None, :length] * 2**15
            bands = fbank(scaled, num_mel_bins=MEL_CHANNELS // MEL_STACK, sample_frequency=SAMPLE_RATE)
            bands = (bands - bands.mean(0)) / torch.sqrt(bands.var(0) + 1e-7)
            whole = len(bands) // MEL_STACK
            row[:whole] = bands[: whole * MEL_STACK].view(whole, MEL_CHANNELS)
    return features_BTC


def group_normed_convolution(layer: Any, audio_BS: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """The first layer of a group-norm front-end: a convolution of audio, each channel normalised over a clip's frames.

    Over the frames of a clip, the outputs w·x of a filter have mean w·E[x] and variance w·Cov[x]·w, where x are the K
    samples under the kernel. The mean and covariance of x therefore give the statistics of every channel, and the
    normalisation becomes a scale of the filter and an offset. This avoids passes over the (T, C) outputs, and leaves
    padding out of the statistics. The convolution's bias has no effect, because normalisation subtracts it.

    Args:
        layer: transformers' layer with `conv` and a `layer_norm` of one channel a group.
        audio_BS: audio; S is a multiple of the stride.
        samples: valid samples of each clip (B,).

    Returns:
        Normalised outputs (B, S / stride, C).
    """
    conv, norm = layer.conv, layer.layer_norm
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    frames = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    windows_BTK = F.pad(audio_BS, (0, kernel - stride)).unfold(1, kernel, stride)
    # In float64, because a filter may suppress nearly all of the signal's energy, and its variance is then a small
    # difference of large numbers.
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
