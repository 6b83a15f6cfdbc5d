"""The machine's peak: the largest throughput of a matrix product."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

SIZES = (1536, 2048, 3072, 4096)
TYPES = ("bfloat16", "float32")


def measure(seconds: float) -> dict[str, Any]:
    """Operations a second of `torch.mm` in each type, the best over square shapes, and the machine's description."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best = dict.fromkeys(TYPES, 0.0)
    for name in TYPES:
        for size in SIZES:
            a, b = (torch.randn(size, size, device=device).to(getattr(torch, name)) for _ in range(2))
            out = torch.mm(a, b)
            wait()
            began, timed = time.perf_counter(), 0
            while timed < 2 or time.perf_counter() - began < seconds / len(SIZES) / len(TYPES):
                start = time.perf_counter()
                torch.mm(a, b, out=out)
                wait()
                best[name] = max(best[name], 2 * size**3 / (time.perf_counter() - start))
                timed += 1
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
    bf16, fp32 = (round(peak[name] / 1e12, 4) for name in TYPES)
    return {
        "name": "matmul peak, bf16 vs fp32",
        "ours": bf16,
        "peer": fp32,
        "ratio": round(peak["bfloat16"] / peak["float32"], 3),
        "unit": "TFLOP/s",
        "peer_name": "torch.mm in fp32",
    }
