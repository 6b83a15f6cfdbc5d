"""A function run in a fresh process, so that its peak memory is its own and nothing is warm from before."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any


def call(module: str, function: str, threads: int, **arguments: Any) -> dict[str, Any]:
    """What `function` of a module beside this one returns for JSON arguments, and `memory_mb`, its peak memory.

    Raises:
        RuntimeError: it failed; its own message is on stderr.
    """
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, __file__, module, function]
    result = subprocess.run(
        command, input=json.dumps(arguments), stdout=subprocess.PIPE, text=True, env=environment, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{module}.{function} failed with exit status {result.returncode}")
    return json.loads(result.stdout.splitlines()[-1])


def peak_memory_mb() -> float:
    """Peak memory of this process: on the GPU where it used one, else resident."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    # Linux's ru_maxrss begins at the size of the process that started this one; the high-water mark does not.
    lines = status.read_text().splitlines() if status.exists() else []
    marks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    unit = 1 if sys.platform == "darwin" else 1024
    return (marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / 2**20


def main() -> None:
    module, function = sys.argv[1:]
    found = getattr(importlib.import_module(module), function)(**json.load(sys.stdin))
    print(json.dumps({**found, "memory_mb": round(peak_memory_mb(), 1)}))


if __name__ == "__main__":
    main()
