"""Transcription of recordings: to standard output or files, with progress, and past those that are damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstart.audio.sources import AudioError
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.recordings import recording_blocks
from headstart.files import written_whole
from headstart.logs import clock
from headstart.transcribe.formats import FORMATS, Transcript
from headstart.transcribe.pieces import Piece, pieces
from headstart.transcribe.progress import Meter
from headstart.transcribe.recognition import Segment, segments
from headstart.transcribe.run import Run
from headstart.transcribe.sources import Source

TRUNCATED = 0.95  # share of the length in the header, below which a recording is reported as cut short


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

    transcribed: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    seconds: float = 0.0
    spoken_s: float = 0.0
    words: int = 0


@dataclass
class Work:
    """A recording on its way.

    Attributes:
        transcript: what is known of it so far.
        expected: seconds by its header; 0 where that does not say it.
        spoken_s: seconds in its pieces.
        failure: why it cannot be decoded.
        headed: whether its name stands above its text in the standard output.
    """

    transcript: Transcript
    expected: float
    spoken_s: float = 0.0
    failure: str | None = None
    headed: bool = False

    @property
    def path(self) -> Path:
        return self.transcript.path


def transcribe(run: Run, recordings: Sequence[Source], formats: Sequence[str], output: Path | None) -> Outcome:
    """Transcribe recordings into files of `output`, or to standard output, and say on standard error how far it is.

    A recording that cannot be decoded is named, and the others go on. Short recordings are put into batches together;
    what is written keeps their order.

    Args:
        formats: names in `FORMATS`; without `output` only one, and for several recordings one that can hold many.

    Raises:
        HeadstartError: the formats cannot be written to standard output, or a file cannot be written.
    """
    check_formats(formats, output, len(recordings))
    meter, outcome, finished = Meter(recordings), Outcome(), 0
    works = [Work(Transcript(one.path, one.name, 0.0, []), meter.lengths[one.path]) for one in recordings]
    writer = _Writer(formats, output, len(recordings) > 1)

    def finish(work: Work) -> None:
        if work.failure is not None:
            outcome.failed[work.path] = work.failure
            meter.note(f"{work.path}: not transcribed: {work.failure}")
        else:
            writer.finish(work)
            outcome.transcribed += 1
            outcome.seconds += work.transcript.seconds
            outcome.spoken_s += work.spoken_s
            outcome.words += sum(len(segment.words) for segment in work.transcript.segments)
            _remark(work, meter)
        work.transcript.segments.clear()  # only those of recordings on their way are kept in memory
        meter.finished(work.path)

    for piece, segment in segments(run, _pieces_of(works)):
        for work in works[finished : piece.recording]:
            finish(work)
        finished = max(finished, piece.recording)
        work = works[piece.recording]
        work.spoken_s += piece.end_s - piece.begin_s
        if segment.words and work.failure is None:
            work.transcript.segments.append(segment)
            writer.add(work, segment)
        meter.reached(piece.end_s)
    for work in works[finished:]:
        finish(work)
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


def _pieces_of(works: Sequence[Work]) -> Iterator[Piece]:
    """The pieces of all recordings, one recording after the other; a work is told why its recording has no more."""
    for number, work in enumerate(works):
        try:
            for piece in pieces(_decoded(work)):
                piece.recording = number
                yield piece
        except AudioError as error:
            work.failure = " ".join(str(error).split())


def _decoded(work: Work) -> Iterator[np.ndarray]:
    """The blocks of a recording, whose seconds are counted as they are decoded."""
    for block in recording_blocks(work.path):
        work.transcript.seconds += len(block) / SAMPLE_RATE
        yield block


def _remark(work: Work, meter: Meter) -> None:
    """Say what is worth knowing of a recording that was transcribed."""
    seconds = work.transcript.seconds
    if work.expected and seconds < TRUNCATED * work.expected:
        meter.note(
            f"{work.path}: only {clock(seconds)} of the {clock(work.expected)} in its header could be decoded, and "
            "only that is transcribed; the file is cut short or damaged"
        )
    elif not work.spoken_s:
        meter.note(f"{work.path}: nothing to transcribe, {seconds:.1f} s without any sound above silence")


class _Writer:
    """Writes transcripts into files when they are whole, or to standard output, segment by segment where that can be.

    Args:
        named: whether names stand above the texts of recordings in the standard output.
    """

    def __init__(self, formats: Sequence[str], output: Path | None, named: bool):
        self.formats, self.output = formats, output
        self.streamed = output is None and FORMATS[formats[0]].many
        self.headed = self.streamed and named and formats[0] == "text"

    def add(self, work: Work, segment: Segment) -> None:
        """A segment of a recording is known."""
        if self.streamed:
            self._head(work)
            whole = work.transcript
            part = Transcript(whole.path, whole.name, whole.seconds, [segment])
            print(FORMATS[self.formats[0]].write(part), end="", flush=True)

    def finish(self, work: Work) -> None:
        """All segments of a recording are known.

        Raises:
            HeadstartError: a file cannot be written.
        """
        if self.streamed:
            self._head(work)
            return
        for name in self.formats:
            made = FORMATS[name].write(work.transcript)
            if self.output is None:
                print(made, end="")
                continue
            path = self.output / (work.transcript.name + FORMATS[name].suffix)
            try:
                with written_whole(path) as temporary:
                    temporary.write_text(made, encoding="utf-8")
            except OSError as error:
                raise HeadstartError(f"{path}: cannot be written: {error}") from None

    def _head(self, work: Work) -> None:
        if self.headed and not work.headed:
            print(f"==> {work.path} <==")
            work.headed = True


def in_words(outcome: Outcome, spent: float) -> str:
    """What was done, in a line."""
    recordings = f"{outcome.transcribed} recording{'s' if outcome.transcribed != 1 else ''}"
    return (
        f"{recordings} transcribed: {outcome.words} words in {clock(outcome.spoken_s)} of speech and "
        f"{clock(outcome.seconds - outcome.spoken_s)} of pauses, in {clock(spent)}"
    )
