"""Variances, intervals and p values, against scipy, statsmodels, closed forms and worked examples."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from headstart.summarise import variance
from headstart.summarise.design import Cell, Design, common_share, matched, speaker_variance
from headstart.summarise.estimates import Estimate, holm, satterthwaite
from headstart.summarise.power import Shape, enough_seeds
from headstart.summarise.rates import check_same_utterances, error_rate
from headstart.summarise.variance import SeedVariance, fit_seed_variance, pair_variances


def plain(value: float, variance: float, df: float) -> Estimate:
    """An estimate with a single t distribution."""
    return Estimate(value, np.ones(1), np.array([variance]), np.array([df]))


def design_of(values: np.ndarray) -> Design:
    """A design from log rates `[starts, seeds]` of one target, without a test set that varies."""
    return Design({("t", "b"): Cell("c", [f"s{i}" for i in range(len(values))], values)})


def difference(design: Design, treatment: str = "s1", baseline: str = "s0") -> Estimate:
    return design.difference({key: {treatment: 1.0, baseline: -1.0} for key in design.cells})


def median_scale(known: SeedVariance) -> float:
    """The median of s0²."""
    order = np.argsort(known.scale)
    return float(known.scale[order][np.searchsorted(np.cumsum(known.weights[order]), 0.5)])


@pytest.fixture
def equal_variances(monkeypatch):
    """A prior that allows for equal variances only: the textbook's randomised block design."""
    monkeypatch.setattr(variance, "PRIOR_DF", np.array([np.inf]))


# ---------------------------------------------------------------------------------------------- rates


def test_the_error_rate_sums_before_it_divides():
    assert error_rate([1, 0], [1, 9]) == pytest.approx(0.1)
    assert error_rate([[3], [6]], [[2], [4]]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("errors", "reference", "message"),
    [
        ([1], [1, 2], "differ in shape"),
        ([-1], [1], "not negative"),
        ([float("nan")], [1], "finite"),
        ([1], [-1], "not negative"),
        ([0], [0], "at least one reference token"),
    ],
)
def test_impossible_counts_are_named(errors, reference, message):
    with pytest.raises(ValueError, match=message):
        error_rate(errors, reference)


