"""`summary.json`: every number from score files and curves made by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from headstart.analyse.analysis import SIMILARITIES
from headstart.corpora.manifests import write_table
from headstart.errors import HeadstartError
from headstart.files import sealed, write_json
from headstart.score.score_table import ALIGNMENT_COLUMNS
from headstart.study.reading import parse_study
from headstart.study.study import Study
from headstart.summarise.summary import summarise, write_summary
from headstart.summarise.tables import read_counts, representation_path, run_folder, score_path


def study_of(**changes) -> Study:
    """A study of two starts, one target, one budget and two seeds."""
    data = {
        "study": "tiny",
        "corpora": {"sw": {"reader": "folder", "path": "sw", "language": "sw"}},
        "starts": {"scratch": {"kind": "scratch"}, "xlsr": {"kind": "hub", "path": "xlsr"}},
        "targets": {"swahili": {"corpus": "sw", "kind": "in-domain"}},
        "budgets": ["10min"],
        "seeds": [1, 2],
    }
    return Study.model_validate({**data, **changes})


def alignment(wrong: int, of: int) -> str:
    """So many errors in so many tokens; more errors than tokens are insertions."""
    return "H" * (of - wrong) + "S" * min(wrong, of) + "I" * (wrong - of)


def write_scores(results: Path, study: Study, run, errors, words, ids=None, reverse=False) -> Path:
    """Scores in which each word has five characters, and a wrong word has one wrong character."""
    rows = []
    for i, (wrong, of) in enumerate(zip(errors, words, strict=True)):
        row = {
            "utterance_id": ids[i] if ids else f"u{i:03d}",
            "reference": "habari " * of,
            "hypothesis": "habati",
        }
        row |= dict.fromkeys(ALIGNMENT_COLUMNS)
        row |= {f"{unit}_alignment": alignment(wrong, size) for unit, size in (("word", of), ("char", 5 * of))}
        rows.append(row)
    path = score_path(results, study.study, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows[::-1] if reverse else rows), path)
    return path


def write_curve(results: Path, study: Study, run, cer: list[float | None]) -> None:
    steps = range(100, 100 * len(cer) + 1, 100)
    rows = [
        {"step": s, "audio_hours_seen": s / 1000, "wall_s": s / 10, "dev_cer": c, "dev_wer": c and 2 * c}
        for s, c in zip(steps, cer, strict=True)
    ]
    path = run_folder(results, study.study, run) / "curve.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


WORDS = [4, 6, 5, 8, 3, 7]
ERRORS = {
    ("scratch", 1): [2, 3, 3, 4, 2, 5],
    ("scratch", 2): [3, 3, 2, 5, 2, 4],
    ("xlsr", 1): [1, 1, 1, 2, 0, 2],
    ("xlsr", 2): [0, 2, 1, 1, 1, 3],
}
CURVES = {
    ("scratch", 1): [0.9, 0.6, 0.4, 0.5],
    ("scratch", 2): [0.9, 0.7, 0.6, 0.3],
    ("xlsr", 1): [0.5, 0.3, 0.2, 0.2],
    ("xlsr", 2): [0.6, 0.31, 0.3, 0.2],
}


@pytest.fixture
def tiny(tmp_path):
    study = study_of()
    for (start, seed), errors in ERRORS.items():
        run = (start, "swahili", "10min", seed)
        write_scores(tmp_path, study, run, errors, WORDS, reverse=seed == 2)
        write_curve(tmp_path, study, run, CURVES[start, seed])
    return study, tmp_path


def row_of(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def rates(start: str) -> np.ndarray:
    return np.array([sum(ERRORS[start, seed]) for seed in (1, 2)]) / sum(WORDS)


def test_rates_and_intervals_are_those_of_the_counts(tiny):
    study, results = tiny
    summary = summarise(study, results)
    assert set(summary) == {
        "study",
        "metric",
        "confidence",
        "smallest_effect",
        "claims",
        "runs",
        "cells",
        "contrasts",
        "averages",
        "best",
        "mixing",
        "stages",
        "convergence",
        "speed",
        "representation",
        "representation_gap",
        "representation_contrasts",
        "spread",
        "transfer",
    }
    run = row_of(summary["runs"], start="xlsr", seed=1)
    assert run["wer"] == pytest.approx(7 / 33)
    assert run["cer"] == pytest.approx(7 / 165)
    cell = row_of(summary["cells"], start="xlsr")
    assert cell["wer"] == pytest.approx(stats.gmean(rates("xlsr")))
    assert cell["wer_low"] < cell["wer"] < cell["wer_high"]
    contrast = row_of(summary["contrasts"], metric="wer")
    assert (contrast["treatment"], contrast["baseline"]) == ("xlsr", "scratch")
    relative = stats.gmean(rates("xlsr")) / stats.gmean(rates("scratch")) - 1
    assert contrast["relative"] == pytest.approx(relative)
    assert contrast["difference"] == pytest.approx(stats.gmean(rates("xlsr")) - stats.gmean(rates("scratch")))
    assert row_of(summary["best"], metric="wer")["start"] == "xlsr"


def test_the_interval_of_a_difference_is_no_narrower_than_the_paired_t_tests(tiny):
    """Two starts on one target leave only their own seeds to estimate from; the test set can only widen that."""
    study, results = tiny
    contrast = row_of(summarise(study, results)["contrasts"], metric="wer")
    theirs = stats.ttest_rel(np.log(rates("xlsr")), np.log(rates("scratch")))
    low, high = np.expm1(theirs.confidence_interval(0.95))
    assert contrast["relative_low"] <= low + 1e-3 and contrast["relative_high"] >= high - 1e-3
    assert contrast["p"] >= theirs.pvalue - 1e-3


def test_every_difference_has_its_verdict(tmp_path):
    corpora = {name: {"reader": "folder", "path": name, "language": "sw"} for name in ("a", "b")}
    targets = {name: {"corpus": name, "kind": "in-domain"} for name in corpora}
    study = study_of(
        corpora=corpora,
        targets=targets,
        seeds=[1, 2, 3, 4, 5],
        starts={name: {"kind": "scratch"} for name in ("scratch", "better", "same", "alike")},
        contrasts=[{"treatment": "scratch", "baseline": "better"}],
    )
    rng = np.random.default_rng(0)
    words = [200] * 40
    for target in targets:
        for seed in study.seeds:
            common = rng.integers(80, 100, 40)
            for start in study.starts:
                errors = common // 2 if start == "better" else common + (start == "alike") * rng.integers(-1, 2, 40)
                write_scores(tmp_path, study, (start, target, "10min", seed), errors.tolist(), words)
    summary = summarise(study, tmp_path)
    for rows in (summary["contrasts"], summary["averages"]):
        verdicts = {(row["treatment"], row["baseline"]): row["verdict"] for row in rows if row["metric"] == "wer"}
        assert verdicts == {
            ("better", "scratch"): "lower",
            ("same", "scratch"): "unclear",  # one run under two names, which does not vary
            ("alike", "scratch"): "equal",
            ("scratch", "better"): "higher",
        }
    assert row_of(summary["best"], metric="wer", target="a")["rivals"] == []


def test_one_seed_makes_nothing_clear(tiny):
    _, results = tiny
    summary = summarise(study_of(seeds=[1]), results)
    assert {(row["p"], row["verdict"]) for row in summary["contrasts"]} == {(None, "unclear")}
    assert summary["spread"] == []


def test_runs_and_starts_have_their_time_to_the_level(tiny):
    study, results = tiny
    write_curve(results, study, ("xlsr", "swahili", "10min", 2), [0.9, 0.9, None, 0.8])
    summary = summarise(study, results)
    updates = {(row["start"], row["seed"]): row["updates_to_reference"] for row in summary["runs"]}
    # scratch ends at 0.5 and 0.3. Seed 1 falls from 0.6 at 200 to 0.4 at 300, so to 0.5 half-way; xlsr begins there.
    assert updates == {
        ("scratch", 1): pytest.approx(250),
        ("scratch", 2): pytest.approx(400),
        ("xlsr", 1): pytest.approx(100),
        ("xlsr", 2): None,
    }
    rows = {row["start"]: (row["updates"], row["seeds_reached"]) for row in summary["convergence"]}
    assert rows == {"scratch": (pytest.approx(325), 2), "xlsr": (None, 1)}


def test_a_speed_up_is_the_ratio_of_times_with_the_paired_t_tests_interval(tiny):
    study, results = tiny
    row = row_of(summarise(study, results)["speed"], quantity="updates")
    times = {"xlsr": np.log([100, 300]), "scratch": np.log([250, 400])}
    theirs = stats.ttest_rel(times["scratch"], times["xlsr"])
    assert row["speedup"] == pytest.approx(np.exp(np.mean(times["scratch"] - times["xlsr"])))
    low, high = np.exp(theirs.confidence_interval(0.95))
    assert (row["low"], row["high"]) == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))
    assert (row["bound"], row["verdict"]) == ("at least", "unclear")  # xlsr with seed 1 begins at the level


def test_a_run_that_begins_at_the_level_makes_the_speed_up_a_bound(tiny):
    study, results = tiny
    for seed in study.seeds:
        write_curve(results, study, ("xlsr", "swahili", "10min", seed), [0.2, 0.2, 0.2, 0.2])
    row = row_of(summarise(study, results)["speed"], quantity="updates")
    assert row["speedup"] == pytest.approx(np.sqrt(250 * 400) / 100)
    assert row["bound"] == "at least"


def test_a_run_that_never_reaches_the_level_makes_the_speed_up_a_bound(tiny):
    study, results = tiny
    for seed in study.seeds:
        write_curve(results, study, ("xlsr", "swahili", "10min", seed), [0.9, 0.9, 0.9, 0.8])
    row = row_of(summarise(study, results)["speed"], quantity="updates")
    # Its 400 updates are a lower bound of its time, so the ratio to the baseline's is an upper bound of its speed.
    assert row["speedup"] == pytest.approx(np.sqrt(250 * 400) / 400)
    assert row["bound"] == "at most"
    neither = row_of(summarise(study_of(convergence={"level": 0.01}), results)["speed"], quantity="updates")
    assert (neither["bound"], neither["verdict"]) == ("none", "unclear")


def test_curves_may_be_missing(tiny):
    study, results = tiny
    for seed in study.seeds:
        (run_folder(results, study.study, ("scratch", "swahili", "10min", seed)) / "curve.parquet").unlink()
    row = row_of(summarise(study, results)["convergence"], start="xlsr")
    assert (row["reference_error"], row["updates"], row["seeds_reached"]) == (None, None, 0)


def test_one_start_and_one_seed_make_a_summary_without_contrasts(tiny):
    _, results = tiny
    alone = study_of(starts={"scratch": {"kind": "scratch"}}, seeds=[1])
    summary = summarise(alone, results)
    assert summary["contrasts"] == []
    assert [row["start"] for row in summary["cells"]] == ["scratch"]


def test_the_studys_own_contrasts_follow_those_with_the_baseline(tiny):
    _, results = tiny
    study = study_of(contrasts=[{"treatment": "scratch", "baseline": "xlsr"}])
    rows = summarise(study, results)["contrasts"]
    there, back = (
        row_of(rows, treatment="xlsr", metric="wer"),
        row_of(rows, treatment="scratch", metric="wer"),
    )
    assert 1 + back["relative"] == pytest.approx(1 / (1 + there["relative"]))
    assert 1 + back["relative_low"] == pytest.approx(1 / (1 + there["relative_high"]))
    assert back["p"] == pytest.approx(there["p"])


def test_the_file_is_plain_json_and_the_same_twice(tiny):
    study, results = tiny
    write_curve(results, study, ("xlsr", "swahili", "10min", 2), [0.9])
    path = write_summary(study, results)
    assert path == results / "tiny" / "summary.json"

    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    first = path.read_bytes()
    assert json.loads(first, parse_constant=no_constant) == sealed({**summarise(study, results), "recipe": ""})
    assert write_summary(study, results).read_bytes() == first
    assert [p.name for p in path.parent.glob("*summary*")] == ["summary.json"]


def test_a_missing_score_file_is_named(tiny):
    study, results = tiny
    path = score_path(results, "tiny", ("xlsr", "swahili", "10min", 2))
    path.unlink()
    with pytest.raises(HeadstartError, match="xlsr/swahili/10min/seed2.parquet: no score file"):
        summarise(study, results)


def test_other_utterances_are_named(tiny):
    study, results = tiny
    ids = ["u000", "u001", "u002", "u003", "u004", "stranger"]
    write_scores(results, study, ("xlsr", "swahili", "10min", 2), [0] * 6, WORDS, ids=ids)
    with pytest.raises(ValueError, match=r"only in .*scratch.*: u005; only in .*xlsr.*seed2.parquet: stranger"):
        summarise(study, results)


def test_other_references_are_named(tiny):
    study, results = tiny
    write_scores(results, study, ("xlsr", "swahili", "10min", 2), [0] * 6, [4, 6, 5, 8, 3, 9])
    with pytest.raises(ValueError, match="different reference words in 1 utterance.*: u005"):
        summarise(study, results)


def test_an_utterance_scored_twice_is_named(tmp_path):
    path = write_scores(tmp_path, study_of(), ("xlsr", "swahili", "10min", 1), [0, 1], [2, 2], ids=["a", "a"])
    with pytest.raises(ValueError, match="scored more than once: a"):
        read_counts(path)


def test_dvc_gets_metrics_by_name_and_curves_as_text(tiny):
    study, results = tiny
    folder = write_summary(study, results).parent
    metrics = json.loads((folder / "metrics.json").read_text())
    cell = row_of(summarise(study, results)["cells"], start="xlsr")
    assert metrics["xlsr"]["swahili"]["10min"] == {
        "wer": cell["wer"],
        "cer": cell["cer"],
        "updates_to_reference": 200.0,
    }
    header, *lines = (folder / "curves.csv").read_text().splitlines()
    assert header == "start,target,budget,seed,step,dev_wer,dev_cer"
    assert len(lines) == sum(map(len, CURVES.values()))
    assert lines[0].startswith("scratch,swahili,10min,1,100,") and lines[0].endswith(",0.9")


# ---------------------------------------------------------------------------------------------- representation

STARTS = {"scratch": {"kind": "scratch"}, "xlsr": {"kind": "hub", "path": "xlsr"}, "base": {"kind": "hub", "path": "b"}}
# By layer and seed.
SIMILAR = {"xlsr": [[1.0, 1.0], [0.9, 0.8], [0.7, 0.6]], "base": [[1.0, 1.0], [0.7, 0.7], [0.5, 0.5]]}


def write_similarities(results: Path, study: Study, start: str, bias: float = 0.0, spread: float = 0.02) -> None:
    """Similarities of three layers, with replicates that all scatter alike, around the estimate plus `bias`."""
    scatter = np.random.default_rng(0).uniform(-spread, spread, 40)
    rows = [
        {"layer": layer, "seed": seed, "measure": measure, "similarity": value - less}
        | {"replicates": (value - less + (bias + scatter) * (layer > 0)).tolist()}
        for measure, less in (("pwcca", 0.0), ("svcca", 0.1), ("cka", 0.2))
        for layer, values in enumerate(SIMILAR[start])
        for seed, value in zip(study.seeds, values, strict=True)
    ]
    write_table(representation_path(results, study.study, start, "swahili", "10min"), rows, SIMILARITIES)


@pytest.fixture
def analysed(tiny):
    _, results = tiny
    study = study_of(starts=STARTS, analyse={}, contrasts=[{"treatment": "xlsr", "baseline": "base"}])
    for seed in study.seeds:
        write_scores(results, study, ("base", "swahili", "10min", seed), ERRORS["xlsr", seed], WORDS)
    for start in SIMILAR:
        write_similarities(results, study, start)
    return study, results


def test_without_analysis_there_are_no_rows_of_it(tiny):
    summary = summarise(*tiny)
    assert summary["representation"] == summary["representation_gap"] == summary["representation_contrasts"] == []


def test_the_gap_is_one_less_the_mean_over_transformer_layers(analysed):
    study, results = analysed
    summary = summarise(study, results)
    assert [row["start"] for row in summary["representation_gap"]] == ["xlsr", "base"]
    row = row_of(summary["representation_gap"], start="xlsr")
    assert (row["measure"], row["gap"]) == ("pwcca", pytest.approx(np.sqrt(0.2 * 0.3)))
    assert row["low"] < row["gap"] < row["high"]
    assert {(r["start"], r["layer"], r["measure"]) for r in summary["representation"]} == {
        (start, layer, measure) for start in SIMILAR for layer in range(3) for measure in ("pwcca", "svcca", "cka")
    }
    row = row_of(summary["representation"], start="xlsr", layer=2, measure="svcca")
    similarity = 1 - np.sqrt(0.4 * 0.5)
    assert row["similarity"] == pytest.approx(similarity) and row["low"] < similarity < row["high"]
    row = row_of(summary["representation"], start="xlsr", layer=0, measure="pwcca")
    assert (row["similarity"], row["low"], row["high"]) == pytest.approx((1, 1, 1), abs=1e-5)

    by_cka = study_of(starts=STARTS, analyse={"measure": "cka"})
    assert row_of(summarise(by_cka, results)["representation_gap"], start="xlsr")["gap"] == pytest.approx(
        np.sqrt(0.4 * 0.5)
    )


def test_differences_of_the_gap_are_paired_and_of_analysed_starts_only(analysed):
    study, results = analysed
    (row,) = summarise(study, results)["representation_contrasts"]
    # The gaps of xlsr are 0.2 and 0.3, those of base 0.4 twice; the scatter over utterances is common and cancels.
    theirs = stats.ttest_rel(np.log([0.2, 0.3]), np.log([0.4, 0.4]))
    assert (row["treatment"], row["baseline"]) == ("xlsr", "base")
    assert row["relative"] == pytest.approx(np.sqrt(0.06) / 0.4 - 1)
    assert row["difference"] == pytest.approx(np.sqrt(0.06) - 0.4)
    assert row["p"] == pytest.approx(theirs.pvalue, rel=0.02)


def test_replicates_that_all_lie_above_the_estimate_are_centred_on_it(analysed):
    study, results = analysed
    before = summarise(study, results)
    for start in SIMILAR:
        write_similarities(results, study, start, bias=0.05)
    after = summarise(study, results)
    for key in ("representation_gap", "representation_contrasts"):
        for row, other in zip(before[key], after[key], strict=True):
            assert (row["low"], row["high"]) == pytest.approx((other["low"], other["high"]))


def test_what_did_not_move_has_a_gap_of_zero(analysed, monkeypatch):
    study, results = analysed
    monkeypatch.setitem(SIMILAR, "xlsr", [[1.0, 1.0]] * 3)
    write_similarities(results, study, "xlsr", spread=0.0)
    row = row_of(summarise(study, results)["representation_gap"], start="xlsr")
    assert (row["gap"], row["low"], row["high"]) == pytest.approx((0, 0, 0), abs=1e-5)


def test_the_gap_is_among_the_metrics_and_a_missing_analysis_is_named(analysed):
    study, results = analysed
    metrics = json.loads((write_summary(study, results).parent / "metrics.json").read_text())
    assert metrics["xlsr"]["swahili"]["10min"]["representation_gap"] == pytest.approx(np.sqrt(0.2 * 0.3))
    assert "representation_gap" not in metrics["scratch"]["swahili"]["10min"]
    representation_path(results, "tiny", "base", "swahili", "10min").unlink()
    with pytest.raises(HeadstartError, match="representation/base/swahili/10min.parquet: no similarities"):
        summarise(study, results)


def test_relative_changes_average_over_targets_as_ratios(tmp_path):
    """By hand: half as many errors on one target and as many on the other are sqrt(1/2) times as many on average."""
    corpora = {name: {"reader": "synthetic", "language": "en"} for name in ("one", "other")}
    study = parse_study(
        {
            "study": "two",
            "corpora": corpora,
            "starts": {"plain": {"kind": "scratch"}, "refined": {"kind": "hub", "path": "a/b"}},
            "targets": {t: {"corpus": t, "kind": "in-domain"} for t in corpora},
            "budgets": ["1min"],
            "seeds": [1, 2],
            "baseline": "plain",
        }
    )
    for target, refined in (("one", 1), ("other", 2)):
        for start, wrong in (("plain", 2), ("refined", refined)):
            for seed in (1, 2):
                write_scores(tmp_path, study, (start, target, "1min", seed), [wrong] * len(WORDS), WORDS)
    summary = summarise(study, tmp_path)
    one = row_of(summary["contrasts"], target="one", metric="wer")
    assert (one["relative"], one["relative_low"], one["relative_high"]) == pytest.approx((-0.5, -0.5, -0.5))
    assert row_of(summary["contrasts"], target="other", metric="wer")["relative"] == pytest.approx(0.0)
    average = row_of(summary["averages"], metric="wer")
    assert (average["treatment"], average["baseline"], average["budget"]) == ("refined", "plain", "1min")
    assert average["relative"] == pytest.approx(np.sqrt(0.5) - 1)


def test_targets_of_an_average_are_independent(tmp_path):
    """Two targets with the same scores: each end of their average is nearer to it than a target's own, by sqrt(2)."""
    rng = np.random.default_rng(5)
    corpora = {name: {"reader": "folder", "path": name, "language": "sw"} for name in ("one", "other")}
    study = study_of(
        corpora=corpora,
        targets={t: {"corpus": t, "kind": "in-domain"} for t in corpora},
        seeds=[1, 2, 3, 4, 5, 6],
    )
    for start in study.starts:
        for seed in study.seeds:
            errors = rng.integers(1, 9, 60) + seed * (start == "xlsr")
            for target in study.targets:
                write_scores(tmp_path, study, (start, target, "10min", seed), errors, [20] * 60)
    summary = summarise(study, tmp_path)
    one, average = row_of(summary["contrasts"], target="one", metric="wer"), row_of(summary["averages"], metric="wer")
    assert average["relative"] == pytest.approx(one["relative"])
    width = np.log1p(average["relative_high"]) - np.log1p(average["relative_low"])
    own = np.log1p(one["relative_high"]) - np.log1p(one["relative_low"])
    assert width == pytest.approx(own / 2**0.5, rel=0.1)


