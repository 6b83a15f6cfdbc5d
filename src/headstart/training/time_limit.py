"""Time limits: a training job saves its state and exits before its time is up, and resumes when started again."""

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
SQUEUE_S = 30.0  # timeout for squeue
_started = time.time()
_saves = False  # whether a training loop, which saves its state, has begun in this process
_terminated = False  # whether this process has received SIGTERM


class OutOfTime(SystemExit):
    """The time is up, and the state has been saved if training had begun.

    The process exits with `EXIT_CODE`, and Snakemake's `retries` start the job again, which then resumes.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Limit:
    """The time at which a training loop has to stop.

    That is the end time of the Slurm job or `HEADSTART_MAX_MINUTES` after the start, whichever comes first, or the
    present update when this process has received SIGTERM. `near` becomes true when the time left is shorter than twice
    the longest step so far plus a margin of a twentieth of the total time, at most one minute.
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
        """Whether to stop now. To be called after every step, because it measures how long steps take."""
        now = time.time()
        self.longest, self.last = max(self.longest, now - self.last), now
        return _terminated or (self.end is not None and now + self.margin + 2 * self.longest > self.end)

    @property
    def reason(self) -> str:
        """Why the loop stops, for the log."""
        return "this job was asked to end (SIGTERM)" if _terminated else "the time limit is near"


def save_on_sigterm() -> None:
    """On SIGTERM, finish the present update, save the state and exit with `EXIT_CODE`, instead of ending at once.

    Slurm sends SIGTERM when a job's time is up, when it is preempted, and on `scancel`, and kills the job half a minute
    later (`KillWait`). Before training begins there is nothing to save, and the process exits at once. After the last
    update, the signal is ignored and the results are written.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    global _terminated
    _terminated = True
    if not _saves:
        raise OutOfTime


def slurm_end() -> float | None:
    """The end time of this Slurm job, in seconds since the epoch; None outside Slurm, or when it cannot be found.

    Newer versions of Slurm set it as an environment variable. Others, such as 22.05, are asked with `squeue`.
    """
    if end := os.environ.get("SLURM_JOB_END_TIME"):
        return float(end)
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    # For a job array, squeue lists all its jobs; %A is the number that tells them apart.
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
        # This is local time. In the hour that occurs twice when clocks change, the earlier one is assumed, and the job
        # saves its state too early rather than too late.
        return datetime.fromisoformat(ends[job]).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info(
            "the time limit of Slurm's job %s could not be found: %s. The job saves its state from time to time, and "
            "when it is sent SIGTERM",
            job,
            error,
        )
        return None
