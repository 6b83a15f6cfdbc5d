"""Muon, an optimiser of matrices, which updates them by their momentum after it has been made orthogonal.

Newton-Schulz steps make the momentum orthogonal: its singular vectors stay, and its singular values become about equal.
Sources: Jordan et al. 2024, kellerjordan.github.io/posts/muon, for the method; Liu et al. 2025, arXiv 2502.16982, for
the size of updates.

Unlike there, and in torch, it does so with blocks of 64 rows of a matrix (or columns, if it is wide), and with three
steps instead of five. The small networks and batches of a study on a CPU would spend as much time on whole matrices as
on their gradients (benchmarks/muon.py measures it), and are not trained better (docs/performance.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

BLOCK = 64  # rows of a block
MOMENTUM = 0.95
SIZE = 0.2  # root mean square of an update's elements at a learning rate of 1, which is about that of Adam's
STEPS = 3  # Newton-Schulz steps
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of a step's polynomial, which makes small singular values grow fast
# Elements that are made orthogonal at a time, which bounds memory: few for a CPU's cache, many for a GPU.
TOGETHER = {"cpu": 2**19, "cuda": 2**24}


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Args:
        groups: parameters of two dimensions, with `lr` and `weight_decay`, as torch's optimisers take them.
        dtype: type in which the products of matrices are computed.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], dtype: torch.dtype):
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update each parameter that has a gradient."""
        for group in self.param_groups:
            waiting: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)  # by the width of blocks
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                direction = parameter.grad.lerp(momentum, MOMENTUM)
                tall = direction if len(direction) >= direction.shape[1] else direction.T
                members = waiting[tall.shape[1]]
                members.append((parameter, tall))
                if sum(member.numel() for _, member in members) >= TOGETHER[parameter.device.type]:
                    self._update(waiting.pop(tall.shape[1]), group)
            for members in waiting.values():
                self._update(members, group)

    def _update(self, members: list[tuple[torch.Tensor, torch.Tensor]], group: dict[str, Any]) -> None:
        """Update parameters by their directions, which all have the same width and at least as many rows."""
        width = members[0][1].shape[1]
        # Rows of zeros are orthogonal to all others, and change nothing about them.
        padded = [F.pad(tall.to(self.dtype), (0, 0, 0, -len(tall) % BLOCK)) for _, tall in members]
        straight = orthogonal(torch.cat(padded).view(-1, BLOCK, width)).reshape(-1, width)
        for (parameter, tall), part in zip(members, straight.split([len(rows) for rows in padded]), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            goal = parameter if parameter.shape == tall.shape else parameter.T
            whole = len(tall) // BLOCK * BLOCK
            for begin, end in ((0, whole), (whole, len(tall))):  # the last block may be shorter
                size = SIZE * math.sqrt(max(min(BLOCK, end - begin), width))
                goal[begin:end].add_(part[begin:end], alpha=-group["lr"] * size)


def orthogonal(blocks_NRC: torch.Tensor) -> torch.Tensor:
    """Matrices with the singular vectors of these, and with singular values near 1.

    Each of `STEPS` steps applies an odd polynomial to the singular values, which multiplies small ones by up to 3.4 and
    maps those from 0.22 to 1.2 into 0.68 to 1.2. After three steps, singular values of at least 2 % of a block's
    Frobenius norm are in that range. A step's polynomial is one of the Gram matrix, times the matrix, so that the
    product of all steps needs the matrix itself only twice.
    """
    a, b, c = COEFFICIENTS
    x = blocks_NRC / blocks_NRC.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    gram, factor = x @ x.mT, None
    for step in range(STEPS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if step < STEPS - 1:
            gram = polynomial @ gram @ polynomial
    return factor @ x
