"""Updates by Muon of the matrices in an encoder's layers: ours, by blocks, and torch's, of whole matrices."""

from __future__ import annotations

import statistics
import time
from typing import Any

from child import call

SHAPES = {"small": (192, 768, 4), "base": (768, 3072, 12)}  # width, width of the feed-forward layers, layers


def measure(size: str, seconds: float) -> dict[str, float]:
    """Milliseconds of an update by either, alternating, medians."""
    import torch

    from headstart.training.machine import bfloat16_is_fast
    from headstart.training.muon import Muon

    width, inner, layers = SHAPES[size]
    shapes = [*[(width, width)] * 4, (inner, width), (width, inner)] * layers
    torch.manual_seed(0)
    dtype = torch.bfloat16 if bfloat16_is_fast() else torch.float32
    options = {"lr": 1e-3, "weight_decay": 0.01}
    sides = []
    for ours in (True, False):
        weights = [torch.randn(shape).requires_grad_() for shape in shapes]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        sides.append(Muon([{"params": weights, **options}], dtype) if ours else torch.optim.Muon(weights, **options))
    times: tuple[list[float], list[float]] = ([], [])
    began = time.monotonic()
    while len(times[0]) < 3 or time.monotonic() - began < seconds:
        for optimiser, spent in zip(sides, times, strict=True):
            start = time.perf_counter()
            optimiser.step()
            spent.append(1e3 * (time.perf_counter() - start))
    ours, peer = (statistics.median(spent[1:]) for spent in times)
    return {"ours": ours, "peer": peer}


def rows(seconds: float, threads: int) -> list[dict[str, Any]]:
    found = {size: call("muon", "measure", threads, size=size, seconds=seconds) for size in SHAPES}
    return [
        {
            "name": f"an update by Muon, {size}: blocks of 64 rows, three steps",
            "ours": times["ours"],
            "peer": times["peer"],
            "ratio": times["peer"] / times["ours"],
            "unit": "ms, less is better",
            "peer_name": "torch.optim.Muon: whole matrices, five steps, in bfloat16",
        }
        for size, times in found.items()
    ]
