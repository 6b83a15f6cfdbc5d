"""Error rates and bootstrap intervals, against references that do not share their code."""

import numpy as np
import pytest
from intervals import bootstrap_interval, paired_difference

from headstart.summarise.statistics import (
    Interval,
    bootstrap_rates,
    check_same_utterances,
    error_rate,
    false_alarm,
    percentile_interval,
)


def simulated(rng, seeds, utterances, rate=0.3, seed_spread=0.0, utterance_spread=0.0):
    """Counts [seeds, utterances] in which runs and utterances differ in difficulty around `rate`."""
    words = rng.integers(3, 15, size=utterances)
    chance = rate + seed_spread * rng.standard_normal((seeds, 1)) + utterance_spread * rng.standard_normal(utterances)
    return rng.binomial(words, np.clip(chance, 0, 1)), np.broadcast_to(words, (seeds, utterances))


def test_the_error_rate_sums_before_it_divides():
    assert error_rate([1, 0], [1, 9]) == pytest.approx(0.1)
    assert error_rate([[3], [6]], [[2], [4]]) == pytest.approx(1.5)


def test_an_interval_agrees_with_the_ratio_estimators_normal_theory():
    # One seed: the classical standard error of a ratio of sums (Cochran, Sampling Techniques, ch. 6).
    errors, words = simulated(np.random.default_rng(0), 1, 3000, utterance_spread=0.1)
    rate = errors.sum() / words.sum()
    residual = errors[0] - rate * words[0]
    standard_error = np.sqrt((residual**2).sum()) / words.sum()
    interval = bootstrap_interval(errors, words, replicates=4000)
    assert interval.estimate == pytest.approx(rate)
    assert interval.low == pytest.approx(rate - 1.96 * standard_error, abs=0.15 * standard_error)
    assert interval.high == pytest.approx(rate + 1.96 * standard_error, abs=0.15 * standard_error)


def test_an_interval_agrees_with_a_plain_loop():
    # The same method, written as one draws it by hand: indices, no counts of draws, other random numbers.
    errors, words = simulated(np.random.default_rng(1), 4, 60, seed_spread=0.05, utterance_spread=0.1)
    rng = np.random.default_rng(99)
    rates = []
    for _ in range(4000):
        s, u = rng.integers(4, size=4), rng.integers(60, size=60)
        rates.append(errors[np.ix_(s, u)].sum() / words[np.ix_(s, u)].sum())
    interval = bootstrap_interval(errors, words, replicates=4000, confidence=0.9)
    low, high = np.quantile(rates, [0.05, 0.95])
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.004), pytest.approx(high, abs=0.004))


def test_an_interval_agrees_with_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    errors, words = simulated(np.random.default_rng(2), 1, 300, utterance_spread=0.1)
    theirs = scipy_stats.bootstrap(
        (errors[0], words[0]),
        lambda e, w, axis=-1: e.sum(axis) / w.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=5000,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    ours = bootstrap_interval(errors, words, replicates=5000)
    assert (ours.low, ours.high) == (
        pytest.approx(theirs.low, abs=0.003),
        pytest.approx(theirs.high, abs=0.003),
    )


def test_intervals_cover_the_true_rate_as_often_as_they_say():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        errors, words = simulated(rng, 10, 150, rate=0.4, seed_spread=0.02, utterance_spread=0.1)
        interval = bootstrap_interval(errors, words, replicates=400)
        covered += interval.low <= 0.4 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_paired_differences_cover_the_true_difference_and_rarely_exclude_a_true_zero():
    rng = np.random.default_rng(4)
    covered = excluded = 0
    for _ in range(150):
        words = rng.integers(3, 15, size=150)
        hard = 0.1 * rng.standard_normal(150)

        def system(rate, words=words, hard=hard):
            return rng.binomial(words, np.clip(rate + hard + 0.02 * rng.standard_normal((8, 1)), 0, 1))

        reference = np.broadcast_to(words, (8, 150))
        first, second, worse = system(0.4), system(0.4), system(0.5)
        difference = paired_difference((worse, reference), (first, reference), replicates=400)
        covered += difference.low <= 0.1 <= difference.high
        excluded += paired_difference((second, reference), (first, reference), replicates=400).verdict != "unclear"
    assert covered / 150 >= 0.88
    assert excluded / 150 <= 0.12


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.001, "lower"),
        (0.001, 0.2, "higher"),
        (0.001, np.inf, "higher"),
        (-0.2, 0.0, "unclear"),
        (0.0, 0.0, "unclear"),
        (-0.1, 0.1, "unclear"),
        (np.nan, np.nan, "unclear"),
    ],
)
def test_a_verdict_says_on_which_side_of_zero_the_interval_lies(low, high, verdict):
    interval = Interval(0.0, low, high)
    assert interval.verdict == verdict


