"""Keeps padding out of the convolutions of a Transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def padding_kept_out(encoder: Any, valid_BT: torch.Tensor) -> Iterator[None]:
    """Within this context, every convolution of the Transformer sees zeros beyond the end of each clip.

    The output is then that of the clip alone. transformers ensures this in most families, but not for the depthwise
    convolutions of conformers, nor for the positional convolutions of data2vec, which are stacked, and of HuBERTs with
    batch norm before it.
    """

    def silence(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return inputs[0].masked_fill(~valid_BT[:, None], 0.0)

    # Convolutions without padding are pointwise or causal, so that no frame depends on a later one.
    reach = [m for m in encoder.encoder.modules() if isinstance(m, torch.nn.Conv1d) and m.padding[0] > 0]
    handles = [conv.register_forward_pre_hook(silence) for conv in reach]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
