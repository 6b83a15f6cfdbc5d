"""Ends of training jobs that are wanted: near a time limit, on SIGTERM and on Ctrl-C, they save their state and exit.

Such a job resumes when it is started again.
"""

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
ASKED = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}  # signals on which the state is saved
IMPATIENT_S = 2.0  # torchrun sends its processes the Ctrl-C that the terminal has sent them already
_started = time.time()
_saves = False  # whether a training loop, which saves its state, has begun in this process
_asked: tuple[str, float] | None = None  # the first signal of `ASKED` that this process received, and when


class OutOfTime(SystemExit):
    """The time is up, and the state has been saved if training had begun.

    The process exits with `EXIT_CODE`, and Snakemake's `retries` start the job again, which then resumes.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Limit:
    """The time at which a training loop has to stop.

    That is the end time of the Slurm job or `HEADSTART_MAX_MINUTES` after the start, whichever comes first, or the
    present update when this process was asked to end. `near` becomes true when the time left is shorter than twice
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
        return _asked is not None or (self.end is not None and now + self.margin + 2 * self.longest > self.end)

    @property
    def reason(self) -> str:
        """Why the loop stops, for the log."""
        return f"this job was asked to end ({_asked[0]})" if _asked else "the time limit is near"


def save_when_asked() -> None:
    """On SIGTERM or Ctrl-C, finish the present update, save the state and exit with `EXIT_CODE`, not at once.

    Slurm sends SIGTERM when a job's time is up, when it is preempted, and on `scancel`, and kills the job half a minute
    later (`KillWait`). A terminal sends SIGINT to Snakemake and its jobs, and Snakemake waits for them; a second Ctrl-C
    ends a job at once. Before training begins there is nothing to save, and the process exits at once. After the last
    update, a signal is ignored and the results are written. So is one that this process was started to ignore.
    """
    for number in ASKED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ask)


def _ask(number: int, frame: Any) -> None:
    global _asked
    now = time.monotonic()
    if _asked and number == signal.SIGINT and now - _asked[1] > IMPATIENT_S:
        raise KeyboardInterrupt
    _asked = _asked or (ASKED[signal.Signals(number)], now)
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
