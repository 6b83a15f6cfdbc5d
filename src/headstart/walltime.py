"""Time limits: a training job that sees its end coming saves its state and leaves, to go on when started again."""

from __future__ import annotations

import os
import time

EXIT_CODE = 75  # EX_TEMPFAIL: try again
MINUTES = "HEADSTART_MAX_MINUTES"
FIRST_SAVE_MINUTES = 1.0
_started = time.time()


class OutOfTime(SystemExit):
    """The time limit is near and the state is saved. The process ends with `EXIT_CODE`, and Snakemake's `retries` let
    the job go on."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Limit:
    """When this job has to stop, by Slurm's end time in the environment or by `HEADSTART_MAX_MINUTES`, the sooner.

    `near` is true when what is left is less than twice the longest step so far and a margin of a twentieth of the whole
    time, at most a minute.
    """

    def __init__(self) -> None:
        slurm, minutes = os.environ.get("SLURM_JOB_END_TIME"), os.environ.get(MINUTES)
        ends = [float(slurm)] if slurm else []
        ends += [_started + 60 * float(minutes)] if minutes else []
        self.end = min(ends, default=None)
        self.margin = min(60.0, (self.end - _started) / 20) if ends else 0.0
        self.longest, self.last = 0.0, time.time()

    def near(self) -> bool:
        """Called after every step, whose time it measures."""
        now = time.time()
        self.longest, self.last = max(self.longest, now - self.last), now
        return self.end is not None and now + self.margin + 2 * self.longest > self.end