def test_misaligned_utterances_are_named():
    check_same_utterances(["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match=r"only in left: b; only in right: c"):
        check_same_utterances(["a", "b"], ["a", "c"])
    with pytest.raises(ValueError, match=r"in another order: a / b, b / a"):
        check_same_utterances(["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match=r"twice in right: a"):
        check_same_utterances(["a"], ["a", "a"])


# ---------------------------------------------------------------------------------------------- estimates


def test_one_t_distribution_agrees_with_scipy():
    estimate = plain(-0.7, 0.04, 5)
    frozen = stats.t(5, loc=-0.7, scale=0.2)
    assert estimate.interval(0.95) == pytest.approx(frozen.interval(0.95))
    assert estimate.p == pytest.approx(2 * stats.t.sf(3.5, 5))
    assert estimate.degrees_of_freedom == pytest.approx(5, rel=1e-6)


def test_a_mixture_agrees_with_draws_from_it():
    estimate = Estimate(0.3, np.array([0.25, 0.75]), np.array([1.0, 0.04]), np.array([3.0, np.inf]))
    rng = np.random.default_rng(0)
    wide = rng.random(400_000) < 0.25
    errors = np.where(wide, rng.standard_t(3, wide.size), 0.2 * rng.standard_normal(wide.size))
    low, high = estimate.interval(0.9)
    assert np.mean((errors > low - 0.3) & (errors < high - 0.3)) == pytest.approx(0.9, abs=0.003)
    assert estimate.p == pytest.approx(np.mean(np.abs(errors) > 0.3), abs=0.003)


def test_two_one_sided_tests_agree_with_statsmodels():
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((2, 9)) * 0.1
    theirs, *_ = ttost_paired(left, right, -0.15, 0.15)
    gap = left - right
    ours = plain(gap.mean(), gap.var(ddof=1) / 9, 8)
    assert ours.p_equal(0.15) == pytest.approx(theirs)
    low, high = ours.interval(0.9)  # equivalent at 5 % if and only if the 90 % interval is within the margin
    assert (ours.p_equal(0.15) < 0.05) == (-0.15 < low and high < 0.15)


def test_an_estimate_without_error_is_exact():
    same = plain(0.0, 0.0, np.inf)
    assert same.interval(0.95) == (0.0, 0.0)
    assert (same.p, same.p_equal(0.01)) == (1.0, 0.0)


def test_satterthwaite_agrees_with_welchs_test():
    left, right = [3.1, 2.4, 5.6, 4.4, 2.2], [7.7, 6.1, 9.9]
    parts = [np.var(left, ddof=1) / 5, np.var(right, ddof=1) / 3]
    df = float(satterthwaite(parts, [4, 2]))
    assert df == pytest.approx(stats.ttest_ind(left, right, equal_var=False).df)
    estimate = plain(np.mean(left) - np.mean(right), sum(parts), df)
    assert estimate.p == pytest.approx(stats.ttest_ind(left, right, equal_var=False).pvalue)
    # Equal parts with 4 and 12 degrees of freedom, by hand: 2² / (1 / 4 + 1 / 12) = 12.
    assert float(satterthwaite([1.0, 1.0], [4, 12])) == pytest.approx(12)


def test_holm_agrees_with_statsmodels_and_by_hand():
    # The smallest times four, the next times three: 0.01 x 4 = 0.04, 0.02 x 3 = 0.06, 0.03 x 2 = 0.06, and 0.04 is
    # raised to 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    p_values = np.random.default_rng(2).random(30) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


# ---------------------------------------------------------------------------------------------- variances


def test_a_block_design_with_equal_variances_is_the_analysis_of_variance(equal_variances):
    # Every pair of starts, weighted 2/A, gives the residual mean square with (A - 1)(S - 1) degrees of freedom.
    values = np.random.default_rng(3).standard_normal((5, 3))
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    mean_square = (residual**2).sum() / (4 * 2)
    estimate = difference(design_of(values))
    value = values[1].mean() - values[0].mean()
    assert estimate.value == pytest.approx(value)
    expected = stats.t(8, loc=value, scale=np.sqrt(2 * mean_square / 3))
    assert estimate.interval(0.95) == pytest.approx(expected.interval(0.95), rel=1e-4)
    assert estimate.degrees_of_freedom == pytest.approx(8, rel=1e-3)


def test_two_starts_on_one_target_are_compared_by_the_paired_t_test():
    values = np.random.default_rng(4).standard_normal((2, 4))
    theirs = stats.ttest_rel(values[1], values[0])
    ours = difference(design_of(values))
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-3)
    assert ours.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-3)


def test_the_moderated_variance_is_limmas():
    # (d0 s0² + d s²) / (d0 + d) with d0 = 4, s0² = 1, d = 2, s² = 4 is (4 + 8) / 6, with 6 degrees of freedom.
    known = SeedVariance(np.ones(1), np.array([4.0]), np.array([1.0]), 2)
    moderated, df = known.moderated(4.0)
    assert (moderated[0], df[0]) == (pytest.approx(2.0), 6.0)
    equal = SeedVariance(np.ones(1), np.array([np.inf]), np.array([1.0]), 2)
    assert [value[0] for value in equal.moderated(4.0)] == [1.0, np.inf]


def test_moderated_p_values_are_right_when_variances_are_drawn_from_the_prior():
    # Smyth (2004): with variances from a scaled inverse chi-squared distribution, moderated t is t with d0 + d degrees.
    rng = np.random.default_rng(5)
    units, prior, df = 4000, 4.0, 2
    true = prior / rng.chisquare(prior, units)
    sample = true * rng.chisquare(df, units) / df
    effect = np.sqrt(true) * rng.standard_normal(units)
    fitted = fit_seed_variance(sample, df)
    assert fitted.weights @ (fitted.prior_df == 4.0) > 0.99
    assert fitted.scale @ fitted.weights == pytest.approx(1.0, rel=0.06)
    p_values = []
    for value, own in zip(effect, sample, strict=True):
        moderated, total = fitted.moderated(own)
        p_values.append(Estimate(value, fitted.weights, moderated, total).p)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_with_many_equal_variances_the_prior_takes_over():
    sample = np.random.default_rng(6).chisquare(4, 3000) / 4
    fitted = fit_seed_variance(sample, 4)
    assert fitted.weights @ (fitted.prior_df >= 32) > 0.99
    assert median_scale(fitted) == pytest.approx(1.0, rel=0.05)


def test_points_of_the_prior_have_the_likelihood_that_scipy_says():
    """Sample variances are s0² times F distributed, or chi-squared over df where all variances are equal."""
    df, variances = 2, np.random.default_rng(0).chisquare(2, 12)
    fitted = fit_seed_variance(variances, df, 0.5)
    for prior_df in np.unique(fitted.prior_df):
        own = fitted.prior_df == prior_df
        ratios = variances[:, None] / fitted.scale[own]
        density = stats.chi2.logpdf(df * ratios, df) + np.log(df)
        if np.isfinite(prior_df):
            density = stats.f.logpdf(ratios, df, prior_df)
        expected = 0.5 * (density - np.log(fitted.scale[own])).sum(0)
        found = np.log(fitted.weights[own])
        assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-8)


def test_where_the_grid_of_thousands_of_variances_is_laid_changes_nothing(monkeypatch):
    """As a study of 15 starts in 18 languages has: it is found from some of them."""
    variances = np.random.default_rng(0).chisquare(2, 2000) / np.random.default_rng(1).chisquare(8, 2000)
    sampled = fit_seed_variance(variances, 2, 2 / 16)
    monkeypatch.setattr("headstart.summarise.variance.COARSE_UNITS", 5000)
    whole = fit_seed_variance(variances, 2, 2 / 16)
    for observed in (0.001, 0.3, 5.0):
        one, other = (fit.weights @ fit.moderated(observed)[0] for fit in (sampled, whole))
        assert one == pytest.approx(other, rel=1e-3)


def test_points_are_weighted_by_the_sum_of_the_precisions_of_both_variances():
    seed_variance, test_variance = np.array([1.0, 2.0, 4.0]), 2.0
    weights = np.array([0.5, 0.25, 0.25])
    prior = SeedVariance(weights, np.full(3, np.inf), seed_variance, df=3)
    factor = (1 / seed_variance + 1 / test_variance) ** 0.75  # 3 / (3 + 2 * 8 / (8 + 8))
    assert matched(prior, seed_variance, [(test_variance, 8)]) == pytest.approx(weights * factor / (weights @ factor))
    assert matched(prior, seed_variance, [(1.0, 4), (1.0, 4)]) == pytest.approx(weights * factor / (weights @ factor))
    assert matched(prior, seed_variance, []) is weights
    assert matched(prior, np.full(3, 2.0), [(7.0, 8)]) == pytest.approx(weights)  # a variance that is known
    assert matched(prior, np.zeros(3), [(1.0, 8)]) is weights  # identical runs


def test_speakers_without_a_token_of_a_metric_do_not_make_it_look_certain():
    """Words beside a switch, say, are in a few utterances only."""
    rng = np.random.default_rng(0)
    reference = np.array([10, 12, 9, 11])
    errors = rng.poisson(3, (2, 3, 4))
    few = Cell.of_counts("c", ["s0", "s1"], errors, reference, np.arange(4))
    silent = np.zeros(96, int)
    many = Cell.of_counts(
        "c",
        ["s0", "s1"],
        np.concatenate([errors, np.zeros((2, 3, 96), int)], axis=2),
        np.concatenate([reference, silent]),
        np.arange(100),
    )
    one, other = (Design({("t", ""): cell}).difference({("t", ""): {"s0": 1.0, "s1": -1.0}}) for cell in (few, many))
    assert one.interval(0.95) == pytest.approx(other.interval(0.95))


def test_without_seeds_or_differences_there_is_no_variance():
    assert fit_seed_variance(np.array([0.0, 0.0]), 1) is None
    assert fit_seed_variance(np.array([1.0]), 0) is None


def test_half_the_variance_of_a_difference_is_that_of_a_run():
    values = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 8.0]])
    assert pair_variances(values) == pytest.approx([1.0, 9.0, 16.0])


