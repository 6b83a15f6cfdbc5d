"""What `headstart transcribe` says of its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from headstart.audio.sources import AudioError
from headstart.features.recordings import recording_seconds
from headstart.logs import clock
from headstart.transcribe.sources import Source

SECONDS = 2.0  # between two lines of progress on a terminal
SECONDS_IN_FILE = 30.0  # and elsewhere


class Meter:
    """Says on standard error how much is transcribed, how fast, and how long the rest will take."""

    def __init__(self, recordings: Sequence[Source]):
        self.lengths = {}
        for recording in recordings:
            try:
                self.lengths[recording.path] = recording_seconds(recording.path) or 0.0
            except AudioError:  # it is said when its turn comes
                self.lengths[recording.path] = 0.0
        self.total, self.before, self.at = sum(self.lengths.values()), 0.0, 0.0
        self.count, self.number = len(recordings), 1
        self.terminal = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def reached(self, second: float) -> None:
        """Everything before this second of the recording is transcribed."""
        self.at = second
        now = time.monotonic()
        if now - self.shown < (SECONDS if self.terminal else SECONDS_IN_FILE):
            return
        self.shown = now
        print(self._line(now), end="\r" if self.terminal else "\n", file=sys.stderr, flush=True)

    def finished(self, path: Path) -> None:
        """The recording is done."""
        self.before, self.at, self.number = self.before + self.lengths[path], 0.0, self.number + 1

    def note(self, message: str) -> None:
        """Say something on a line of its own."""
        print(f"\033[K{message}" if self.terminal else message, file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        done, spent = self.before + self.at, now - self.started
        speed = done / max(spent, 1e-9)
        line = f"{clock(done)} of {clock(max(self.total, done))}, {speed:.3g} times real time"
        if speed:
            line += f", ETA {clock(max(0.0, self.total - done) / speed)}"
        if self.count > 1:
            line = f"recording {self.number} of {self.count}: {line}"
        return f"\033[K{line}" if self.terminal else line
