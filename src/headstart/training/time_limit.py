"""Time limits: a training job that sees its end coming saves its state and leaves, to go on when started again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from datetime import datetime
from typing import Any

log = logging.getLogger(__name__)

EXIT_CODE = 75  # EX_TEMPFAIL: try again
MINUTES = "HEADSTART_MAX_MINUTES"
FIRST_SAVE_MINUTES = 1.0
SQUEUE_S = 30.0  # how long Slurm may take to answer
_started = time.time()
_saves = False  # whether a training loop runs, or has run, that saves
_terminated = False  # whether this process was sent SIGTERM


class OutOfTime(SystemExit):
    """The time is up and the state, if there is one, is saved. The process ends with `EXIT_CODE`, and Snakemake's
    `retries` let the job go on."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Limit:
    """When a training loop has to stop: at Slurm's end time or after `HEADSTART_MAX_MINUTES`, whichever is sooner, or
    at once when this process was sent SIGTERM.

    `near` is true when what is left is less than twice the longest step so far and a margin of a twentieth of the whole
    time, at most a minute.
    """

    def __init__(self) -> None:
        global _saves
        minutes = os.environ.get(MINUTES)
        ends = [_started + 60 * float(minutes)] if minutes else []
        if (slurm := slurm_end()) is not None:
            ends.append(slurm)
        self.end = min(ends, default=None)
        self.margin = min(60.0, (self.end - _started) / 20) if ends else 0.0
        self.longest, self.last = 0.0, time.time()
        _saves = True

    def near(self) -> bool:
        """Called after every step, whose time it measures."""
        now = time.time()
        self.longest, self.last = max(self.longest, now - self.last), now
        return _terminated or (self.end is not None and now + self.margin + 2 * self.longest > self.end)

    @property
    def reason(self) -> str:
        """Why the loop stops."""
        return "this job was asked to end (SIGTERM)" if _terminated else "the time limit is near"


def save_on_sigterm() -> None:
    """Let SIGTERM, which ends a process at once, end it with `EXIT_CODE` after the update that it is at is saved.

    Slurm sends SIGTERM when a job's time is up, when another job takes its place, and on `scancel`, and kills the job
    half a minute later (`KillWait`). Before the first update there is nothing to save, and the process ends at once;
    after the last one it writes its results as if nothing had happened.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    global _terminated
    _terminated = True
    if not _saves:
        raise OutOfTime


def slurm_end() -> float | None:
    """When Slurm ends this job, in seconds since the epoch; None outside Slurm, and where it does not say.

    Newer versions of Slurm put it into the environment; others, 22.05 among them, are asked by `squeue`.
    """
    if end := os.environ.get("SLURM_JOB_END_TIME"):
        return float(end)
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    # An array's number stands for all its jobs, so lines have the number of the job that they are of.
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%A %e"]
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        run = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SQUEUE_S
        )
        if run.returncode:
            raise ValueError(run.stderr.strip() or f"squeue ended with status {run.returncode}")
        ends = {number: end.strip() for number, _, end in (line.partition(" ") for line in run.stdout.splitlines())}
        if job not in ends:
            raise ValueError("squeue does not list it")
        # Local time. In the hour that a change of clocks repeats, it is taken for the earlier of two: a save too many.
        return datetime.fromisoformat(ends[job]).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info(
            "the time limit of Slurm's job %s could not be found: %s. The job saves its state from time to time, and "
            "when it is sent SIGTERM",
            job,
            error,
        )
        return None
