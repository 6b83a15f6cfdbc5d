"""Batches: every clip once an epoch, within the limit, and the same stream wherever it is picked up."""

from itertools import islice

import numpy as np
import pytest

from headstart.training.batching import Paced, endless_batches, epoch_batches

QUANTUM, LIMIT = 2000, 40_000


@pytest.fixture
def lengths() -> list[int]:
    return np.random.default_rng(0).integers(500, 20_000, 173).tolist()


def padded(batch: list[int], lengths: list[int]) -> int:
    return -(-max(lengths[i] for i in batch) // QUANTUM) * QUANTUM


def test_every_clip_comes_once_an_epoch(lengths):
    for epoch in range(3):
        batches = list(epoch_batches(lengths, LIMIT, QUANTUM, seed=1, epoch=epoch))
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))


def test_a_batch_stays_within_the_limit_and_is_filled(lengths):
    batches = list(epoch_batches(lengths, LIMIT, QUANTUM, seed=1, epoch=0))
    sizes = [len(batch) * padded(batch, lengths) for batch in batches]
    assert max(sizes) <= LIMIT
    assert sum(lengths) > 0.75 * len(batches) * LIMIT  # padding and unfilled batches together cost under a quarter


def test_a_clip_longer_than_the_limit_is_a_batch_of_its_own():
    lengths = [90_000, 1000, 41_000, 1000, 39_000]
    batches = list(epoch_batches(lengths, LIMIT, QUANTUM, seed=0, epoch=0))
    assert sorted(i for batch in batches for i in batch) == list(range(5))
    assert all(len(batch) == 1 for batch in batches if len(batch) * padded(batch, lengths) > LIMIT)


def test_there_are_few_shapes(lengths):
    buckets = len({-(-length // QUANTUM) for length in lengths})
    shapes = set()
    for epoch in range(20):
        batches = list(epoch_batches(lengths, LIMIT, QUANTUM, seed=1, epoch=epoch))
        shapes |= {(len(batch), padded(batch, lengths)) for batch in batches}
    assert len(shapes) <= 2 * buckets


def test_the_order_is_a_function_of_seed_and_epoch(lengths):
    def order(seed: int, epoch: int) -> list[list[int]]:
        return list(epoch_batches(lengths, LIMIT, QUANTUM, seed, epoch))

    assert order(1, 0) == order(1, 0)
    assert len({str(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
    groups = [{frozenset(batch) for batch in order(1, epoch)} for epoch in (0, 1)]
    assert len(groups[0] & groups[1]) < len(groups[0]) / 4  # clips meet others in each epoch


@pytest.mark.parametrize("start", [0, 1, 27, 100])
def test_a_stream_continues_as_if_it_had_never_stopped(lengths, start):
    whole = list(islice(endless_batches(lengths, LIMIT, QUANTUM, seed=3), 130))
    assert {epoch for epoch, _ in whole} >= {0, 1, 2}
    for wanted in (0, 1):
        epoch_of_it = [batch for epoch, batch in whole if epoch == wanted]
        assert epoch_of_it == list(epoch_batches(lengths, LIMIT, QUANTUM, seed=3, epoch=wanted))
    resumed = endless_batches(lengths, LIMIT, QUANTUM, seed=3, start=start)
    assert list(islice(resumed, 130 - start)) == whole[start:]


def test_a_stream_is_picked_up_after_any_number_of_epochs(lengths):
    batches = len(list(epoch_batches(lengths, LIMIT, QUANTUM, seed=3, epoch=0)))
    epoch, batch = next(endless_batches(lengths, LIMIT, QUANTUM, seed=3, start=10**9))  # never, if it drew them all
    assert epoch == 10**9 // batches
    assert batch == list(epoch_batches(lengths, LIMIT, QUANTUM, seed=3, epoch=epoch))[10**9 % batches]


def test_paced_batches_hold_what_was_asked_for_within_a_clip_and_each_clip_once_an_epoch():
    lengths = np.random.default_rng(0).integers(1_000, 90_000, 300)
    paced, asked, held, seen = Paced(lengths, 10_000, seed=3), 0.0, 0, []
    for number in range(600):
        amount = (40_000.0, 250_000.0, 0.0)[number % 3]
        _, clips = paced.take(amount)
        asked, held = asked + amount, held + lengths[clips].sum()
        assert asked <= held < asked + 90_000
        seen += clips
        assert amount or not clips
    for epoch in range(3):
        assert sorted(seen[300 * epoch : 300 * (epoch + 1)]) == list(range(300))


def test_paced_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(1_000, 90_000, 3000)
    paced = Paced(lengths, 10_000, seed=3)
    batches = [paced.take(400_000)[1] for _ in range(60)]
    padded = sum(len(clips) * lengths[clips].max() for clips in batches)
    assert padded < 1.15 * sum(lengths[clips].sum() for clips in batches)


def test_paced_batches_are_a_function_of_the_seed():
    lengths = np.random.default_rng(0).integers(1_000, 90_000, 50)
    one, same, other = (Paced(lengths, 10_000, seed=seed) for seed in (1, 1, 2))
    drawn = [[paced.take(100_000) for _ in range(20)] for paced in (one, same, other)]
    assert drawn[0] == drawn[1] != drawn[2]
