"""What makes training fast on a CPU: memory that is kept, and quicker forms of a network's slowest parts."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from headstart.encoder.convolutions import BLOCK, grouped_convolution

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: else it returns large tensors' memory at once, and gets it anew page by page."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Zero each element with probability `p` (to 1/65536) and scale the others by 1 / (1 - p).

    torch draws a number for each element; here 64 random bits are four draws.
    """
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    keep = bits[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
    return x * keep.view(torch.int8) * (1 / (1 - p))  # an integer multiplies faster than a bool


def quicken(network: Any) -> None:
    """Let a network's dropout and relative positions run in their quick forms from now on.

    Relative positions only with kernels of up to 64 frames: a base model's 128 gain nothing, and the many products that
    they are made of are each rounded.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout) and 0 < module.p < 1:
            module.forward = lambda x, own=module: dropout(x, own.p) if own.training else x
        elif isinstance(module, torch.nn.Conv1d) and module.stride == module.dilation == (1,):
            grouped = 1 < module.groups < module.in_channels  # a depthwise one is no matrix product
            if grouped and BLOCK < module.kernel_size[0] <= 64:
                module.forward = lambda x_BCT, own=module: grouped_convolution(x_BCT, own)
