"""wav2vec 2.0 encoders: made, loaded, run and saved in transformers' format.

Shape suffixes: B utterances, S samples, T frames, C channels, M masked frames.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor
from transformers.models.auto import AutoModelForCTC
from transformers.utils import logging as transformers_logging

from headstart.config import Model
from headstart.features import SAMPLE_RATE
from headstart.files import write_json, written_whole
from headstart.logs import HeadstartError
from headstart.text import BLANK, UNKNOWN, WORD_BOUNDARY

# Weights that a stage drops on purpose (quantiser, old output layer) are no news, and a log file has no progress bars.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

SHORTEST_FILTER = 200  # samples (12.5 ms): a shorter first convolution cannot tell low frequencies apart
FRAMES_QUANTUM = 32  # batches are padded to multiples of so many frames: every new shape costs time


def new_config(model: Model) -> Wav2Vec2Config:
    """transformers' configuration of an encoder that starts from random weights.

    The layer-norm ("large") variant: its output does not depend on padding, and it trains from scratch.
    """
    return Wav2Vec2Config(
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.intermediate_size,
        conv_dim=model.conv_dim,
        conv_kernel=model.conv_kernel,
        conv_stride=model.conv_stride,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=model.position_kernel,
        num_conv_pos_embedding_groups=model.position_groups,
        num_codevector_groups=model.codebooks,
        num_codevectors_per_group=model.codebook_entries,
        codevector_dim=model.codevector_size,
        proj_codevector_dim=model.projection_size,
        pad_token_id=0,
        **dropouts(0.0),
    )


def begins_as_filterbank(network: Any) -> bool:
    """Whether the first convolution is long enough to begin as mel filters."""
    return network.config.conv_kernel[0] >= SHORTEST_FILTER


def initialise(network: Any) -> None:
    """What a new wav2vec 2.0 network starts with instead of transformers' initial values."""
    if begins_as_filterbank(network):
        initialise_filterbank(*(layer.conv for layer in network.base_model.feature_extractor.conv_layers[:2]))


@torch.no_grad()
def initialise_filterbank(
    first: torch.nn.Conv1d, second: torch.nn.Conv1d, low_hz: float = 60.0, high_hz: float = 7600.0
) -> None:
    """Set the first two convolutions of a new encoder to envelopes of mel-spaced bands and random mixtures of them.

    The first layer holds, for each band, a windowed cosine, a sine and their negatives. The second layer's random
    weights are the same for these four, so that it sees the sum of four rectified phases: the band's envelope,
    whatever the phase. Filters have unit norm times the square root of their frequency over the mean, which evens out
    the falling spectrum of speech. All of it is trained like any other weight; a filterbank is only where it begins
    (as in Zeghidour et al. 2018, arXiv 1711.01161).
    """
    kernel, bands = first.kernel_size[0], first.out_channels // 4
    mel = torch.linspace(*(2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz)), bands)
    hz_F = 700 * (10 ** (mel / 2595) - 1)
    time_S = (torch.arange(kernel) - (kernel - 1) / 2) / SAMPLE_RATE
    phase_FS = 2 * math.pi * hz_F[:, None] * time_S[None]
    filters = torch.cat([phase_FS.cos(), phase_FS.sin()]) * torch.hann_window(kernel, periodic=False)
    filters = F.normalize(filters, dim=1) * (hz_F / hz_F.mean()).sqrt().repeat(2)[:, None]
    first.weight[: 4 * bands, 0] = torch.cat([filters, -filters])
    second.weight[:, : 4 * bands] = second.weight[:, :bands].repeat(1, 4, 1)


def dropouts(p: float) -> dict[str, float]:
    """Configuration keys that set the encoder's dropout to `p`; attention and input stay without."""
    return {
        "hidden_dropout": p,
        "activation_dropout": p,
        "attention_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.0,
        "feat_quantizer_dropout": 0.0,
        "layerdrop": 0.0,
    }


class CheckpointError(HeadstartError):
    """A checkpoint folder that cannot be a start."""


def load_config(folder: str | Path) -> Any:
    """The configuration of a local checkpoint; raises `CheckpointError` naming what is missing."""
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; a start is a checkpoint folder in Hugging Face format")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not (config.mask_time_prob or config.mask_feature_prob):
        config.mask_time_prob = 0.05  # without it transformers makes no embedding of masked frames, which we need
    return config


