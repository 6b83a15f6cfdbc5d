"""Logging of jobs: one text file per job."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType

from headstart.errors import HeadstartError
from headstart.shortages import shortage

log = logging.getLogger(__name__)

SECONDS = 5.0  # between two lines of progress
CALL = "HEADSTART_CALL"  # environment variable that tells calls of Snakemake apart
FINAL = ".final"  # appended to the name of a log: the file that says which call has seen the job fail for good, and why
AGAIN = "a further try would end like this one; mend this, and start Snakemake again"
_final: Path | None = None  # that file, of this process's log


def name_call() -> None:
    """Give this call of Snakemake a name, which its jobs find in the environment variable `CALL`."""
    os.environ[CALL] = os.urandom(6).hex()


def log_to(path: str | Path, append: bool = False) -> None:
    """Send log lines, warnings and uncaught exceptions of this process to the file `path`.

    Where the same call of Snakemake has tried this job before, and it ended with an error that is permanent, the
    process logs that error and exits at once. Snakemake has deleted the log, but not the file beside it that says so.
    """
    global _final
    handler = logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message="Can't initialize NVML")
    sys.excepthook = _log_error
    _final = Path(f"{path}{FINAL}")
    if not append and _final.exists():
        call, _, message = _final.read_text(encoding="utf-8", errors="replace").partition("\n")
        if call == os.environ.get(CALL):
            logging.error(message)
            logging.error(AGAIN)
            sys.exit(1)
        _final.unlink(missing_ok=True)


def log_to_terminal() -> None:
    """Send log lines of this process to standard error, as they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headstart").setLevel(logging.INFO)


def _log_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, HeadstartError):
        logging.error(str(error))
        if error.permanent and _final and (call := os.environ.get(CALL)):
            logging.error(AGAIN)
            _final.write_text(f"{call}\n{error}", encoding="utf-8")
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
