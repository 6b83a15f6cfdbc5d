"""Chunked attention: a Transformer that sees no audio beyond the look-ahead of each chunk, as streaming needs.

The frames of a clip are divided into chunks. Of each chunk, a block is made: its own frames, and after them copies of
the frames of its look-ahead. A frame of a block attends to all of its block, and to the own frames of some chunks
before it, but never to another block's copies. With the copies, a chunk sees its look-ahead and no more in every layer;
with a mask alone, the look-ahead of the look-ahead would be added by each layer. This is how block processing with
right context (Shi et al. 2021, arXiv 2010.10759) is trained in parallel.

The positional convolution would see frames beyond the look-ahead too: each block has its own, which sees the frames
before it and, where the block ends, the zeros that it sees at the end of a clip. So weights that were pre-trained with
full attention keep their meaning.

Where a clip is normalised as a whole, in loudness or by a group norm, all of it is needed all the same:
`chunks.whole_clip` tells.

Shape suffixes: B utterances, T frames, N blocks, W frames of a block, V frames of a block and before it, P positions in
all blocks, D hidden channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from headstart.encoder.checkpoint_files import CheckpointError
from headstart.encoder.chunks import KEY, Chunks
from headstart.encoder.front_end import frame_stride
from headstart.encoder.padding import padding_kept_out
from headstart.features.audio import SAMPLE_RATE
from headstart.study.attention import ChunkedAttention

# Families whose Transformer is a positional convolution and plain self-attention.
SUPPORTED = ("wav2vec2", "hubert", "unispeech", "unispeech-sat", "data2vec-audio")


def limit_attention(config: Any, attention: ChunkedAttention, new: bool) -> None:
    """Change the configuration of an encoder to chunked attention, in place.

    Args:
        new: whether the encoder gets random weights. It then takes audio without normalisation of the whole clip, to
            which the weights of a checkpoint would have to get used.

    Raises:
        CheckpointError: the encoder's family does not support it.
    """
    if config.model_type not in SUPPORTED:
        raise CheckpointError(
            f"attention: a {config.model_type} encoder cannot be limited to chunks, because its position embeddings or "
            f"convolutions reach beyond them; take one of {', '.join(SUPPORTED)}, or leave `attention` out"
        )
    rate = SAMPLE_RATE / frame_stride(config)
    chunks = Chunks(
        max(1, round(attention.chunk_s * rate)), attention.left_chunks, round(attention.look_ahead_s * rate)
    )
    setattr(config, KEY, vars(chunks))
    if new:
        config.do_normalize = False


def frames_of_chunks(x_BPD: torch.Tensor, chunks: Chunks, frames: int) -> torch.Tensor:
    """The own frames of all blocks, in order: (B, T, D), with T `frames`."""
    own = x_BPD.unflatten(1, (-1, chunks.width))[:, :, : chunks.size]
    return own.flatten(1, 2)[:, :frames]


def transform_chunks(encoder: Any, hidden_BTD: torch.Tensor, valid_BT: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """Forward pass of the Transformer with chunked attention.

    Args:
        encoder: transformers' base model of one of the `SUPPORTED` families.
        hidden_BTD: projected front-end features.
        valid_BT: which frames are not padding.

    Returns:
        The output of the last layer in all positions, (B, P, D); `frames_of_chunks` takes the frames from it.
    """
    transformer = encoder.encoder
    windows_BNVD, valid_BNV = _windows(transformer, hidden_BTD, valid_BT, chunks)
    before = windows_BNVD.shape[2] - chunks.width
    flat, flat_valid = windows_BNVD.flatten(0, 1), valid_BNV.flatten(0, 1)
    with padding_kept_out(encoder, flat_valid):
        positions = transformer.pos_conv_embed(flat)
    hidden = (flat + positions)[:, before:].unflatten(0, windows_BNVD.shape[:2]).flatten(1, 2)
    norm_first = not getattr(encoder.config, "do_stable_layer_norm", False)
    if norm_first:
        hidden = transformer.layer_norm(hidden)
    hidden = transformer.dropout(hidden)
    mask = attention_bias(valid_BNV[:, :, before:].flatten(1), chunks, hidden.dtype)
    for layer in transformer.layers:
        output = layer(hidden, attention_mask=mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden if norm_first else transformer.layer_norm(hidden)


def _windows(
    transformer: Any, hidden_BTD: torch.Tensor, valid_BT: torch.Tensor, chunks: Chunks
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each block with as many frames before it as the positional convolution reaches: (B, N, V, D) and (B, N, V)."""
    convolutions = [m for m in transformer.pos_conv_embed.modules() if isinstance(m, torch.nn.Conv1d)]
    before, time = sum(convolution.padding[0] for convolution in convolutions), hidden_BTD.shape[1]
    blocks = -(-time // chunks.size)
    after = (blocks - 1) * chunks.size + chunks.width - time
    hidden_BTD = hidden_BTD.masked_fill(~valid_BT[:, :, None], 0.0)
    windows_BNDV = F.pad(hidden_BTD, (0, 0, before, after)).unfold(1, before + chunks.width, chunks.size)
    valid_BNV = F.pad(valid_BT, (before, after)).unfold(1, before + chunks.width, chunks.size)
    return windows_BNDV.transpose(2, 3), valid_BNV


def attention_bias(valid_BP: torch.Tensor, chunks: Chunks, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the attention scores: 0 where a position attends to another, else the lowest number.

    Returns:
        (B, 1, P, P), queries before keys.
    """
    position_P = torch.arange(valid_BP.shape[1], device=valid_BP.device)
    block_P, own_P = position_P // chunks.width, position_P % chunks.width < chunks.size
    distance_PP = block_P[:, None] - block_P[None]  # of the query's block from the key's
    near_PP = distance_PP > 0 if chunks.left is None else (distance_PP > 0) & (distance_PP <= chunks.left)
    seen_PP = (distance_PP == 0) | (near_PP & own_P[None])
    # A position of padding sees itself, because a softmax over nothing is not a number.
    itself_PP = position_P[:, None] == position_P[None]
    seen_BPP = (seen_PP[None] & valid_BP[:, None]) | itself_PP[None]
    bias = torch.zeros(seen_BPP.shape, dtype=dtype, device=valid_BP.device)
    return bias.masked_fill(~seen_BPP, torch.finfo(dtype).min)[:, None]
