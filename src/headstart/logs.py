"""Logging of jobs: one text file per job."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from types import TracebackType

from headstart.errors import HeadstartError


def log_to(path: str | Path, append: bool = False) -> None:
    """Send log lines, warnings and uncaught exceptions of this process to the file `path`."""
    handler = logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message="Can't initialize NVML")
    sys.excepthook = _log_error


def _log_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, HeadstartError):
        logging.error(str(error))
    else:
        logging.error("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