def test_a_refined_starts_time_stands_beside_all_its_pre_training(tiny, tmp_path):
    amounts = {"labelled": {"sw": 0.1}, "unlabelled": {"sw": 0.1}}
    starts = {
        "plain": {"kind": "ssl", "corpora": {"sw": 0.1}},
        "refined": {"kind": "semisup", "from": "plain", **amounts},
    }
    study = study_of(study="times", starts=starts, seeds=[1], baseline="plain")
    for start in study.starts:
        write_scores(tmp_path, study, (start, "swahili", "10min", 1), [1] * len(WORDS), WORDS)
    shipped = {"stage": "pretrain", "wall_s": 80.0, "settings": {"updates": 8}}
    plain = {"stage": "pretrain", "wall_s": 20.0, "settings": {"updates": 2}, "parent": shipped}
    for name, recipe in (("plain", plain), ("refined", {"stage": "semisup", "wall_s": 5.0, "parent": plain})):
        write_json(tmp_path / "times/starts" / name / "recipe.json", recipe)
    rows = summarise(study, tmp_path)["stages"]
    refined = row_of(rows, start="refined")
    assert (refined["seconds"], refined["pretraining_seconds"]) == (5.0, 100.0)
    assert refined["share_of_pretraining"] == 0.05
    assert row_of(rows, start="plain")["share_of_pretraining"] == 20 / 80
    # Of a checkpoint from elsewhere nothing is known, so neither is the sum with it.
    elsewhere = {"stage": "semisup", "wall_s": 5.0, "parent": {**plain, "parent": "models/elsewhere"}}
    write_json(tmp_path / "times/starts/refined/recipe.json", elsewhere)
    refined = row_of(summarise(study, tmp_path)["stages"], start="refined")
    assert refined["pretraining_seconds"] is refined["share_of_pretraining"] is None


