"""Strings of sound units and their similarity, against plain Python, scikit-learn and scipy."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from headstart.languages.sound_units import (
    FIRST,
    SoundUnits,
    cluster_text,
    count_similarity,
    fitted_clusters,
    learnt_pieces,
    stored_pieces,
)


def skewed_texts(rng, count=60, letters=6) -> list[str]:
    """Strings of a Markov chain, in which some sequences are far more frequent than others."""
    chain = rng.dirichlet(np.full(letters, 0.3), letters)
    texts = []
    for _ in range(count):
        state, text = int(rng.integers(letters)), []
        for _ in range(int(rng.integers(5, 60))):
            text.append(state)
            state = int(rng.choice(letters, p=chain[state]))
        texts.append("".join(chr(FIRST + k) for k in text))
    return texts


def joined(text: list[str], pair: tuple[str, str]) -> list[str]:
    result, place = [], 0
    while place < len(text):
        both = tuple(text[place : place + 2]) == pair
        result.append("".join(pair) if both else text[place])
        place += 2 if both else 1
    return result


def byte_pairs(texts: list[str], pieces: int) -> list[tuple[str, str]]:
    """The pairs that are joined, in order: the textbook's loop, which counts everything anew each time."""
    lists, known, merges = [list(text) for text in texts], {c for text in texts for c in text}, []
    while len(known) < pieces:
        counts = Counter(pair for text in lists for pair in zip(text, text[1:], strict=False))
        most = max(counts.values(), default=0)
        best = [pair for pair, count in counts.items() if count == most]
        if most < 2 or len(best) > 1:  # a tie, or nothing left
            break
        merges.append(best[0])
        known.add("".join(best[0]))
        lists = [joined(text, best[0]) for text in lists]
    return merges


def test_runs_of_one_cluster_are_one_unit():
    rng = np.random.default_rng(0)
    frames, mean, scale = rng.standard_normal((300, 4)), rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    centres = rng.standard_normal((5, 4))
    clusters = pairwise_distances_argmin((frames - mean) / scale, centres)
    assert cluster_text(frames, mean, scale, centres) == "".join(chr(FIRST + k) for k, _ in groupby(clusters))
    assert cluster_text(frames[:0], mean, scale, centres) == ""


def test_clusters_are_about_as_tight_as_scikit_learns():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(rng.normal(0, 3, 6), 1, (60, 6)) for _ in range(10)]) * [1, 1, 1, 50, 1, 1]
    mean, scale, centres = fitted_clusters(points, 10)
    scaled = (points - points.mean(0)) / points.std(0)
    np.testing.assert_allclose((points - mean) / scale, scaled)
    reference = KMeans(10, n_init=3, random_state=0).fit(scaled)
    spread = np.square(scaled - centres[pairwise_distances_argmin(scaled, centres)]).sum()
    assert spread <= 1.3 * reference.inertia_
    np.testing.assert_array_equal(fitted_clusters(points, 10)[2], centres)


def test_pieces_are_those_of_the_textbook():
    texts = skewed_texts(np.random.default_rng(2), 400)
    merges = byte_pairs(texts, 30)
    assert len(merges) > 10
    count = len({c for text in texts for c in text}) + len(merges)
    units = SoundUnits(np.zeros(1), np.ones(1), np.zeros((6, 1)), learnt_pieces(texts, count))
    vocabulary = units.tokenizer.get_vocab()
    assert set(vocabulary) == {c for text in texts for c in text} | {"".join(pair) for pair in merges}
    expected = Counter()
    for text in texts:
        pieces = list(text)
        for pair in merges:
            pieces = joined(pieces, pair)
        expected.update(pieces)
    counts = units.counts(texts)
    assert {piece: counts[place] for piece, place in vocabulary.items() if counts[place]} == expected
    again = SoundUnits(units.mean, units.scale, units.centres, stored_pieces(units.plain()))
    np.testing.assert_array_equal(again.counts(texts), counts)


def test_rare_pairs_are_not_joined_and_unknown_units_do_not_count():
    tokenizer = learnt_pieces(["abcd"], 100)
    units = SoundUnits(np.zeros(1), np.ones(1), np.zeros((4, 1)), tokenizer)
    assert units.pieces == 4
    assert units.counts(["abz", ""]).sum() == 2


def test_with_much_audio_the_similarity_is_the_cosine():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(200), 2)
    x, y = rng.multinomial(2_000_000, p), rng.multinomial(3_000_000, q)
    assert count_similarity(x, y) == pytest.approx(1 - cosine(x / x.sum(), y / y.sum()), abs=1e-3)
    assert count_similarity(x, y) == count_similarity(y, x)


def test_the_amount_of_audio_makes_no_difference_on_average():
    """The plain cosine of small samples is far too low, even of two samples of one distribution."""
    rng = np.random.default_rng(4)
    p, q = rng.dirichlet(np.full(300, 0.3), 2)
    truth = 1 - cosine(p, q)
    for one, other, true in ((p, q, truth), (p, p, 1.0)):
        pairs = [(rng.multinomial(400, one), rng.multinomial(900, other)) for _ in range(400)]
        ours = [count_similarity(x, y) for x, y in pairs]
        assert np.mean(ours) == pytest.approx(true, abs=4 * np.std(ours) / 20 + 0.01 * true)
        assert np.mean([1 - cosine(x / 400, y / 900) for x, y in pairs]) < 0.9 * true


def test_counts_of_nothing_have_no_similarity():
    assert np.isnan(count_similarity([1, 1, 0], [5, 5, 5]))
    assert np.isnan(count_similarity([0, 0, 0], [5, 5, 5]))
    assert count_similarity([5, 0], [0, 7]) == 0
