"""What is read off a learning curve, against hand-made numbers, scipy and published curves."""

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.optimize import curve_fit
from scipy.stats import linregress
from test_summary import row_of, study_of

from headstart.study.convergence import Convergence
from headstart.summarise.convergence import convergence_of_runs, convergence_rows
from headstart.summarise.curves import area_under_curve, first_reached, fit_decay
from headstart.summarise.tables import run_folder
from headstart.training.curve import write_curve


def curve_of(error, steps=None):
    steps = np.arange(100, 100 * len(error) + 1, 100) if steps is None else np.asarray(steps)
    return {"step": steps * 1.0, "audio_hours_seen": steps / 50, "wall_s": steps * 2.0, "dev_cer": np.asarray(error)}


# ------------------------------------------------------------------------------------------------- one curve


def test_the_level_is_interpolated_between_evaluations():
    reached = first_reached(curve_of([0.9, 0.6, 0.4, 0.5]), "dev_cer", 0.45)
    # From 0.6 at 200 to 0.4 at 300, three quarters of the way down.
    assert reached == {"updates": 275.0, "audio_hours": 5.5, "seconds": 550.0, "flops": None, "bound": False}


def test_all_quantities_are_interpolated_with_the_weight_of_the_error():
    """Quantities need not grow evenly with updates: time has pauses, and batches differ in how much audio they have."""
    curve = curve_of([0.9, 0.6, 0.4]) | {"wall_s": np.array([10.0, 20.0, 100.0]), "flops": np.array([1e15, 5e15, 6e15])}
    reached = first_reached(curve, "dev_cer", 0.45)
    assert (reached["seconds"], reached["flops"]) == pytest.approx((20 + 0.75 * 80, 5.75e15))


def test_an_error_that_is_exactly_the_level_is_reached():
    assert first_reached(curve_of([0.5, 0.3, 0.3, 0.1]), "dev_cer", 0.3)["updates"] == 200


def test_a_curve_that_begins_at_the_level_has_its_first_evaluation_as_a_bound():
    expected = {"updates": 100.0, "audio_hours": 2.0, "seconds": 200.0, "flops": None, "bound": True}
    assert first_reached(curve_of([0.3, 0.2]), "dev_cer", 0.3) == expected


def test_a_curve_that_never_gets_there_has_no_time():
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


# ------------------------------------------------------------------------------------------ the runs of a study

CURVES = {
    ("scratch", 1): [0.9, 0.6, 0.4, 0.5],
    ("scratch", 2): [0.9, 0.7, 0.6, 0.3],
    ("xlsr", 1): [0.5, 0.3, 0.2, 0.2],
    ("xlsr", 2): [0.6, 0.31, 0.3, 0.2],
}


@pytest.fixture
def write(tmp_path):
    """A function that writes one run's curve: dev CERs after every 100 updates, and WERs of twice as much."""

    def write_one(start, seed, error):
        rows = [
            {"step": step, "audio_hours_seen": step / 1000, "wall_s": step / 10, "flops": 1e12 * step}
            | {"dev_cer": cer, "dev_wer": cer and 2 * cer}
            for step, cer in zip(range(100, 100 * len(error) + 1, 100), error, strict=True)
        ]
        path = run_folder(tmp_path, "tiny", (start, "swahili", "10min", seed)) / "curve.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_curve(path, rows)

    return write_one


@pytest.fixture
def results(tmp_path, write):
    for run, error in CURVES.items():
        write(*run, error)
    return tmp_path


def runs_and_rows(results, **changes):
    study = study_of(**changes)
    reached = convergence_of_runs(study, results, "swahili", "10min")
    return reached, convergence_rows(study, reached, "swahili", "10min")


