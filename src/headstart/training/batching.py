"""Length-bucketed batches: a pure function of (lengths, seed, epoch), with few distinct batch shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Batch:
    """One batch: its epoch, the indices of its clips, its seconds of audio, and its shape.

    The shape is (clips, padded length), with one such pair for labelled and one for unlabelled clips in the
    semi-supervised stage. Batches of one shape take the same number of operations.
    """

    epoch: int
    clips: list[int]
    seconds: float
    shape: tuple[int, ...]


def epoch_batches(lengths: ArrayLike, limit: int, quantum: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Batches of one pass over the data.

    Lengths are rounded up to a multiple of `quantum`, and clips of equal rounded length form a bucket. A batch takes as
    many clips of one bucket as fit into `limit` when padded to the bucket's length. The clips that do not fill a batch
    move to the next longer bucket, so that only the last batch can be small.

    Args:
        lengths: length of every clip, in samples.
        limit: maximum number of samples in a batch, padding included (a single longer clip still makes a batch).
        quantum: step in samples to which lengths are rounded up.
        seed, epoch: together they decide the order of clips and of batches.

    Yields:
        Lists of clip indices; each clip occurs once. The number of batches does not depend on `seed` or `epoch`.
    """
    rng = np.random.default_rng([seed, epoch])
    quanta = -(-np.asarray(lengths, np.int64) // quantum)
    buckets, sizes = np.unique(quanta, return_counts=True)
    members = np.split(np.argsort(quanta, kind="stable"), np.cumsum(sizes)[:-1])
    # One array of clips and one of batch ends, because lists of lists would take more memory than the rest of the job.
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
    """Yield (epoch, clip indices) without end, from batch number `start` on.

    Resuming at any batch number continues the same sequence. The arguments are those of `epoch_batches`.
    """
    an_epoch = sum(1 for _ in epoch_batches(lengths, limit, quantum, seed, 0))
    first, skipped = divmod(start, an_epoch)
    for epoch in count(first):
        for batch in islice(epoch_batches(lengths, limit, quantum, seed, epoch), skipped, None):
            yield epoch, batch
        skipped = 0


class Paced:
    """Batches of clips of similar length, each with a requested amount of audio.

    The caller requests an amount for each batch. Clips are whole, so a batch exceeds its request or falls short of it;
    the next batch compensates, and after any number of batches the total is within one clip of the sum of the requests.
    The batches are a pure function of `lengths`, `quantum`, `seed` and the requests.

    Args:
        lengths: length of every clip, in samples.
        quantum: step in samples; clips whose lengths round up to the same multiple count as equally long.
        seed: decides, with the epoch, the order of clips.
    """

    def __init__(self, lengths: ArrayLike, quantum: int, seed: int):
        self.lengths, self.seed = np.asarray(lengths, np.int64), seed
        quanta = -(-self.lengths // quantum)
        order = np.argsort(quanta, kind="stable")
        self.members = np.split(order, np.flatnonzero(np.diff(quanta[order])) + 1)
        self.owed, self.epoch = 0.0, -1
        self.left: list[list[int]] = [[] for _ in self.members]

    def take(self, samples: float) -> tuple[int, list[int]]:
        """The epoch and the clip indices of the next batch, for which `samples` are requested.

        The list is empty when earlier batches have already exceeded their requests by this much.
        """
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
            elif not self.left[bucket]:  # continue with the next longer clips, or else with the longest that remain
                longer = [i for i, left in enumerate(self.left) if left and i > bucket]
                bucket = longer[0] if longer else max(i for i, left in enumerate(self.left) if left)
            clips.append(self.left[bucket].pop())
            self.remaining[bucket] -= self.lengths[clips[-1]]
            self.owed -= int(self.lengths[clips[-1]])
        return self.epoch, clips
