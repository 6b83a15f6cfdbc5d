"""Encoders of the wav2vec 2.0 families, as transformers builds them: new ones, and their forward pass.

Shape suffixes: B utterances, T frames, C channels, D hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config

from headstart.encoder.front_end import length_mask, takes_log_mel
from headstart.features.audio import SAMPLE_RATE
from headstart.study.sections import Model

SHORTEST_FILTER = 200  # samples (12.5 ms): a shorter first convolution cannot tell low frequencies apart


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


class WithHeads(torch.nn.Module):
    """An encoder of any family, for output layers of our own: attributes that a stage adds.

    Weights are named as transformers names those of an encoder with a head, so a checkpoint of them is one of the
    encoder's family.
    """

    def __init__(self, encoder: Any):
        super().__init__()
        self.config, self.base_model_prefix = encoder.config, encoder.base_model_prefix
        self.add_module(encoder.base_model_prefix, encoder)

    @property
    def base_model(self) -> Any:
        """The encoder."""
        return getattr(self, self.base_model_prefix)

    def set_attn_implementation(self, name: str) -> None:
        self.base_model.set_attn_implementation(name)


def begins_as_filterbank(network: Any) -> bool:
    """Whether the first convolution is long enough to begin as mel filters."""
    return network.config.conv_kernel[0] >= SHORTEST_FILTER


def front_end_stays(network: Any, start: str | None, freeze: bool) -> bool:
    """Whether the front-end is kept as it is, if asked: random weights that are no filterbank never are."""
    return freeze and (start is not None or begins_as_filterbank(network))


def norm_on_top(config: Any) -> bool:
    """Whether an encoder's own layer norm follows its layers; otherwise, if there is one, it precedes them."""
    return getattr(config, "do_stable_layer_norm", config.model_type == "wav2vec2-conformer")


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


# ---------------------------------------------------------------------------------------------- forward pass


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

    The context of a clip is transformers' for that clip alone, whatever padding the batch adds.

    Args:
        encoder: transformers' base model of any family.
        features_BTC: from `front_end`.
        frames: each clip's `frame_counts` (B,).

    Returns:
        Context (B, T, hidden) and the normalised front-end features (B, T, C), which the quantiser takes.
    """
    projected = encoder.feature_projection(features_BTC)
    hidden, normed = projected if isinstance(projected, tuple) else (projected, features_BTC)
    if mask_BT is not None:
        hidden = torch.where(mask_BT[:, :, None], encoder.masked_spec_embed.to(hidden.dtype), hidden)
    if mask_BD is not None:
        hidden = hidden.masked_fill(mask_BD[:, None, :], 0.0)
    if takes_log_mel(encoder.config):
        # A last frame that is half padding, which `front_end` leaves at zero, is decoded but not attended to.
        last_BC = features_BTC[torch.arange(len(frames), device=frames.device), frames.clamp(min=1) - 1]
        frames = frames - (last_BC == 0).all(1).long()
    valid_BT = length_mask(frames, features_BTC.shape[1])
    keep_exact(encoder)
    with padding_kept_out(encoder, valid_BT):
        return encoder.encoder(hidden, attention_mask=valid_BT).last_hidden_state, normed


def layer_outputs(
    encoder: Any, features_BTC: torch.Tensor, frames: torch.Tensor, mask_BT: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """What the first Transformer layer takes and what each layer gives, by the path of `encode`.

    These are transformers' `hidden_states` of each clip alone. With stable layer norm (as in new encoders) `encode`'s
    context is the last of them after one more layer norm, otherwise it is the last.

    Args:
        encoder, features_BTC, frames, mask_BT: as in `encode`.

    Returns:
        One more than there are layers, each (B, T, hidden).
    """
    found: list[torch.Tensor] = []

    def taken(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found.append(inputs[0])

    def given(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    layers = encoder.encoder.layers
    handles = [layers[0].register_forward_pre_hook(taken), *(layer.register_forward_hook(given) for layer in layers)]
    try:
        encode(encoder, features_BTC, frames, mask_BT)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def padding_kept_out(encoder: Any, valid_BT: torch.Tensor) -> Iterator[None]:
    """Every convolution of the encoder sees zeros beyond a clip's end, as it does for that clip alone.

    transformers sees to it in most families, but not in the depthwise convolutions of conformers, nor in the
    positional ones of data2vec, which are stacked, or of a HuBERT that puts batch norm before it.
    """

    def silence(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return inputs[0].masked_fill(~valid_BT[:, None], 0.0)

    # Convolutions that pad nothing are pointwise or causal: no frame sees a later one.
    reach = [m for m in encoder.encoder.modules() if isinstance(m, torch.nn.Conv1d) and m.padding[0] > 0]
    handles = [conv.register_forward_pre_hook(silence) for conv in reach]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def keep_exact(encoder: Any) -> None:
    """Keep what pre-training settled and no gradient reaches: batch-norm statistics and rotary frequencies.

    Batch norm (conformers, some HuBERTs) normalises by its pre-trained statistics in training too. It then depends on
    neither the batch nor its padding, and trains as it will transcribe. Rotary frequencies must not be rounded with
    the weights: positions beyond 256 are no bfloat16 numbers.
    """
    for module in encoder.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    rotary = getattr(encoder.encoder, "embed_positions", None)
    if hasattr(rotary, "inv_freq") and rotary.inv_freq.dtype != torch.float32:
        rotary.inv_freq = type(rotary)(encoder.config).inv_freq.to(rotary.inv_freq.device)
        rotary.cached_sequence_length = None