def test_times_of_a_start_that_is_trained_for_each_seed_are_means_over_its_instances(tmp_path):
    starts = {
        "plain": {"kind": "ssl", "per_seed": True, "corpora": {"sw": 0.1}},
        "refined": {"kind": "semisup", "per_seed": True, "from": "plain", "labelled": {"sw": 0.1}},
        "once": {"kind": "ssl", "corpora": {"sw": 0.1}},
    }
    starts["refined"]["settings"] = {"pseudo": {"weight": 0.0}}
    study = study_of(study="means", starts=starts, baseline="once")
    folder = tmp_path / "means/starts"
    for run in study.runs():
        write_scores(tmp_path, study, run, [1] * len(WORDS), WORDS)
    for seed, (before, after) in {1: (20.0, 5.0), 2: (40.0, 10.0)}.items():
        parent = {"stage": "pretrain", "wall_s": before, "settings": {"updates": 2}, "parent": None}
        write_json(folder / f"plain/seed{seed}/recipe.json", parent)
        refined = {"stage": "semisup", "wall_s": after, "settings": {"updates": 3}, "parent": parent}
        write_json(folder / f"refined/seed{seed}/recipe.json", refined)
    write_json(folder / "once/recipe.json", {"stage": "pretrain", "wall_s": 7.0, "parent": None})
    rows = summarise(study, tmp_path)["stages"]
    assert [(r["start"], r["instances"], r["seconds"]) for r in rows] == [
        ("plain", 2, 30.0),
        ("refined", 2, 7.5),
        ("once", 1, 7.0),
    ]
    assert row_of(rows, start="refined")["share_of_pretraining"] == 7.5 / 30


def test_which_share_of_its_pseudo_labels_a_start_learnt_from(tmp_path):
    refined = {"kind": "semisup", "from": "scratch", "labelled": {"sw": 0.1}, "unlabelled": {"sw": 0.1}}
    study = study_of(study="used", starts={"scratch": {"kind": "scratch"}, "some": refined, "none": refined}, seeds=[1])
    for start in study.starts:
        write_scores(tmp_path, study, (start, "swahili", "10min", 1), [1] * len(WORDS), WORDS)
    for start, kept in (("some", [None, 0.25, 0.75]), ("none", [None, None, None])):
        folder = tmp_path / "used/starts" / start
        write_json(folder / "recipe.json", {"stage": "semisup", "wall_s": 5.0, "parent": None})
        pq.write_table(
            pa.table({"step": [1, 2, 3], "pseudo_kept": pa.array(kept, pa.float32())}), folder / "curve.parquet"
        )
    rows = summarise(study, tmp_path)["stages"]
    assert row_of(rows, start="some")["pseudo_used"] == 0.5
    assert row_of(rows, start="none")["pseudo_used"] is None
