"""Encoders of the wav2vec 2.0 families, as transformers builds them: their initialisation and their forward pass.

Shape suffixes: B utterances, T frames, C channels, D hidden channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config

from headstart.encoder.chunked_attention import frames_of_chunks, transform_chunks
from headstart.encoder.chunks import chunks_of
from headstart.encoder.front_end import length_mask, takes_log_mel
from headstart.encoder.padding import padding_kept_out
from headstart.features.audio import SAMPLE_RATE
from headstart.study.model import Model

SHORTEST_FILTER = 200  # samples (12.5 ms): a shorter first convolution cannot tell low frequencies apart


def new_config(model: Model) -> Wav2Vec2Config:
    """transformers' configuration of a wav2vec 2.0 encoder for training from random weights.

    It is the variant with layer norm in the front-end ("large"), because its output does not depend on padding and it
    can be trained from scratch.
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


class EncoderWithHeads(torch.nn.Module):
    """An encoder of any family, to which a stage adds output layers as attributes.

    The encoder's weights are named as in transformers' models with a head, so that transformers can load them from a
    checkpoint.
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
    """Whether the first convolution is long enough to be initialised with mel filters."""
    return network.config.conv_kernel[0] >= SHORTEST_FILTER


def front_end_stays(network: Any, start: str | None, freeze: bool) -> bool:
    """Whether to freeze the front-end.

    It is as `freeze` says, except for a new encoder (`start` is None) whose first convolution is too short for a
    filterbank: its weights are random and must be trained.
    """
    return freeze and (start is not None or begins_as_filterbank(network))


def norm_on_top(config: Any) -> bool:
    """Whether the layer norm of the encoder's Transformer comes after its layers; otherwise, if any, before them."""
    return getattr(config, "do_stable_layer_norm", config.model_type == "wav2vec2-conformer")


def initialise(network: Any) -> None:
    """Change transformers' random initial weights of a new wav2vec 2.0 network: the front-end gets mel filters."""
    if begins_as_filterbank(network):
        initialise_filterbank(*(layer.conv for layer in network.base_model.feature_extractor.conv_layers[:2]))


