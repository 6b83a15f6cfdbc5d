"""Length-bucketed batches: a pure function of (lengths, seed, epoch), with few distinct shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def epoch_batches(lengths: Sequence[int], limit: int, quantum: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one pass over the data.

    Clips are put into buckets by length in whole quanta; a batch takes as many clips of one bucket as fit into
    `limit` when padded to the bucket's length. What is left of a bucket joins the next longer one, so that only the
    last batch can be small.

    Args:
        lengths: length of every clip, in samples.
        limit: most samples in a batch, padding included (a single longer clip still makes a batch).
        quantum: samples to a multiple of which batches are padded.
        seed, epoch: the order is a function of both.

    Returns:
        Lists of clip indices, each clip once.
    """
    rng = np.random.default_rng([seed, epoch])
    quanta = -(-np.asarray(lengths) // quantum)
    batches, left = [], np.empty(0, np.int64)
    for bucket in np.unique(quanta):
        clips = np.concatenate([left, rng.permutation(np.flatnonzero(quanta == bucket))])
        size = max(1, int(limit // (bucket * quantum)))
        whole = len(clips) // size * size
        batches += clips[:whole].reshape(-1, size).tolist()
        left = clips[whole:]
    if len(left):
        batches.append(left.tolist())
    return [batches[i] for i in rng.permutation(len(batches))]


def endless_batches(
    lengths: Sequence[int], limit: int, quantum: int, seed: int, start: int = 0
) -> Iterator[tuple[int, list[int]]]:
    """Yield (epoch, clip indices) for ever, from batch number `start` on: the same stream wherever it is resumed."""
    number = epoch = 0
    while True:
        for batch in epoch_batches(lengths, limit, quantum, seed, epoch):
            if number >= start:
                yield epoch, batch
            number += 1
        epoch += 1