# ---------------------------------------------------------------------------------------------- the test set


def counts(rng, seeds, speakers, utterances=6, rate=0.3):
    reference = rng.integers(10, 40, speakers * utterances)
    blocks = np.repeat(np.arange(speakers), utterances)
    difficulty = rate * np.exp(0.3 * rng.standard_normal((2, speakers)))[:, blocks]
    errors = rng.poisson(reference * difficulty[:, None], (2, seeds, speakers * utterances))
    return errors, reference, blocks


def test_the_variance_over_utterances_is_the_ratio_estimators():
    # One seed: the classical standard error of a ratio of sums (Cochran, Sampling Techniques, ch. 6), on the log scale.
    errors, reference, _ = counts(np.random.default_rng(7), 1, 500, 1)
    cell = Cell.of_counts("c", ["a", "b"], errors, reference, np.arange(500))
    rate = errors[0].sum() / reference.sum()
    residual = errors[0, 0] - rate * reference
    standard_error = np.sqrt((residual**2).sum() * 500 / 499) / reference.sum() / rate
    level = Design({("t", "b"): cell}).level("t", "b", "a")
    assert np.exp(level.value) == pytest.approx(rate)
    assert np.sqrt(level.variances[0]) == pytest.approx(standard_error)


def test_the_variance_over_speakers_agrees_with_a_bootstrap_over_speakers():
    rng = np.random.default_rng(8)
    errors, reference, blocks = counts(rng, 2, 60)
    cell = Cell.of_counts("c", ["a", "b"], errors, reference, blocks)
    ours, _ = speaker_variance(cell.shares[1] - cell.shares[0])
    by_speaker = errors.reshape(2, 2, 60, -1).sum(3)
    differences = []
    for _ in range(4000):
        drawn = by_speaker[:, :, rng.integers(60, size=60)].sum(2)
        differences.append(np.log(drawn[1] / drawn[0]).mean())
    assert np.sqrt(ours) == pytest.approx(np.std(differences), rel=0.05)


