"""Transcription of recordings, one after the other: to standard output or files, with progress, and past bad ones."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.audio.sources import AudioError
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.recordings import recording_blocks, recording_seconds
from headstart.files import written_whole
from headstart.logs import clock
from headstart.transcribe.formats import FORMATS, Transcript
from headstart.transcribe.pieces import Piece, pieces
from headstart.transcribe.recognition import segments
from headstart.transcribe.run import Run
from headstart.transcribe.sources import Source

log = logging.getLogger(__name__)

TRUNCATED = 0.95  # share of the length in the header, below which a recording is reported as cut short
SECONDS = 2.0  # between two lines of progress on a terminal
SECONDS_IN_FILE = 30.0  # and elsewhere


@dataclass
class Outcome:
    """What came of some recordings.

    Attributes:
        transcribed: number of recordings.
        failed: path of a recording that could not be transcribed -> why.
        seconds: of audio in the others.
        spoken_s: of them in pieces of speech; the others are pauses.
        words: number of words.
    """

    transcribed: int
    failed: dict[Path, str]
    seconds: float = 0.0
    spoken_s: float = 0.0
    words: int = 0


def transcribe(run: Run, recordings: Sequence[Source], formats: Sequence[str], output: Path | None) -> Outcome:
    """Transcribe recordings into files of `output`, or to standard output, and say on standard error how far it is.

    A recording that cannot be decoded is named, and the others go on.

    Args:
        formats: names in `FORMATS`; without `output` only one, and for several recordings one that can hold many.

    Raises:
        HeadstartError: the formats cannot be written to standard output, or a file cannot be written.
    """
    check_formats(formats, output, len(recordings))
    outcome, meter = Outcome(0, {}), Meter(recordings)
    for recording in recordings:
        try:
            _one(run, recording, formats, output, outcome, meter, len(recordings) > 1)
            outcome.transcribed += 1
        except AudioError as error:
            outcome.failed[recording.path] = " ".join(str(error).split())
            meter.note(f"{recording.path}: not transcribed: {outcome.failed[recording.path]}")
        meter.finished(recording)
    return outcome


def check_formats(formats: Sequence[str], output: Path | None, recordings: int) -> None:
    """Check that transcripts of so many recordings can be written in these formats.

    Raises:
        HeadstartError: they cannot.
    """
    if output is None and len(formats) > 1:
        raise HeadstartError(f"--format {' and '.join(formats)}: several formats need files; give --output FOLDER")
    if output is None and recordings > 1 and not FORMATS[formats[0]].many:
        raise HeadstartError(f"--format {formats[0]}: several recordings need a file each; give --output FOLDER")
    if output is not None and output.exists() and not output.is_dir():
        raise HeadstartError(f"--output {output}: a file; it is the folder for transcripts")


def _one(
    run: Run, source: Source, formats: Sequence[str], output: Path | None, outcome: Outcome, meter: Meter, named: bool
) -> None:
    audio = _Counted(source.path, meter)
    transcript = Transcript(source.path, source.name, 0.0, [])
    streamed = FORMATS[formats[0]].write if output is None and FORMATS[formats[0]].many else None
    if streamed and named and formats[0] == "text":
        print(f"==> {source.path} <==")
    spoken = 0.0
    for piece, segment in segments(run, _counted(pieces(audio), meter)):
        spoken += piece.end_s - piece.begin_s
        if not segment.words:
            continue
        outcome.words += len(segment.words)
        if streamed:
            print(streamed(Transcript(source.path, source.name, audio.seconds, [segment])), end="", flush=True)
        else:
            transcript.segments.append(segment)
    transcript.seconds = audio.seconds
    for name in formats if not streamed else ():
        made = FORMATS[name].write(transcript)
        if output is None:
            print(made, end="")
            continue
        path = output / (source.name + FORMATS[name].suffix)
        try:
            with written_whole(path) as temporary:
                temporary.write_text(made, encoding="utf-8")
        except OSError as error:
            raise HeadstartError(f"{path}: cannot be written: {error}") from None
    outcome.seconds += audio.seconds
    outcome.spoken_s += spoken
    if audio.expected and audio.seconds < TRUNCATED * audio.expected:
        meter.note(
            f"{source.path}: only {clock(audio.seconds)} of the {clock(audio.expected)} in its header could be "
            "decoded, and only that is transcribed; the file is cut short or damaged"
        )
    elif not spoken:
        meter.note(f"{source.path}: nothing to transcribe, {audio.seconds:.1f} s without any sound above silence")


class _Counted:
    """The blocks of a recording, counted as they are decoded."""

    def __init__(self, path: Path, meter: Meter):
        self.path, self.seconds, self.expected = path, 0.0, meter.lengths.get(path)

    def __iter__(self) -> Iterator:
        for block in recording_blocks(self.path):
            self.seconds += len(block) / SAMPLE_RATE
            yield block


def _counted(cut: Iterable[Piece], meter: Meter) -> Iterator[Piece]:
    for piece in cut:
        meter.reached(piece.begin_s)
        yield piece


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
        """Everything before this second of the recording is transcribed, or will be next."""
        self.at = second
        now = time.monotonic()
        if now - self.shown < (SECONDS if self.terminal else SECONDS_IN_FILE):
            return
        self.shown = now
        print(self._line(now), end="\r" if self.terminal else "\n", file=sys.stderr, flush=True)

    def finished(self, recording: Source) -> None:
        """The recording is done."""
        self.before, self.at, self.number = self.before + self.lengths[recording.path], 0.0, self.number + 1

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


def in_words(outcome: Outcome, spent: float) -> str:
    """What was done, in a line."""
    recordings = f"{outcome.transcribed} recording{'s' if outcome.transcribed != 1 else ''}"
    return (
        f"{recordings} transcribed: {outcome.words} words in {clock(outcome.spoken_s)} of speech and "
        f"{clock(outcome.seconds - outcome.spoken_s)} of pauses, in {clock(spent)}"
    )
