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
from headstart.files import file_state
from headstart.versions import VERSIONS
from headstart.workers import Failure, Result, in_order


def described(paths: list[str], processes: int, journal: Path | None = None) -> Iterator[Recording | str]:
    """What is known of recordings, in their order, or why one cannot be used.

    Args:
        processes: that open them; with 0 this one does, and a file that crashes the decoder ends the job.
        journal: a file that is written as the work proceeds. A recording that it names is not opened again while its
            size and time are the same. None where all of them are opened.
    """
    earlier = _earlier(journal) if journal else {}
    known = [earlier[path][1] if path in earlier and earlier[path][0] == _state(path) else None for path in paths]
    del earlier  # it may be large
    missing = ((path,) for path, found in zip(paths, known, strict=True) if found is None)
    results = in_order(f"{__name__}:describe", missing, processes)
    with open(journal or os.devnull, "a", encoding="utf-8", buffering=1) as log:  # a line is written at once
        log.write("\n")  # behind a line that is cut off
        for path, found in zip(paths, known, strict=True):
            if found is None:
                result = next(results)
                if isinstance(result, Failure):  # perhaps of the machine, so that it is tried again
                    yield result.reason
                    continue
                state, found = result.facts
                log.write(json.dumps([VERSIONS["corpora"], path, state, found]) + "\n")
            yield found if isinstance(found, str) else Recording(*found)


def describe(path: str) -> Result:
    """The state of a file before it was opened; and its length in seconds and channels, or why it cannot be used."""
    state = _state(path)
    try:
        return Result([state, list(describe_recording(path))], None)
    except AudioError as error:
        return Result([state, str(error)], None)


def _earlier(journal: Path) -> dict[str, tuple[list[int], Any]]:
    """State and finding of each recording in a journal. A line may be cut off, where a job was killed."""
    known = {}
    with suppress(FileNotFoundError), journal.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError):
                version, path, state, found = json.loads(line)
                if version == VERSIONS["corpora"] and state is not None:
                    known[path] = (state, found)
    return known


def _state(path: str) -> list[int] | None:
    """`file_state` of a file, or of the table that a path names a row of.

    None also where this process may not read it, which its size and time would not show later.
    """
    row = table_row(path)
    name = row[0] if row else path
    state = file_state(name)
    return state if state and os.access(name, os.R_OK) else None
