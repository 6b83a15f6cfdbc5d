"""The machine's peak: the largest throughput of a matrix product."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

SIZES = (256, 1536, 2048, 3072, 4096)
TYPES = ("float32", "bfloat16")
LEAST = 0.2  # of float32's rate: a type that is slower has no instructions here, and every operation is emulated


def measure(seconds: float) -> dict[str, Any]:
    """Operations a second of `torch.mm` in each type, the best over square shapes, and the machine's description.

    A type that the machine has no instructions for is left out, after the smallest product: without them, one of the
    largest would take many minutes. A size is left out where the rate so far says that it would take too long.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best: dict[str, float] = {}
    first: dict[str, float] = {}  # rate of the smallest product
    for name in TYPES:
        rate = 0.0
        for size in SIZES:
            share = seconds / len(SIZES) / len(TYPES)
            if rate and 3 * 2 * size**3 / rate > 4 * share:
                break
            a, b = (torch.randn(size, size, device=device).to(getattr(torch, name)) for _ in range(2))
            out = torch.mm(a, b)
            wait()
            began, timed = time.perf_counter(), 0
            while timed < 2 or time.perf_counter() - began < share:
                start = time.perf_counter()
                torch.mm(a, b, out=out)
                wait()
                rate = max(rate, 2 * size**3 / (time.perf_counter() - start))
                timed += 1
            if first.setdefault(name, rate) < LEAST * first["float32"]:
                break
        if first[name] >= LEAST * first["float32"]:
            best[name] = rate
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"peak": best, "machine": gpu or f"{cpu_name()}, {torch.get_num_threads()} CPU threads"}


def cpu_name() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def row(peak: dict[str, float]) -> dict[str, Any]:
    """The peak as a row of the results."""
    fp32, bf16 = (round(peak[name] / 1e12, 4) for name in TYPES)
    return {
        "name": "matmul peak, bf16 vs fp32",
        "ours": bf16,
        "peer": fp32,
        "ratio": round(peak["bfloat16"] / peak["float32"], 3),
        "unit": "TFLOP/s",
        "peer_name": "torch.mm in fp32",
    }
