"""Length and channels of every recording of a corpus, by several processes, so that a job that was stopped goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from headstart.audio.recordings import Recording, describe_recording
from headstart.audio.sources import AudioError, table_row
from headstart.versions import VERSIONS
from headstart.workers import Failure, Result, in_order


def recordings(paths: list[str], processes: int, journal: Path | None = None) -> Iterator[Recording | str]:
    """What is known of recordings, in their order, or why one cannot be used.

    Args:
        processes: that open them; with 0 this one does, and a file that crashes the decoder ends the job.
        journal: a file that is written as the work proceeds. A recording that it names is not opened again while its
            size and time are the same. None where all of them are opened.
    """
    known = _earlier(journal) if journal else {}
    found = [known[path][1] if path in known and known[path][0] == _state(path) else None for path in paths]
    missing = ((path,) for path, old in zip(paths, found, strict=True) if old is None)
    results = in_order(f"{__name__}:probe", missing, processes)
    with open(journal or os.devnull, "a", encoding="utf-8") as log:
        for path, old in zip(paths, found, strict=True):
            if old is None:
                result = next(results)
                if isinstance(result, Failure):  # perhaps of the machine, so that it is tried again
                    yield result.reason
                    continue
                old = result.facts
                if journal:
                    log.write(json.dumps([VERSIONS["corpora"], path, _state(path), old]) + "\n")
            yield old if isinstance(old, str) else Recording(*old)


def probe(path: str) -> Result:
    """Length in seconds and channels of a recording, or the reason why it cannot be used."""
    try:
        return Result(list(describe_recording(path)), None)
    except AudioError as error:
        return Result(str(error), None)


def _earlier(journal: Path) -> dict[str, tuple[list[int] | None, Any]]:
    """State and finding of each recording in a journal. A line may be cut off, where a job was killed."""
    known = {}
    with suppress(FileNotFoundError), journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError):
                version, path, state, found = json.loads(line)
                if version == VERSIONS["corpora"]:
                    known[path] = (state, found)
    return known


def _state(path: str) -> list[int] | None:
    """Size and modification time, in nanoseconds, of a file, or of the table that a path names a row of."""
    row = table_row(path)
    with suppress(OSError, ValueError):
        status = os.stat(row[0] if row else path)
        return [status.st_size, status.st_mtime_ns]
    return None
