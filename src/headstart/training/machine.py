"""The machine that a job runs on: which precision is faster there, its description, and how it differs from another."""

from __future__ import annotations

import logging
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headstart.study.optimisation import Optimisation
from headstart.training.ranks import Ranks
from headstart.training.state import State

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "numpy")  # whose versions may change what is computed
UNIMPORTANT = {"cores"}  # of a machine's description: what is computed does not depend on it


def product_seconds(dtype: torch.dtype) -> float:
    """Time in seconds of a small encoder's largest matrix product on this CPU: the shortest of 20 measurements.

    Measuring takes some hundredths of a second.
    """
    frames, weights = torch.ones(1000, 192, dtype=dtype), torch.ones(768, 192, dtype=dtype)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        torch.nn.functional.linear(frames, weights)
        times.append(time.perf_counter() - started)
    return min(times)


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Measured, because CPU flags do not tell: with bfloat16 instructions, products run at 4 to 0.5 times float32 speed.
    return 1.3 * product_seconds(torch.bfloat16) < product_seconds(torch.float32)


def choose_precision(settings: Optimisation, state: State | None, ranks: Ranks, stage: str) -> str:
    """The precision of a job: the setting; else that of its saved state; else the faster one on this machine.

    A resumed job keeps its precision, also on a different machine: otherwise its weights would be neither those of a
    bfloat16 job nor those of a float32 job.
    """
    if settings.precision != "auto":
        return settings.precision
    measured = "bfloat16" if all(ranks.gather(bfloat16_is_fast())) else "float32"
    if state is None or state.machine["precision"] == measured:
        return measured
    before = state.machine["precision"]
    log.info("%s: continues in %s, as it was started; this machine would take %s", stage, before, measured)
    return before


def describe_machine(dtype: torch.dtype, ranks: Ranks) -> dict[str, Any]:
    """The machine of a job: CPU, cores, threads, device, processes, precision and versions of libraries."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    name = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": name,
        "processes": ranks.size,
        "precision": str(dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def moves(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between two machines that may change what a job computes, such as `torch 2.11.0, now 2.12.0`.

    What is not known of one of them is left out.
    """
    lines = []
    for key in before.keys() & now.keys() - UNIMPORTANT:
        if isinstance(before[key], dict):
            lines += moves(before[key], now[key])
        elif before[key] != now[key]:
            lines.append(f"{key} {before[key]}, now {now[key]}")
    return sorted(lines)