def test_only_what_all_seeds_have_in_common_is_added_for_the_test_set():
    # Two-way layout by hand: seeds x speakers, with the mean squares of the analysis of variance.
    influence = np.random.default_rng(9).standard_normal((4, 7))
    influence -= influence.mean(1, keepdims=True)
    total, between = speaker_variance(influence)
    centred = influence - influence.mean(0)
    assert total == pytest.approx(7 / 6 * (influence.mean(0) ** 2).sum())
    assert between == pytest.approx(7 / 6 * (centred**2).sum() / 3 / 4)
    noise = np.random.default_rng(10).standard_normal((200, 3, 30))
    assert common_share(noise) == pytest.approx(0.0, abs=0.1)
    speakers = 3 * np.random.default_rng(11).standard_normal((200, 1, 30))
    assert common_share(noise + speakers) == pytest.approx(9 / (9 + 1 / 3), abs=0.03)


def test_budgets_of_a_corpus_share_its_test_set_and_targets_do_not():
    errors, reference, blocks = counts(np.random.default_rng(12), 2, 20)
    cell = Cell.of_counts("c", ["s0", "s1"], errors, reference, blocks)
    other = Cell.of_counts("d", ["s0", "s1"], errors, reference, blocks)
    half = {"s1": 0.5, "s0": -0.5}
    together = Design({("t", "1h"): cell, ("t", "10h"): cell})
    apart = Design({("t", "1h"): cell, ("u", "1h"): other})
    (same,) = together.test_variance(dict.fromkeys(together.cells, half), 1.0)
    one, two = apart.test_variance(dict.fromkeys(apart.cells, half), 1.0)
    assert same[0] == pytest.approx(2 * (one[0] + two[0]))


# ---------------------------------------------------------------------------------------------- designs


def test_identical_systems_differ_by_exactly_nothing():
    values = np.random.default_rng(13).standard_normal((3, 2))
    estimate = difference(design_of(np.array([values[0], values[0], values[1]])))
    assert estimate.interval(0.95) == (0.0, 0.0)
    assert estimate.p == 1.0


def test_a_run_without_errors_counts_as_half_an_error():
    cell = Cell.of_counts("c", ["a"], np.zeros((1, 1, 3)), np.array([2, 3, 5]), np.arange(3))
    assert np.exp(cell.values[0, 0]) == pytest.approx(0.05)


def test_pairing_removes_what_a_seeds_label_budget_does_to_all_starts():
    rng = np.random.default_rng(14)
    values = 0.01 * rng.standard_normal((4, 3)) + rng.standard_normal(3)
    design = design_of(values)
    low, high = difference(design).interval(0.95)
    level = design.level("t", "b", "s0")
    alone = level.interval(0.95)
    assert high - low < 0.1 * (alone[1] - alone[0])


def test_rows_with_bounds_say_nothing_of_how_much_runs_vary():
    values = np.array([[0.1, 0.2], [0.3, 0.5], [2.0, 2.0]])
    cell = Cell("c", ["s0", "s1", "s2"], values, bounds=np.array([False, False, True]))
    expected = pair_variances(values[:2])
    assert median_scale(Design({("t", "b"): cell}).differences) == pytest.approx(
        median_scale(fit_seed_variance(expected, 1, 1.0)), rel=0.1
    )


# ---------------------------------------------------------------------------------------------- power


def test_the_smallest_effect_agrees_with_statsmodels_power():
    """Two starts on one target are compared by the paired t test, whose power is known."""
    effect = TTestPower().solve_power(nobs=6, alpha=0.05, power=0.8)  # in standard deviations of the difference
    shape = Shape({("t", "b"): "c"}, ["s0", "s1"], 6, 0.1, 0.0, 1.0)
    ours = shape.smallest_effect({("t", "b"): {"s1": 1.0, "s0": -1.0}}, 0.05)
    assert ours / (0.1 * np.sqrt(2)) == pytest.approx(effect, rel=0.1)


def test_more_seeds_and_fewer_varying_speakers_find_smaller_effects():
    weights = {("t", "b"): {"s1": 1.0, "s0": -1.0}}
    shape = Shape({("t", "b"): "c"}, ["s0", "s1", "s2"], 3, 0.03, 0.02**2, 19.0)
    effect = shape.smallest_effect(weights, 0.05)
    assert replace(shape, seeds=6).smallest_effect(weights, 0.05) < effect
    assert replace(shape, test_variance=0.0).smallest_effect(weights, 0.05) < effect
    assert enough_seeds(shape, weights, 1.05 * effect, 0.05) == 3
    assert 3 < enough_seeds(shape, weights, 0.7 * effect, 0.05) < 20
    assert enough_seeds(shape, weights, 0.01, 0.05) is None  # the test set alone is too uncertain
