"""What is read off a learning curve, against hand-made numbers, scipy and published curves."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.optimize import curve_fit
from scipy.stats import linregress

from headstart.study.convergence import Convergence
from headstart.summarise.curves import area_under_curve, first_reached, fit_decay


def curve_of(error, steps=None):
    steps = np.arange(100, 100 * len(error) + 1, 100) if steps is None else np.asarray(steps)
    return {"step": steps * 1.0, "audio_hours_seen": steps / 50, "wall_s": steps * 2.0, "dev_cer": np.asarray(error)}


def test_the_level_is_interpolated_between_evaluations():
    reached = first_reached(curve_of([0.9, 0.6, 0.4, 0.5]), "dev_cer", 0.45)
    # From 0.6 at 200 to 0.4 at 300, three quarters of the way down.
    assert reached == {"updates": 275.0, "audio_hours": 5.5, "seconds": 550.0, "flops": None}


def test_a_curve_that_begins_at_the_level_has_its_first_evaluation_and_one_that_never_gets_there_none():
    assert first_reached(curve_of([0.3, 0.2]), "dev_cer", 0.3)["updates"] == 100
    assert first_reached(curve_of([0.3, 0.2]), "dev_cer", 0.1) is None


def test_the_area_is_the_mean_over_updates():
    assert area_under_curve(curve_of([1.0, 0.5, 0.5], [0, 100, 400]), "dev_cer") == pytest.approx((75 + 150) / 400)
    assert area_under_curve(curve_of([0.7]), "dev_cer") == 0.7
    rng = np.random.default_rng(0)
    steps, error = np.sort(rng.choice(1000, 20, replace=False)), rng.uniform(size=20)
    theirs = trapezoid(error, steps) / (steps[-1] - steps[0])
    assert area_under_curve(curve_of(error, steps), "dev_cer") == pytest.approx(theirs)


def test_a_power_law_is_recovered_with_its_asymptote():
    amount = np.geomspace(10, 10_000, 12)
    decay = fit_decay(amount, 0.1 + 3.0 * amount**-0.6)
    assert (decay.asymptote, decay.rate, decay.scale) == pytest.approx((0.1, 0.6, 3.0), rel=1e-3)
    plain = fit_decay(amount, 2.0 * amount**-0.4)
    assert plain.slope == pytest.approx(-0.4) and plain.asymptote is None


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1])
def test_a_noisy_decay_is_scipys_least_squares_fit(noise):
    rng = np.random.default_rng(0)
    amount = np.geomspace(10, 10_000, 30)
    error = (0.2 + 2.0 * amount**-0.5) * np.exp(noise * rng.standard_normal(30))
    ours = fit_decay(amount, error)
    after = slice(30 - ours.points, None)
    theirs, _ = curve_fit(
        lambda x, asymptote, scale, rate: np.log(asymptote + scale * x**-rate),
        amount[after],
        np.log(error[after]),
        [0.1, 1.0, 0.3],
        bounds=([0, 0, 0], [error.min(), 100, 10]),
    )
    assert (ours.asymptote, ours.scale, ours.rate) == pytest.approx(tuple(theirs), rel=1e-3)
    assert ours.asymptote == pytest.approx(0.2, abs=2 * noise)


# WER in % after fine-tuning on 100 h, by hours of pre-training seen: Vaessen & van Leeuwen 2024, arXiv 2402.13723.
HOURS = np.array([4.2, 8.3, 16.7, 33, 67, 133, 267]) * 1000
CLEAN = np.array([30.0, 22.7, 16.7, 11.7, 8.95, 7.25, 6.3])
OTHER = np.array([58.0, 50.0, 41.0, 29.5, 22.5, 18.0, 15.5])


@pytest.mark.parametrize(("error", "slope"), [(CLEAN, -0.38), (OTHER, -0.32)])
def test_the_slope_of_a_published_table(error, slope):
    decay = fit_decay(HOURS, error)
    assert decay.slope == pytest.approx(linregress(np.log(HOURS), np.log(error)).slope)
    assert decay.slope == pytest.approx(slope, abs=0.025)  # the line through the first and the last point of the table
    assert decay.points == 7
    assert decay.asymptote is None or 0 <= decay.asymptote <= error.min()


@pytest.mark.parametrize(
    ("steps", "error", "points"),
    [
        # XLSR-53 on ASCEND (code-switched Mandarin-English): nothing for 4,500 updates, then a fall.
        ([500, 1500, 3000, 4500, 6000, 8000, 12_000], [1.0, 1.0, 1.0, 1.0, 0.917, 0.843, 0.785], 4),
        # XLS-R-300M on Hindi-English.
        ([400, 1200, 2400, 4000], [0.478, 0.381, 0.345, 0.314], 4),
        # HuBERT large on 100 h of LibriSpeech.
        ([300, 600, 1100, 5000], [0.418, 0.201, 0.141, 0.088], 4),
    ],
)
def test_published_fine_tuning_curves_behave(steps, error, points, recwarn):
    decay = fit_decay(steps, error)
    assert decay.points == points and decay.slope < 0
    assert decay.asymptote is None or 0 <= decay.asymptote <= error[-1]
    assert not recwarn.list


@pytest.mark.parametrize(
    "error", [[], [0.5], [1.0, 1.0], [0.5] * 8, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.9, np.nan, 0.0]]
)
def test_odd_curves_have_no_asymptote(error, recwarn):
    decay = fit_decay(100.0 * np.arange(1, len(error) + 1), error)
    assert decay.asymptote is None
    assert decay.slope is None or np.isfinite(decay.slope)
    assert not recwarn.list


def test_any_curve_has_finite_numbers_and_an_asymptote_below_it(recwarn):
    rng = np.random.default_rng(0)
    shapes = [
        lambda n: rng.uniform(0.01, 1.0, n),
        lambda n: np.linspace(1.2, 1e-9, n),
        lambda n: np.where(np.arange(n) < n // 2, 1.0, 0.1),
        lambda n: np.exp(-rng.uniform(0, 5) * np.arange(n)),
        lambda n: 0.3 + 1e-12 * rng.standard_normal(n),
        lambda n: 0.2 + rng.uniform(0.9, 1.1, n) / np.arange(1, n + 1),
    ]
    asymptotes = 0
    for number in range(120):
        error = shapes[number % len(shapes)](int(rng.integers(2, 25)))
        interval = 10 ** rng.uniform(0, 20)  # from one update to the operations of a long training
        decay = fit_decay(interval * np.arange(1, len(error) + 1), error)
        assert all(value is None or np.isfinite(value) for value in vars(decay).values())
        if decay.asymptote is not None:
            assert 0 <= decay.asymptote <= error.min() and decay.rate > 0 and decay.scale > 0
            asymptotes += 1
    assert asymptotes > 10
    assert not recwarn.list


def test_amounts_that_hardly_differ_overflow_nothing(recwarn):
    decay = fit_decay(1e6 + np.arange(8), np.geomspace(1.0, 0.1, 8))
    assert np.isfinite(decay.slope) and decay.slope < -1e5
    assert fit_decay([1e6, 1e6 + 1e-10], [1.0, 0.5]).slope is None
    assert not recwarn.list


def test_the_level_of_a_study_is_said_in_one_way():
    with pytest.raises(ValueError, match="level and share are both given"):
        Convergence(level=0.3, share=0.5)