def test_few_seeds_raise_false_alarms():
    """With 2 seeds whenever both agree, and with 3, for the least of 27 draws of three is the one worst seed thrice."""
    assert false_alarm(2, 0.95) == pytest.approx(1 / 2, abs=0.04)
    assert false_alarm(3, 0.95) == pytest.approx(1 / 4, abs=0.04)
    assert false_alarm(40, 0.95) == pytest.approx(0.05, abs=0.025)
    rng, words, alarms = np.random.default_rng(6), np.full((3, 40), 1000), 0
    for _ in range(300):  # differences between runs far beyond what utterances add
        first, second = (np.rint(1000 * (0.4 + 0.03 * rng.standard_normal((3, 1)))) + 0 * words for _ in range(2))
        alarms += paired_difference((second, words), (first, words), replicates=400).verdict != "unclear"
    assert alarms / 300 == pytest.approx(false_alarm(3, 0.95), abs=0.08)


def test_few_replicates_have_intervals_as_wide_as_many():
    """The ends are quantiles of the distribution that replicates come from, in the mean, and not within them."""
    rng = np.random.default_rng(7)
    intervals = [percentile_interval(0.0, rng.uniform(size=40), 0.95) for _ in range(400)]
    assert np.mean([interval.low for interval in intervals]) == pytest.approx(0.025, abs=0.004)
    assert np.mean([interval.high for interval in intervals]) == pytest.approx(0.975, abs=0.004)


def test_pairing_narrows_the_interval_when_utterances_differ_in_difficulty():
    rng = np.random.default_rng(5)
    words = np.full((3, 400), 10)
    hard = rng.uniform(0, 0.8, size=400)
    first, second = rng.binomial(words, hard), rng.binomial(words, hard * 0.95)
    paired = paired_difference((second, words), (first, words))
    single = bootstrap_interval(first, words)
    assert paired.high - paired.low < single.high - single.low


def test_identical_systems_differ_by_exactly_nothing():
    errors, words = simulated(np.random.default_rng(6), 3, 50, seed_spread=0.05)
    difference = paired_difference((errors, words), (errors.copy(), words.copy()))
    assert (difference.estimate, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert difference.verdict == "unclear"


def test_seeds_that_differ_widen_the_interval():
    words = np.full((4, 500), 10)
    same = np.tile(np.arange(500) % 7, (4, 1))
    spread = same + np.array([[0], [1], [2], [3]])
    narrow, wide = bootstrap_interval(same, words), bootstrap_interval(spread, words)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_results_are_a_pure_function_of_their_inputs():
    errors, words = simulated(np.random.default_rng(7), 3, 80)
    assert bootstrap_interval(errors, words) == bootstrap_interval(errors, words)
    assert bootstrap_interval(errors, words) != bootstrap_interval(errors, words, rng_seed=1)


def test_stacked_systems_meet_the_draws_they_meet_alone(monkeypatch):
    first = simulated(np.random.default_rng(8), 3, 80)
    second = simulated(np.random.default_rng(9), 3, 80)
    together = bootstrap_rates(np.stack([first[0], second[0]]), np.stack([first[1], second[1]]), replicates=50)
    # Blocks of any size draw the same numbers.
    monkeypatch.setattr("headstart.summarise.statistics.CHUNK_CELLS", 80 * 7)
    np.testing.assert_allclose(together[:, 0], bootstrap_rates(*first, replicates=50))
    np.testing.assert_allclose(together[:, 1], bootstrap_rates(*second, replicates=50))


def test_one_utterance_and_one_seed_have_an_interval_without_width():
    interval = bootstrap_interval([[2]], [[4]])
    assert (interval.estimate, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_utterances_without_reference_words_count_their_insertions():
    interval = bootstrap_interval([[1, 0, 1, 0]], [[0, 5, 0, 5]], replicates=200)
    assert interval.estimate == pytest.approx(0.2)
    assert np.isfinite([interval.low, interval.high]).all()


@pytest.mark.parametrize(
    ("errors", "reference", "message"),
    [
        ([[1, 2]], [[1]], "differ in shape"),
        ([[0, 0]], [[0, 0]], "at least one reference token"),
        ([[-1, 0]], [[1, 1]], "not negative"),
        ([[np.nan, 0]], [[1, 1]], "finite"),
        ([1, 0], [1, 1], "seeds, utterances"),
    ],
)
def test_impossible_counts_are_named(errors, reference, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(errors, reference)


def test_a_difference_between_unlike_shapes_is_an_error():
    with pytest.raises(ValueError, match="same seeds and utterances"):
        paired_difference(([[1, 1]], [[2, 2]]), ([[1]], [[2]]))


def test_misaligned_utterances_are_named():
    check_same_utterances(["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match=r"only in ssl: c.*only in scratch: b"):
        check_same_utterances(["a", "c"], ["a", "b"], "ssl", "scratch")
    with pytest.raises(ValueError, match="in another order: a / b, b / a"):
        check_same_utterances(["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match="twice in left: a"):
        check_same_utterances(["a", "a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="and 3 more"):
        check_same_utterances([str(i) for i in range(8)], [])
