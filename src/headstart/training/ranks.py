"""Data-parallel processes of one training job, and the GPUs that a job may use.

The processes are those that `torchrun` started, known by the environment variables that it sets. Each process divides
the loss of its part by the count of the whole batch, and gradients are summed over processes, so that an update is the
same with any number of processes.
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

_claimed: list[IO] = []  # open lock files; the locks are held until this process ends


def is_first_process() -> bool:
    """Whether this is rank 0 of the job's processes: the one that evaluates, logs and writes files."""
    return os.environ.get("RANK", "0") == "0"


class Ranks:
    """The position of this process among those of its job (`rank` of `size`), and its device."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        cuda, local = torch.cuda.is_available(), int(os.environ.get("LOCAL_RANK", 0))
        # Where there are fewer GPUs than processes on this machine, some share one, which NCCL refuses.
        there = torch.cuda.device_count() if cuda else 0
        shared = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > there
        self.device = torch.device("cuda", local % there) if cuda else torch.device("cpu")
        if self.size > 1 and not dist.is_initialized():
            # The timeout is long because the other processes wait while the first one evaluates.
            dist.init_process_group("gloo" if shared else "nccl", timeout=timedelta(hours=6))
        if cuda:
            torch.cuda.set_device(self.device)

    @property
    def first(self) -> bool:
        """See `is_first_process`."""
        return is_first_process()

    def sum_in_place(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor in place by its sum over all processes; returns it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def synchronise(self) -> None:
        """Wait until all processes have called this."""
        self.sum_in_place(torch.zeros(1, device=self.device))

    def own_positions(self, clips: int, parts: int) -> list[list[int]]:
        """The parts of a batch of `clips` clips that this process computes, as lists of positions in the batch.

        Clips are dealt in turn to the `parts` parts of every process, so that parts are about equally large. A part is
        empty when there are fewer clips than parts.
        """
        return [list(range(self.rank + part * self.size, clips, self.size * parts)) for part in range(parts)]


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, in the form that `CUDA_VISIBLE_DEVICES` takes."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


def claim_devices(count: int, devices: list[str], folder: Path | None = None, poll_s: float = 2.0) -> list[str]:
    """Reserve GPUs that no other job on this machine has reserved, waiting until enough are free.

    A reservation is a lock on a file, which the system releases when the process ends, also when it is killed.

    Args:
        count: number of GPUs.
        devices: the names to choose from; when there are fewer than `count`, all of them are reserved.
        folder: folder of the lock files; by default one in the system's folder for temporary files.
        poll_s: seconds between two attempts.

    Returns:
        The reserved names, in the order of `devices`.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"headstart-devices-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    logged = False
    while True:
        # Only one job at a time may try: two jobs that each hold some of the GPUs they need would deadlock.
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
        if not logged:
            log.info("waiting for %d of the GPUs %s: other jobs have them", count, ", ".join(devices))
            logged = True
        time.sleep(poll_s)
