"""Cutting a recording into pieces of speech for a network: at pauses, or with an overlap where there is none.

What lies between stretches of digital silence (samples of zero for `PAUSE_S`), or the ends of the recording, is a take:
a clip, say, that an editor has put there. A take of at most `LONGEST_S` that holds speech is one piece, from its first
sample to its last, so that a clip is transcribed in a recording as it is by itself. Longer takes are cut.

A frame of 10 ms is speech where its level, averaged over 50 ms, is above a threshold: a quarter of the way from the
noise floor (10th percentile of the levels around it) to the loudest speech (99th percentile), and never below
`SILENCE_DBFS`. "Around" is half a minute to either side, so that a recording may change its level. A pause of
`PAUSE_S` ends a piece of a long take. Speech that is longer than `LONGEST_S` is cut in its longest pause of
`SHORT_PAUSE_S`, or else in the quietest moment of its second half, and then both pieces hold `OVERLAP_S` more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.features.audio import SAMPLE_RATE
from headstart.features.recordings import BLOCK_S
from headstart.features.samples import SILENCE_DBFS

FRAME = 160  # samples
FRAMES_S = SAMPLE_RATE // FRAME  # frames a second
SMOOTHED = 5  # frames
AROUND = 3  # blocks before and after a block, whose levels its threshold is taken from
THRESHOLD = 0.25  # of the way from the noise floor to the loudest speech
PAUSE_S, SHORT_PAUSE_S = 0.5, 0.15
EDGE_S = 0.2  # kept of the pauses before and after a piece, for sounds that are below the threshold
LONGEST_S = 20.0
OVERLAP_S = 1.0
KEPT_S = 60.0  # held before the next piece has begun: a take and what has to come after it to know its end


LONG = (0, 1 << 62)  # a take that is too long to be a piece


@dataclass
class Piece:
    """A stretch of a recording that is transcribed at once.

    Attributes:
        audio: int16 samples at 16 kHz, shape (num_samples,).
        audio_s: where `audio` begins in the recording, in seconds.
        begin_s, end_s: the stretch; `audio` holds `OVERLAP_S` more on a side where no pause could be found.
        joined: whether the stretch goes on from the piece before without a pause.
        recording: its number among those that are transcribed together.
    """

    audio: np.ndarray
    audio_s: float
    begin_s: float
    end_s: float
    joined: bool = False
    recording: int = 0

    @property
    def seconds(self) -> float:
        """Length of `audio`."""
        return len(self.audio) / SAMPLE_RATE


def pieces(blocks: Iterable[np.ndarray]) -> Iterator[Piece]:
    """The pieces of speech of a recording, in order. Longer pauses are left out.

    Args:
        blocks: int16 samples of the recording, from `recording_blocks`. About a minute of them is in memory at a time.
    """
    cutter = _Cutter()
    for audio, speech, levels in _speech(_framed(blocks)):
        yield from cutter.take(audio, speech, levels)
    yield from cutter.ended(True)


def _framed(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same audio in blocks of whole frames, but for the last one, each with the levels of its frames in dBFS."""
    rest, size = np.zeros(0, np.int16), BLOCK_S * SAMPLE_RATE
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) > size:
            yield rest[:size], _levels(rest[:size])
            rest = rest[size:]
    if len(rest):
        yield rest, _levels(rest)


