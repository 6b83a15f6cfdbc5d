"""Several processes that share the batches of one run, and the devices that a run may use.

Processes are those of `torchrun` or of Slurm's job step, found through the variables that torchrun sets. Gradients are
summed over them, each process's part having been divided by what the whole batch counts, so that a step over several
processes is the step of one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist

log = logging.getLogger(__name__)

_claimed: list[IO] = []  # a lock lives as long as its file is open: as long as this process


class Ranks:
    """This process among those that share a run: `rank` of `size`, and the device that it computes on."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if self.size > 1 and not dist.is_initialized():
            # Others wait while the first one evaluates, which may take long.
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=6))
        if cuda:
            torch.cuda.set_device(self.device)

    @property
    def first(self) -> bool:
        """Whether this process evaluates, writes and reports."""
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """What each process has, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.sum_(torch.zeros(1, device=self.device))

    def positions(self, clips: int, parts: int) -> list[list[int]]:
        """This process's parts of a batch of so many clips, each a list of positions; some may be empty.

        A batch is dealt out like cards to `parts` parts for each process, so that parts are about equally long.
        """
        return [list(range(self.rank + part * self.size, clips, self.size * parts)) for part in range(parts)]


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


def claim_devices(count: int, devices: list[str], folder: Path | None = None, poll_s: float = 2.0) -> list[str]:
    """Choose GPUs that no other job of this machine has chosen, waiting until enough are free.

    A claim is a lock on a file, which ends with the process, however it ends.

    Args:
        count: how many.
        devices: the names to choose from; fewer than `count` of them are all taken.
        folder: where the lock files lie; by default the machine's folder for temporary files.

    Returns:
        The chosen names, in the order of `devices`.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"headstart-devices-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        # One job at a time chooses: two that hold half of what each wants would wait for ever.
        with (folder / "choosing").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            held: dict[str, IO] = {}
            for name in devices:
                file = (folder / name.replace("/", "_")).open("w")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held[name] = file
                except BlockingIOError:
                    file.close()
                if len(held) == min(count, len(devices)):
                    _claimed.extend(held.values())
                    return list(held)
            for file in held.values():
                file.close()
        if not told:
            log.info("waiting for %d of the GPUs %s: other jobs have them", count, ", ".join(devices))
            told = True
        time.sleep(poll_s)