def test_updates_to_the_level_compare_with_the_same_seeds_baseline(results):
    reached, rows = runs_and_rows(results)
    # scratch ends at 0.5 and 0.3. Seed 1 falls from 0.6 at 200 to 0.4 at 300, so to 0.5 half-way. xlsr begins at
    # 0.5, and with seed 2 falls from 0.31 to 0.3 at 300; a tie is reached.
    times = {(start, seed): (run["updates"], run["bound"]) for start in reached for seed, run in reached[start].items()}
    assert times == {
        ("scratch", 1): (pytest.approx(250), False),
        ("scratch", 2): (pytest.approx(400), False),
        ("xlsr", 1): (pytest.approx(100), True),
        ("xlsr", 2): (pytest.approx(300), False),
    }
    row = row_of(rows, start="xlsr")
    assert row == {
        "start": "xlsr",
        "target": "swahili",
        "budget": "10min",
        "reference_error": pytest.approx(0.4),
        "updates": pytest.approx(200),
        "audio_hours": pytest.approx(0.2),
        "seconds": pytest.approx(20),
        "flops": pytest.approx(2e14),
        "ratio_to_baseline": pytest.approx(200 / 325),
        "seeds_reached": 2,
        "area": pytest.approx((np.trapezoid([0.5, 0.3, 0.2, 0.2]) + np.trapezoid([0.6, 0.31, 0.3, 0.2])) / 6),
        "slope": pytest.approx(linregress(np.log([1, 2, 3, 4]), np.log([0.55, 0.305, 0.25, 0.2])).slope),
        "asymptote": None,
    }
    assert row_of(rows, start="scratch")["ratio_to_baseline"] == 1


def test_the_level_may_be_absolute_or_a_share_of_the_baselines(results):
    reached, rows = runs_and_rows(results, convergence={"level": 0.35})
    assert row_of(rows, start="xlsr")["reference_error"] == 0.35
    assert reached["xlsr"][1]["updates"] == pytest.approx(175)
    _, rows = runs_and_rows(results, convergence={"share": 0.5})
    assert row_of(rows, start="xlsr")["reference_error"] == pytest.approx(0.2)


def test_the_metric_of_convergence_is_the_studys(results):
    _, rows = runs_and_rows(results, report={"metric": "wer"})
    assert row_of(rows, start="xlsr")["reference_error"] == pytest.approx(0.8)


def test_a_run_that_never_gets_there_has_the_time_of_its_last_evaluation(results, write):
    write("xlsr", 2, [0.9, 0.9, 0.8, None])
    run = runs_and_rows(results)[0]["xlsr"][2]
    assert [run[name] for name in ("updates", "audio_hours", "seconds", "flops", "bound")] == [None] * 4 + [False]
    assert run["last"] == {"updates": 300, "audio_hours": 0.3, "seconds": 30, "flops": pytest.approx(3e14)}


def test_the_median_is_none_when_half_of_the_seeds_never_get_there(results, write):
    write("xlsr", 2, [0.9, 0.9, None, 0.8])
    row = row_of(runs_and_rows(results)[1], start="xlsr")
    assert (row["updates"], row["ratio_to_baseline"], row["seeds_reached"]) == (None, None, 1)


def test_one_of_three_seeds_that_never_gets_there_counts_as_the_latest(results, write):
    for start, error in (("scratch", [0.9, 0.7, 0.6, 0.5]), ("xlsr", [0.9, 0.9, 0.9, 0.8])):
        write(start, 3, error)
    row = row_of(runs_and_rows(results, seeds=[1, 2, 3])[1], start="xlsr")
    assert (row["updates"], row["seeds_reached"]) == (pytest.approx(300), 2)


def test_a_seed_without_curves_is_left_out(results):
    (run_folder(results, "tiny", ("scratch", "swahili", "10min", 2)) / "curve.parquet").unlink()
    row = row_of(runs_and_rows(results)[1], start="xlsr")
    assert (row["updates"], row["seeds_reached"]) == (100, 1)


def test_dev_errors_that_are_no_numbers_are_passed_over(results, write):
    write("scratch", 1, [0.9, None, 0.35, math.nan])
    assert runs_and_rows(results)[0]["scratch"][1]["updates"] == pytest.approx(300)


def test_the_asymptote_is_that_of_the_mean_curve(results, write):
    """The law is fitted to the mean over seeds, at the updates at which every seed was evaluated."""
    law = 0.2 + 5.0 * np.arange(100, 1300, 100) ** -0.5
    write("xlsr", 1, (law + 0.05).tolist())
    write("xlsr", 2, [*(law[:10] - 0.05).tolist(), None, None])
    row = row_of(runs_and_rows(results)[1], start="xlsr")
    assert row["asymptote"] == pytest.approx(0.2, abs=1e-3)
    assert row["slope"] == pytest.approx(fit_decay(np.arange(100, 1100, 100), law[:10]).slope)


def test_the_level_of_a_study_is_said_in_one_way():
    with pytest.raises(ValueError, match="level and share are both given"):
        Convergence(level=0.3, share=0.5)
