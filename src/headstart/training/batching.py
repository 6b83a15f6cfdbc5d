"""Length-bucketed batches: a pure function of (lengths, seed, epoch), with few distinct shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Batch:
    """Clips of a batch, as indices, with the audio that they hold."""

    epoch: int
    clips: list[int]
    seconds: float
    shape: tuple[int, ...]


def epoch_batches(lengths: ArrayLike, limit: int, quantum: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Batches of one pass over the data.

    Clips are put into buckets by length in whole quanta; a batch takes as many clips of one bucket as fit into
    `limit` when padded to the bucket's length. What is left of a bucket joins the next longer one, so that only the
    last batch can be small.

    Args:
        lengths: length of every clip, in samples.
        limit: most samples in a batch, padding included (a single longer clip still makes a batch).
        quantum: samples to a multiple of which batches are padded.
        seed, epoch: the order is a function of both.

    Yields:
        Lists of clip indices, each clip once. Their number depends on the lengths alone.
    """
    rng = np.random.default_rng([seed, epoch])
    quanta = -(-np.asarray(lengths, np.int64) // quantum)
    buckets, sizes = np.unique(quanta, return_counts=True)
    members = np.split(np.argsort(quanta, kind="stable"), np.cumsum(sizes)[:-1])
    # One array of clips and one of places where batches end: lists of lists would take more than the rest of a job.
    order, ends, left = [], [], np.empty(0, np.int64)
    filled = 0
    for bucket, clips in zip(buckets, members, strict=True):
        clips = np.concatenate([left, rng.permutation(clips)])
        size = max(1, int(limit // (bucket * quantum)))
        whole = len(clips) // size * size
        order.append(clips[:whole])
        ends.append(filled + np.arange(size, whole + 1, size))
        filled, left = filled + whole, clips[whole:]
    if len(left):
        order.append(left)
        ends.append([filled + len(left)])
    order, ends = np.concatenate(order), np.concatenate(ends)
    starts = np.concatenate([[0], ends[:-1]])
    for i in rng.permutation(len(ends)):
        yield order[starts[i] : ends[i]].tolist()


def endless_batches(
    lengths: ArrayLike, limit: int, quantum: int, seed: int, start: int = 0
) -> Iterator[tuple[int, list[int]]]:
    """Yield (epoch, clip indices) for ever, from batch number `start` on: the same stream wherever it is resumed."""
    an_epoch = sum(1 for _ in epoch_batches(lengths, limit, quantum, seed, 0))
    first, skipped = divmod(start, an_epoch)
    for epoch in count(first):
        for batch in islice(epoch_batches(lengths, limit, quantum, seed, epoch), skipped, None):
            yield epoch, batch
        skipped = 0


class Paced:
    """Batches of clips of like length that are each told how much audio to hold, and keep to it in the long run.

    What a batch holds too much or too little is made up for by the next, so that after any number of batches the sum
    is within one clip of what was asked for. A pure function of (lengths, seed) and of what was asked.

    Args:
        lengths: length of every clip, in samples.
        quantum: samples, in multiples of which clips count as equally long.
    """

    def __init__(self, lengths: ArrayLike, quantum: int, seed: int):
        self.lengths, self.seed = np.asarray(lengths, np.int64), seed
        quanta = -(-self.lengths // quantum)
        order = np.argsort(quanta, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(quanta[order])) + 1)
        self.owed, self.epoch = 0.0, -1
        self.left: list[list[int]] = [[] for _ in self.members]

    def take(self, samples: float) -> tuple[int, list[int]]:
        """The epoch and the clips of the next batch, which should hold so many samples: none, if it is paid for."""
        self.owed += samples
        clips: list[int] = []
        while self.owed > 0:
            if not any(self.left):
                self.epoch += 1
                self.rng = np.random.default_rng([self.seed, self.epoch])
                self.left = [self.rng.permutation(clips).tolist() for clips in self.members]
                self.remaining = np.array([self.lengths[clips].sum() for clips in self.members], np.float64)
            if not clips:
                bucket = int(self.rng.choice(len(self.left), p=self.remaining / self.remaining.sum()))
            elif not self.left[bucket]:  # on with the next longer clips, or where there are none the longest left
                longer = [i for i, left in enumerate(self.left) if left and i > bucket]
                bucket = longer[0] if longer else max(i for i, left in enumerate(self.left) if left)
            clips.append(self.left[bucket].pop())
            self.remaining[bucket] -= self.lengths[clips[-1]]
            self.owed -= int(self.lengths[clips[-1]])
        return self.epoch, clips