@torch.no_grad()
def initialise_filterbank(
    first: torch.nn.Conv1d, second: torch.nn.Conv1d, low_hz: float = 60.0, high_hz: float = 7600.0
) -> None:
    """Initialise the first two convolutions of a new encoder with mel-spaced band-pass filters and random mixtures.

    The first layer has four filters for each band: a windowed cosine, a windowed sine, and their negatives. The second
    layer's random weights are equal for these four, so that it sums their activations, which approximates the band's
    envelope independently of the phase. Filters have unit norm times the square root of their centre frequency,
    relative to the mean, which compensates for the falling spectrum of speech. Like Zeghidour et al. 2018
    (arXiv 1711.01161), this is only an initialisation: the filters can be trained.

    Args:
        first: convolution of the audio, in place; at least `SHORTEST_FILTER` samples long.
        second: convolution of its output, in place.
        low_hz: centre frequency of the lowest band.
        high_hz: centre frequency of the highest band.
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
    """Configuration keys that set hidden and activation dropout to `p`, and all other dropout to 0."""
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
    """Draw random spans to mask in each row, as in wav2vec 2.0.

    Every row gets round(share * length / span) spans, at least one. Their starts are drawn without replacement, but
    spans may overlap: a share of 0.65 masks about half of the positions. A row that is not longer than a span is
    masked completely.

    Args:
        lengths: valid length of each row (B,).
        size: length of the rows of the result, padding included.
        share: masked share of a row, if no spans overlapped; 0 masks nothing.
        span: length of a span.

    Returns:
        Mask, bool (B, size); false in padding.
    """
    if share <= 0:
        return torch.zeros(len(lengths), size, dtype=torch.bool)
    starts_possible = (lengths - span + 1).clamp(min=1)
    count = (share * lengths / span).round().long().clamp(min=1).minimum(starts_possible)
    draw = torch.rand(len(lengths), size, generator=generator).masked_fill(~length_mask(starts_possible, size), 2.0)
    rank = draw.argsort(dim=1).argsort(dim=1)  # possible starts in uniformly random order, then all others
    is_start = rank < count[:, None]
    # A frame is masked if one of the last `span` frames, itself included, is a start.
    covered = F.max_pool1d(F.pad(is_start.float(), (span - 1, 0))[:, None], span, 1)[:, 0].bool()
    return covered & length_mask(lengths, size)


def encode(
    encoder: Any,
    features_BTC: torch.Tensor,
    frames: torch.Tensor,
    mask_BT: torch.Tensor | None = None,
    mask_BD: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward pass from front-end features: feature projection, masking, and the Transformer.

    The output of a clip is the one that transformers computes for the clip alone; the batch's padding has no effect. An
    encoder with chunked attention has an output of its own (chunked_attention.py).

    Args:
        encoder: transformers' base model of any family.
        features_BTC: from `front_end`.
        frames: valid frames of each clip, from `frame_counts` (B,).
        mask_BT: frames to replace by the learnt mask embedding, if any.
        mask_BD: hidden channels to set to zero, if any.

    Returns:
        Output of the Transformer (B, T, D), and the normalised front-end features (B, T, C), which wav2vec 2.0's
        quantiser takes.
    """
    projected = encoder.feature_projection(features_BTC)
    hidden, normed = projected if isinstance(projected, tuple) else (projected, features_BTC)
    if mask_BT is not None:
        hidden = torch.where(mask_BT[:, :, None], encoder.masked_spec_embed.to(hidden.dtype), hidden)
    if mask_BD is not None:
        hidden = hidden.masked_fill(mask_BD[:, None, :], 0.0)
    if takes_log_mel(encoder.config):
        # A last frame that is half padding, marked by zeros in `front_end`, is decoded but masked in attention.
        last_BC = features_BTC[torch.arange(len(frames), device=frames.device), frames.clamp(min=1) - 1]
        frames = frames - (last_BC == 0).all(1).long()
    valid_BT = length_mask(frames, features_BTC.shape[1])
    keep_exact(encoder)
    if chunks := chunks_of(encoder.config):
        return frames_of_chunks(transform_chunks(encoder, hidden, valid_BT, chunks), chunks, hidden.shape[1]), normed
    with padding_kept_out(encoder, valid_BT):
        return encoder.encoder(hidden, attention_mask=valid_BT).last_hidden_state, normed


def layer_outputs(
    encoder: Any, features_BTC: torch.Tensor, frames: torch.Tensor, mask_BT: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Input of the first Transformer layer and outputs of all layers, in a forward pass by `encode`.

    These are the `hidden_states` that transformers computes for each clip alone. The output of `encode` is the last of
    them, after one more layer norm where `norm_on_top`.

    Args:
        encoder, features_BTC, frames, mask_BT: as in `encode`.

    Returns:
        One tensor more than there are layers, each (B, T, D).
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
    if chunks := chunks_of(encoder.config):
        return [frames_of_chunks(state, chunks, features_BTC.shape[1]) for state in found]
    return found


def keep_exact(encoder: Any) -> None:
    """Keep batch-norm statistics and rotary position frequencies as they are in the checkpoint.

    Batch norm (in conformers and some HuBERTs) uses its pre-trained statistics in training too, so that the output does
    not depend on the batch or its padding, and is the same in training and in transcription. Rotary frequencies stay in
    float32 when the weights are cast to bfloat16, which cannot represent all integer positions above 256.
    """
    for module in encoder.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    rotary = getattr(encoder.encoder, "embed_positions", None)
    if hasattr(rotary, "inv_freq") and rotary.inv_freq.dtype != torch.float32:
        rotary.inv_freq = type(rotary)(encoder.config).inv_freq.to(rotary.inv_freq.device)
        rotary.cached_sequence_length = None
