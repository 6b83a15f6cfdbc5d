"""Copies between the CPU and a GPU that wait for nothing.

A GPU works through a queue while the CPU fills it. An ordinary copy waits until the queue is empty, and so does
whatever needs a value, a shape or a truth of a tensor there; the GPU is then idle until the queue is filled again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`, copied from page-locked memory, which needs no waiting; itself where it is there."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def rows(tensor: torch.Tensor, positions: Sequence[int]) -> torch.Tensor:
    """`tensor[positions]`, which by itself would copy the positions to a GPU and wait."""
    if list(positions) == list(range(len(tensor))):
        return tensor
    return tensor.index_select(0, moved(torch.tensor(positions, dtype=torch.long), tensor.device))