def load_weights(kind: type, folder: str | Path, config: Any) -> tuple[Any, set[str]]:
    """A network of class `kind` with a local checkpoint's weights, and the names of those that it lacks.

    Raises:
        CheckpointError: it cannot be read, or lacks weights of the encoder, which would silently stay random.
    """
    try:
        network, found = kind.from_pretrained(
            folder, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be loaded: {error}") from None
    missing = set(found["missing_keys"]) | {key[0] for key in found["mismatched_keys"]}
    lost = sorted(name for name in missing if "encoder." in name or "feature_" in name)
    if lost:
        raise CheckpointError(
            f"{folder}: the checkpoint has no weights for {len(lost)} parameters of its encoder, such as {lost[0]}"
        )
    return network, missing


def ctc_model(start: str | Path | None, model: Model | None, vocabulary: dict[str, int], dropout: float) -> Any:
    """An encoder with a new CTC output layer over `vocabulary`.

    Args:
        start: checkpoint folder of a pre-trained start (its output layer, if any, is dropped), or None for random
            weights of shape `model`.
    """
    config = load_config(start) if start else new_config(model)
    config.update({**dropouts(dropout), "vocab_size": len(vocabulary), "pad_token_id": vocabulary[BLANK]})
    config.update({"ctc_zero_infinity": True, "bos_token_id": None, "eos_token_id": None, "tokenizer_class": None})
    network = AutoModelForCTC.from_config(config)
    if not start:
        initialise(network)
    else:
        encoder, _ = load_weights(type(network.base_model), start, config)
        network.base_model.load_state_dict(encoder.state_dict())
    return network


def save_ctc(network: Any, weights: dict[str, torch.Tensor], vocabulary: dict[str, int], folder: Path) -> None:
    """Write a fine-tuned model with its tokenizer and feature extractor: `transformers.pipeline` loads the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "vocab.json") as temporary:
        write_json(temporary, vocabulary)
        tokenizer = Wav2Vec2CTCTokenizer(
            str(temporary),
            pad_token=BLANK,
            unk_token=UNKNOWN,
            word_delimiter_token=WORD_BOUNDARY,
            bos_token=None,
            eos_token=None,
        )
    tokenizer.save_pretrained(folder)
    save_encoder(network, weights, folder)


def save_encoder(network: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write config.json, preprocessor_config.json and, last and whole, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = network.config.to_diff_dict() | {"architectures": [type(network).__name__], "dtype": "float32"}
    write_json(folder / "config.json", {key: value for key, value in config.items() if not key.startswith("_")})
    Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE,
        padding_value=0.0,
        do_normalize=True,
        # Group-norm models were trained without one.
        return_attention_mask=network.config.feat_extract_norm == "layer",
    ).save_pretrained(folder)
    with written_whole(folder / "model.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in weights.items()}, temporary, metadata={"format": "pt"})


def ship(start: Path, output: Path) -> None:
    """Copy a pre-trained start with float16 weights; raises `CheckpointError` when it is not a finished start."""
    load_config(start)
    if not (start / "model.safetensors").is_file():
        raise CheckpointError(f"{start}: no model.safetensors; the start has not been trained to its end")
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "recipe.json", "curve.parquet"):
        if (start / name).is_file():
            shutil.copyfile(start / name, output / name)
    weights = {name: weight.half() for name, weight in load_file(start / "model.safetensors").items()}
    with written_whole(output / "model.safetensors") as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})


# ---------------------------------------------------------------------------------------------- forward pass


def frame_counts(config: Any, samples: torch.Tensor) -> torch.Tensor:
    """Frames that the front-end makes of clips with so many samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples.clamp(min=0)


def samples_for(config: Any, frames: int) -> int:
    """Fewest samples of which the front-end makes `frames` frames."""
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def normalised_audio(clips: list[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-mean, unit-variance clips padded with zeros, as transformers' feature extractor makes them.

    Args:
        clips: int16 or float samples of each clip, shape (S_i,).
        length: samples to pad to.

    Returns:
        float32 audio (B, length) and the clips' sample counts (B,).
    """
    audio_BS = torch.zeros(len(clips), length)
    for row, clip in zip(audio_BS, clips, strict=True):
        x = clip.float()
        # float64 statistics of integer samples; the feature extractor's epsilon, on its [-1, 1] scale.
        x = x / 32768 if clip.dtype == torch.int16 else x
        row[: len(x)] = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
    return audio_BS, torch.tensor([len(clip) for clip in clips])


def front_end(extractor: torch.nn.Module, audio_BS: torch.Tensor) -> torch.Tensor:
    """Convolutional front-end as matrix products over strided frames: transformers' result, several times faster.

    A kernel of k samples at stride s spans ceil(k / s) blocks of s samples. Each block is multiplied once by all of
    the kernel's parts, and shifted products are added up, so that nothing is copied as a convolution's unfolding would.

    Returns:
        Features (B, T, C).
    """
    layers = extractor.conv_layers
    if not all(hasattr(layer, "layer_norm") and isinstance(layer.layer_norm, torch.nn.LayerNorm) for layer in layers):
        return extractor(audio_BS).transpose(1, 2)  # group-norm front-ends normalise over time
    h_BTC = audio_BS[:, :, None]
    for layer in layers:
        kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        batch, time, channels = h_BTC.shape
        parts, frames = math.ceil(kernel / stride), (time - kernel) // stride + 1
        blocks = frames + parts - 1
        short = blocks * stride - time
        h_BTC = F.pad(h_BTC, (0, 0, 0, short)) if short > 0 else h_BTC[:, : blocks * stride]
        # (out, in, kernel) -> one row for each (part, out), over (stride, in)
        weight = F.pad(layer.conv.weight, (0, parts * stride - kernel)).unflatten(2, (parts, stride))
        weight = weight.permute(2, 0, 3, 1).reshape(-1, stride * channels)
        products = F.linear(h_BTC.reshape(batch, blocks, stride * channels), weight).unflatten(2, (parts, -1))
        h_BTC = sum(products[:, p : p + frames, p] for p in range(parts))
        if layer.conv.bias is not None:
            h_BTC = h_BTC + layer.conv.bias
        h_BTC = layer.activation(layer.layer_norm(h_BTC))
    return h_BTC


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where a position is within its row's length: (B, size)."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def span_mask(
    lengths: torch.Tensor, size: int, share: float, span: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Random spans to mask in each row, drawn in torch.

    Every row gets round(share * length / span) spans, at least one, with starts drawn without replacement, so that
    spans overlap as in wav2vec 2.0 (a share of 0.65 masks about half of the frames). Rows not longer than a span get
    one span at a random place, cut off at the end.

    Args:
        lengths: valid length of each row (B,).
        size: length of a row of the result.

    Returns:
        bool mask (B, size).
    """
    if share <= 0:
        return torch.zeros(len(lengths), size, dtype=torch.bool)
    starts_possible = (lengths - span + 1).clamp(min=1)
    count = (share * lengths / span).round().long().clamp(min=1).minimum(starts_possible)
    draw = torch.rand(len(lengths), size, generator=generator).masked_fill(~length_mask(starts_possible, size), 2.0)
    rank = draw.argsort(dim=1).argsort(dim=1)  # a uniform random order of the possible starts
    is_start = rank < count[:, None]
    # A frame is masked when one of the `span` frames up to it is a start.
    covered = F.max_pool1d(F.pad(is_start.float(), (span - 1, 0))[:, None], span, 1)[:, 0].bool()
    return covered & length_mask(lengths, size)


def encode(
    encoder: Any,
    features_BTC: torch.Tensor,
    frames: torch.Tensor,
    mask_BT: torch.Tensor | None = None,
    mask_BD: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature projection, masking of frames (by the learnt embedding) and of channels (by zero), and Transformer.

    Returns:
        Context (B, T, hidden) and the normalised front-end features (B, T, C), which the quantiser takes.
    """
    projected = encoder.feature_projection(features_BTC)
    hidden, normed = projected if isinstance(projected, tuple) else (projected, features_BTC)
    if mask_BT is not None:
        hidden = torch.where(mask_BT[:, :, None], encoder.masked_spec_embed.to(hidden.dtype), hidden)
    if mask_BD is not None:
        hidden = hidden.masked_fill(mask_BD[:, None, :], 0.0)
    valid = length_mask(frames, features_BTC.shape[1])
    return encoder.encoder(hidden, attention_mask=valid).last_hidden_state, normed
