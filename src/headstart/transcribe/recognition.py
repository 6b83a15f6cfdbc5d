"""Words with times and confidences from a recording, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from headstart.features.audio import SAMPLE_RATE
from headstart.score.transcription import emissions, greedy
from headstart.text.normalisation import normalise_hypothesis
from headstart.transcribe.pieces import OVERLAP_S, Piece
from headstart.transcribe.run import Run

BATCH_SECONDS = {"cpu": 60.0, "cuda": 240.0}
BATCHES_AT_ONCE = 4  # of audio in memory, among which batches are made by length


@dataclass
class Word:
    """A word, with its place in the recording in seconds, and its confidence.

    `confidence` is the geometric mean of the probabilities that the network gives to its characters, between 0 and 1;
    None for a word whose place is not known but by the words around it.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None


@dataclass
class Segment:
    """What is said between two pauses, with the words in it."""

    start_s: float
    end_s: float
    words: list[Word]

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float | None:
        """Mean of the words' confidences; None where none is known."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return float(np.mean(known)) if known else None


def segments(run: Run, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, Segment]]:
    """What is said in each piece, in order. A segment may have no words.

    Pieces of several recordings may follow one another; they are put into batches together.

    Two pieces without a pause between them hold the same second of speech. It is cut where the first piece has a gap
    between two words, the one nearest to the middle, and each piece keeps the words on its side.
    """
    waiting: tuple[Piece, Segment] | None = None
    for piece, words in _words(run, pieces):
        segment = Segment(piece.begin_s, piece.end_s, words)
        if waiting:
            if piece.joined:
                _share(waiting[1], segment, piece.begin_s)
            yield waiting
        waiting = piece, segment
    if waiting:
        yield waiting


def _share(first: Segment, second: Segment, cut: float) -> None:
    """Give each word of the overlap around `cut` to one of two segments."""
    gaps = [(a.end_s + b.start_s) / 2 for a, b in zip(first.words, first.words[1:], strict=False)]
    near = [gap for gap in gaps if abs(gap - cut) < OVERLAP_S * 0.8]  # words at the very edge may be cut themselves
    cut = min(near, key=lambda gap: abs(gap - cut), default=cut)
    first.words = [word for word in first.words if (word.start_s + word.end_s) / 2 < cut]
    second.words = [word for word in second.words if (word.start_s + word.end_s) / 2 >= cut]
    first.end_s = second.start_s = cut


class _Audio:
    """Pieces in the form in which `emissions` takes clips."""

    def __init__(self, pieces: list[Piece]):
        self.pieces, self.lengths = pieces, np.array([len(piece.audio) for piece in pieces])

    def __len__(self) -> int:
        return len(self.pieces)

    def audio(self, index: int) -> np.ndarray:
        return self.pieces[index].audio


def _words(run: Run, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, list[Word]]]:
    """The words in the audio of each piece, the overlaps included."""
    batch_seconds = BATCH_SECONDS.get(next(run.network.parameters()).device.type, 60.0)
    for some in gathered(pieces, BATCHES_AT_ONCE * batch_seconds):
        found: list[list[Word]] = [[] for _ in some]
        for index, logits_TV in emissions(run.network, _Audio(some), run.vocabulary, batch_seconds):
            found[index] = _decoded(run, some[index], logits_TV)
        yield from zip(some, found, strict=True)


def gathered(pieces: Iterable[Piece], seconds: float) -> Iterator[list[Piece]]:
    """Pieces that follow one another, in lists of at least so many seconds but for the last one."""
    some: list[Piece] = []
    held = 0.0
    for piece in pieces:
        some.append(piece)
        held += piece.seconds
        if held >= seconds:
            yield some
            some, held = [], 0.0
    if some:
        yield some


def _decoded(run: Run, piece: Piece, logits_TV: np.ndarray) -> list[Word]:
    if not len(logits_TV):
        return []
    hypothesis = normalise_hypothesis(greedy(logits_TV, run.vocabulary))
    columns = run.decoder.columns(logits_TV, hypothesis, "")
    text = hypothesis if columns["hypothesis_lm"] is None else columns["hypothesis_lm"]
    words, times, confidences = text.split(), columns["word_times"], columns["word_confidence"]
    if times is None:  # normalisation gave a character that the network cannot spell
        length = len(piece.audio) / SAMPLE_RATE / max(1, len(words))
        times = [{"start_s": length * i, "end_s": length * (i + 1)} for i in range(len(words))]
        confidences = [None] * len(words)
    return [
        Word(word, piece.audio_s + time["start_s"], piece.audio_s + time["end_s"], confidence)
        for word, time, confidence in zip(words, times, confidences, strict=True)
    ]


def words_in(found: Iterable[Segment]) -> list[Word]:
    """The words of all segments, in order."""
    return [word for segment in found for word in segment.words]
