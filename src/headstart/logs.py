"""Logging of jobs: one text file per job."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType

from headstart.errors import HeadstartError
from headstart.shortages import shortage

log = logging.getLogger(__name__)

SECONDS = 5.0  # between two lines of progress


def log_to(path: str | Path, append: bool = False) -> None:
    """Send log lines, warnings and uncaught exceptions of this process to the file `path`."""
    handler = logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message="Can't initialize NVML")
    sys.excepthook = _log_error


def log_to_terminal() -> None:
    """Send log lines of this process to standard error, as they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headstart").setLevel(logging.INFO)


def _log_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, HeadstartError):
        logging.error(str(error))
    elif isinstance(error, KeyboardInterrupt):
        logging.error("interrupted (Ctrl-C); run Snakemake again, which goes on")
    elif reason := shortage(error):
        logging.error(reason)
    else:
        logging.error("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def show(line: str) -> None:
    """Log a line of progress, and write it to the terminal where there is one."""
    log.info("%s", line)
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


class Progress:
    """Shows how far a job is and how much time is left, every few seconds.

    Args:
        what: the job, as the beginning of the line.
        total: the amount to do.
        unit: of the amount, such as `clips`.
        done: the amount that an earlier job has done, which says nothing of this one's speed.
    """

    def __init__(self, what: str, total: float, unit: str, done: float = 0.0):
        self.what, self.total, self.unit, self.done, self.before = what, total, unit, done, done
        self.started = self.shown = time.monotonic()

    def add(self, amount: float) -> None:
        """Count an amount as done, and log a line if the last one is `SECONDS` old."""
        self.done += amount
        now = time.monotonic()
        if now - self.shown < SECONDS:
            return
        self.shown = now
        left = (now - self.started) * max(0.0, self.total - self.done) / max(self.done - self.before, 1e-9)
        share = self.done / max(self.total, 1e-9)
        show(f"{self.what}: {self.done:.9g} of {self.total:.9g} {self.unit} ({share:.0%}), ETA {clock(left)}")


def clock(seconds: float) -> str:
    """Seconds as `1:02:03`."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