def _levels(audio: np.ndarray) -> np.ndarray:
    """Level of each frame in dBFS, without a constant offset; the last frame may be shorter than the others."""
    frames = -(-len(audio) // FRAME)
    energy = np.zeros(frames * FRAME, np.float32)
    energy[: len(audio)] = np.square((audio - audio.mean()) / 32768)
    return 10 * np.log10(energy.reshape(frames, FRAME).mean(1) + 1e-10)


def _empty(audio: np.ndarray) -> np.ndarray:
    """Which frames hold nothing but zeros."""
    return ~np.logical_or.reduceat(audio != 0, np.arange(0, len(audio), FRAME))


def _speech(framed: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks with which of their frames are speech, and their smoothed levels."""
    held: deque[tuple[np.ndarray, np.ndarray]] = deque()
    place = 0  # of the next block to judge, in `held`

    def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        levels = np.maximum(np.concatenate([own for _, own in held]), SILENCE_DBFS)
        power = np.convolve(10 ** (levels / 10), np.full(SMOOTHED, 1 / SMOOTHED), "same")
        smoothed = 10 * np.log10(np.maximum(power, 1e-10))
        floor, loudest = np.percentile(levels, [10, 99])
        begin = sum(len(own) for _, own in list(held)[:place])
        own = smoothed[begin : begin + len(held[place][1])]
        return held[place][0], own > max(floor + THRESHOLD * (loudest - floor), SILENCE_DBFS + 1e-3), own

    for block in framed:
        held.append(block)
        if len(held) - place > AROUND:
            yield judged()
            place += 1
            if place > AROUND:
                held.popleft()
                place -= 1
    while place < len(held):
        yield judged()
        place += 1


class _Cutter:
    """Cuts audio whose frames are known to be speech or not. Frames are counted from the beginning of the recording."""

    def __init__(self) -> None:
        self.audio, self.levels = np.zeros(0, np.int16), np.zeros(0, np.float32)
        self.speech, self.empty = np.zeros(0, bool), np.zeros(0, bool)
        self.first = 0  # the first frame that is held
        self.begin: int | None = None  # the first frame of the piece that has begun
        self.joined = False
        self.free = 0  # the first frame that no earlier piece has taken

    @property
    def held(self) -> int:
        """The first frame that is not there yet."""
        return self.first + len(self.speech)

    def take(self, audio: np.ndarray, speech: np.ndarray, levels: np.ndarray) -> Iterator[Piece]:
        """Go on with these frames; yields the pieces that have come to their end."""
        empty = _empty(audio)
        self.audio = np.concatenate([self.audio, audio])
        self.speech = np.concatenate([self.speech, speech & ~empty])  # smoothing reaches beyond what was recorded
        self.empty = np.concatenate([self.empty, empty])
        self.levels = np.concatenate([self.levels, levels])
        yield from self.ended(False)
        oldest = self.held - int(KEPT_S * FRAMES_S) if self.begin is None else self.begin - int(OVERLAP_S * FRAMES_S)
        if (drop := oldest - self.first) > 0:
            self.audio, self.levels = self.audio[drop * FRAME :], self.levels[drop:]
            self.speech, self.empty = self.speech[drop:], self.empty[drop:]
            self.first = oldest

    def ended(self, at_end: bool) -> Iterator[Piece]:
        """The pieces that have come to their end, with the one that has not at the end of the recording."""
        while True:
            if self.begin is None:
                from_here = max(self.first, self.free)
                spoken = np.flatnonzero(self.speech[from_here - self.first :])
                if not len(spoken):
                    return
                begin = from_here + int(spoken[0])
                take = self._take(begin, at_end)
                if take is None:  # its end is not there yet
                    return
                if take[1] - take[0] <= LONGEST_S * FRAMES_S:
                    yield self._whole(begin, *take, at_end)
                    continue
                self.begin, self.joined = begin, False
            runs = _runs(self.speech[self.begin - self.first :], self.begin)
            pauses = [(begin, end) for spoken, begin, end in runs if not spoken]
            pause = next(((begin, end) for begin, end in pauses if end - begin >= PAUSE_S * FRAMES_S), None)
            spoken_until = pause[0] if pause else max(end for spoken, _, end in runs if spoken)
            if spoken_until - self.begin > (LONGEST_S + OVERLAP_S) * FRAMES_S:
                yield self._cut(pauses)
            elif pause:
                yield self._until(*pause)
            elif at_end:
                yield self._until(spoken_until, 2 * self.held)
            else:
                return

    def _take(self, begin: int, at_end: bool) -> tuple[int, int] | None:
        """The frames of the take with its first speech at `begin`; `LONG` if it is too long to be a piece.

        None as long as neither its end nor that it is too long is known.
        """
        silent = [(a, b) for empty, a, b in _runs(self.empty, self.first) if empty and b - a >= PAUSE_S * FRAMES_S]
        begins = [b for _, b in silent if b <= begin] + ([0] if self.first == 0 else [])
        if not begins or max(begins) < self.free:
            return LONG
        first = max(begins)
        end = next((a for a, _ in silent if a > begin), self.held if at_end else None)
        if end is None:
            return LONG if self.held - first > (LONGEST_S + PAUSE_S) * FRAMES_S else None
        return first, end

    def _whole(self, begin: int, first: int, end: int, at_end: bool) -> Piece:
        """The piece that is a whole take, with speech from `begin`."""
        spoken = np.flatnonzero(self.speech[begin - self.first : end - self.first])
        self.free = end
        audio = self.audio[(first - self.first) * FRAME : (end - self.first) * FRAME]
        sound = np.flatnonzero(audio)
        low = int(sound[0]) if first else 0
        high = len(audio) if at_end and end == self.held else int(sound[-1]) + 1
        audio_s = first / FRAMES_S + low / SAMPLE_RATE
        return Piece(audio[low:high], audio_s, begin / FRAMES_S, (begin + int(spoken[-1]) + 1) / FRAMES_S)

    def _cut(self, pauses: list[tuple[int, int]]) -> Piece:
        """The piece up to a cut in a short pause, or within speech."""
        latest = self.begin + int(LONGEST_S * FRAMES_S)
        pause = max(
            (pause for pause in pauses if pause[0] < latest), key=lambda pause: pause[1] - pause[0], default=None
        )
        if pause and pause[1] - pause[0] >= SHORT_PAUSE_S * FRAMES_S:
            return self._until(*pause)
        middle = (self.begin + latest) // 2
        cut = middle + int(np.argmin(self.levels[middle - self.first : latest - self.first]))
        piece = self._piece(cut, cut + int(OVERLAP_S * FRAMES_S))
        self.begin, self.free, self.joined = cut, cut, True
        return piece

    def _until(self, begin: int, end: int) -> Piece:
        """The piece that ends with a pause, of which it takes half at most."""
        stop = begin + min(int(EDGE_S * FRAMES_S), (end - begin + 1) // 2)
        piece = self._piece(begin, stop)
        self.begin, self.free = None, stop
        return piece

    def _piece(self, end: int, stop: int) -> Piece:
        """The piece that ends at a frame, with audio up to another one."""
        if self.joined:
            start = self.begin - int(OVERLAP_S * FRAMES_S)
        else:
            start = max(self.free, self.begin - int(EDGE_S * FRAMES_S))
        start = max(start, self.first)
        audio = self.audio[(start - self.first) * FRAME : (stop - self.first) * FRAME]
        # Samples of zero are no recording but what an editor has put between two.
        sound = np.flatnonzero(audio)
        first, last = (int(sound[0]), int(sound[-1]) + 1) if len(sound) else (0, len(audio))
        audio_s = start / FRAMES_S + first / SAMPLE_RATE
        return Piece(audio[first:last], audio_s, self.begin / FRAMES_S, end / FRAMES_S, self.joined)


def _runs(flags: np.ndarray, first: int) -> list[tuple[bool, int, int]]:
    """Runs of equal values: (value, begin, end), counted from `first`."""
    edges = [0, *(np.flatnonzero(np.diff(flags.astype(np.int8))) + 1).tolist(), len(flags)]
    return [(bool(flags[a]), first + a, first + b) for a, b in zip(edges, edges[1:], strict=False)]
