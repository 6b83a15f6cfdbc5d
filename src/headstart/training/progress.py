"""Progress lines of training, in the job's log and on the terminal when there is one."""

from __future__ import annotations

import time
from typing import Any

from headstart.logs import clock, show

SECONDS = 10.0  # minimum time between two lines
UNSHOWN = {"step", "wall_s", "flops", "audio_hours_seen", "skipped"}


class Meter:
    """Logs the progress, speed and remaining time of a training stage.

    Args:
        progress: `update`, `hours` and `curve` of the job, which the training loop keeps up to date.
    """

    def __init__(self, stage: str, updates: int, progress: dict[str, Any]):
        self.stage, self.updates, self.progress = stage, updates, progress
        self.first, self.first_hours = progress["update"], progress["hours"]
        self.started = self.shown = time.monotonic()

    def show(self, now: bool = False) -> None:
        """Log a line when `SECONDS` have passed since the last one, or in any case when `now` is true."""
        moment = time.monotonic()
        if not now and moment - self.shown < SECONDS:
            return
        self.shown = moment
        show(self.line(moment - self.started))

    def line(self, spent: float) -> str:
        """The progress line after `spent` seconds: stage, update, percentage, speed, time left, latest metrics."""
        update, hours = self.progress["update"], self.progress["hours"]
        eta = spent / max(update - self.first, 1) * (self.updates - update)
        speed = (hours - self.first_hours) / max(spent, 1e-9)
        curve = self.progress["curve"]
        latest = {key: value for key, value in (curve[-1] if curve else {}).items() if key not in UNSHOWN}
        return (
            f"{self.stage}: update {update} of {self.updates} ({update / self.updates:.0%}), {hours:.2f} h of audio, "
            f"{speed:.3g} audio-hours/s, ETA {clock(eta)}"
            + "".join(f", {key} {value:.3g}" for key, value in latest.items())
        )
