"""Claims: which verdict a statement gets, what it rests on, and what a study can resolve before it has run."""

import json

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from test_summary import row_of, study_of, write_scores

from headstart.report.sentences import claim_sentences
from headstart.study.reading import StudyError, parse_study
from headstart.study.study import Study
from headstart.summarise.power import planned_claims
from headstart.summarise.summary import summarise, write_summary

STARTS = {name: {"kind": "scratch"} for name in ("scratch", "better", "same", "noisy")}
CORPORA = {name: {"reader": "folder", "path": name, "language": "sw"} for name in ("a", "b")}
TARGETS = {"a": {"corpus": "a", "kind": "in-domain"}, "b": {"corpus": "b", "kind": "code-switched"}}


def claim(treatment, baseline="scratch", **more):
    return {"claim": f"{treatment} beats {baseline}.", "treatment": treatment, "baseline": baseline, **more}


def claims_study(claims, **changes) -> Study:
    settings = {"corpora": CORPORA, "targets": TARGETS, "starts": STARTS, "seeds": [1, 2, 3, 4]}
    return study_of(**{**settings, "claims": claims, **changes})


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Four starts on two targets: one half as wrong, one the same but for a little, one that varies with its seed."""
    results = tmp_path_factory.mktemp("claims")
    study, rng = claims_study([]), np.random.default_rng(1)
    for target in TARGETS:
        for seed in study.seeds:
            common = rng.integers(60, 80, 40)
            for start in study.starts:
                errors = {
                    "scratch": common,
                    "better": common // 2,
                    "same": common + rng.integers(-1, 2, 40),
                    "noisy": (common * np.exp(0.2 * rng.standard_normal())).astype(int),
                }[start]
                write_scores(results, study, (start, target, "10min", seed), errors.tolist(), [200] * 40)
    return results


def verdict(results, **changes):
    (row,) = summarise(claims_study([claim(**changes)]), results)["claims"]
    return row


def test_a_clear_change_supports_or_contradicts_by_its_direction(scored):
    row = verdict(scored, treatment="better", metric="cer", size=-0.5)
    assert (row["verdict"], row["statement"]) == ("supported", "better beats scratch.")
    assert len(row["runs"]) == 16 and "better/b/10min/seed4" in row["runs"]
    assert row["low"] < row["estimate"] < row["high"] and row["estimate"] == pytest.approx(-0.5, abs=0.02)
    assert row["p"] < 0.05 and row["needs"] is None
    assert verdict(scored, treatment="better", expect="higher")["verdict"] == "contradicted"
    assert verdict(scored, treatment="better", expect="equal")["verdict"] == "contradicted"
    assert verdict(scored, treatment="scratch", baseline="better", expect="higher")["verdict"] == "supported"


def test_equal_is_a_verdict_of_its_own(scored):
    row = verdict(scored, treatment="same", smallest_effect=0.1)
    assert row["verdict"] == "equal" and row["p_equal"] < 0.05
    assert verdict(scored, treatment="same", smallest_effect=0.1, expect="equal")["verdict"] == "supported"


def test_an_inconclusive_claim_says_what_would_decide_it(scored):
    row = verdict(scored, treatment="noisy", smallest_effect=0.05)
    assert row["verdict"] == "inconclusive"
    assert row["needs"]["seeds"] > 4
    easier = verdict(scored, treatment="noisy", smallest_effect=0.5)
    assert easier["verdict"] == "equal" or easier["needs"]["seeds"] < row["needs"]["seeds"]


def test_targets_are_chosen_by_name_or_kind(scored):
    assert verdict(scored, treatment="better", kinds=["code-switched"])["targets"] == ["b"]
    assert verdict(scored, treatment="better", targets=["a"])["runs"][0] == "better/a/10min/seed1"
    row = verdict(scored, treatment="better", kinds=["cross-domain"])
    assert (row["verdict"], row["reason"]) == ("not tested", "the study has no cross-domain target")


def test_several_comparisons_are_averaged(scored):
    single = [verdict(scored, treatment=start)["estimate"] for start in ("better", "same")]
    row = verdict(scored, treatment=["better", "same"])
    assert np.log1p(row["estimate"]) == pytest.approx(np.mean(np.log1p(single)))
    paired = verdict(scored, treatment=["better", "same"], baseline=["scratch", "noisy"])
    assert paired["baseline"] == ["scratch", "noisy"] and len(paired["runs"]) == 32


def test_what_cannot_be_compared_is_not_tested_and_says_why(scored):
    assert "learning curves" in verdict(scored, treatment="better", metric="updates")["reason"]
    assert "analyse" in verdict(scored, treatment="better", metric="gap")["reason"]
    one = summarise(claims_study([claim("better")], seeds=[1]), scored)["claims"][0]
    assert (one["verdict"], one["reason"]) == (
        "not tested",
        "the study has one seed, which says nothing of how much runs vary",
    )
    assert "not known" in verdict(scored, treatment="better", metric="time", size=0.1)["reason"]


def test_training_times_of_starts_are_compared_where_each_seed_trained_its_own(scored, tmp_path):
    """`slow` takes about ten times as much time; `once` was trained once, for all four seeds."""
    ssl = {"kind": "ssl", "corpora": {"a": 1.0}}
    starts = {"slow": {**ssl, "per_seed": True}, "quick": {**ssl, "per_seed": True}, "once": ssl}
    claims = [
        {"claim": "Quick.", "treatment": "quick", "baseline": "slow", "metric": "seconds"},
        {"claim": "Once.", "treatment": "quick", "baseline": ["once"], "metric": "seconds"},
    ]
    study, rng = claims_study(claims, starts={**STARTS, **starts}), np.random.default_rng(2)
    for run in study.runs():
        write_scores(tmp_path, study, run, rng.integers(60, 80, 40).tolist(), [200] * 40)
    times = {"slow": [100.0, 110.0, 104.0, 98.0], "quick": [10.0, 10.4, 11.0, 9.9]}
    seconds = {f"{name}/seed{s}": times[name][s - 1] for name in times for s in study.seeds}
    for instance, wall in {**seconds, "once": 50.0}.items():
        folder = tmp_path / study.study / "starts" / instance
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text(json.dumps({"wall_s": wall, "settings": {}}))
    summary = summarise(study, tmp_path)
    quick, once = summary["claims"]
    ratio = np.prod(times["quick"]) ** 0.25 / np.prod(times["slow"]) ** 0.25
    assert quick["estimate"] == pytest.approx(ratio - 1) and quick["verdict"] == "supported"
    assert sorted(quick["runs"]) == sorted(f"starts/{name}" for name in seconds)
    assert once["verdict"] == "not tested" and once["reason"].startswith("once is not trained for each seed")
    (sentence, *_) = claim_sentences(study, summary, quick)
    assert sentence.startswith("The time of training of quick is ") and sentence.endswith("from 8 trainings.")
    assert not any(row["metric"] == "seconds" for row in summarise(claims_study([]), scored)["spread"])
    plans = planned_claims(study, tmp_path / "none")
    assert plans[0]["resolves"] > 0 and plans[1]["resolves"] is None


def test_p_values_are_adjusted_over_the_claims_that_are_tested(scored):
    claims = [claim("better"), claim("same"), claim("noisy"), claim("better", kinds=["cross-domain"])]
    rows = summarise(claims_study(claims), scored)["claims"][:3]
    adjusted = multipletests([row["p"] for row in rows], method="holm")[1]
    assert [row["p_adjusted"] for row in rows] == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (claim("beter"), r"claims.0.treatment: there is no start 'beter' \(nearest valid: 'better'\)"),
        (claim("better", budgets=["1h"]), "claims.0.budgets: there is no budget '1h'"),
        (claim("better", targets=["c"]), "claims.0.targets: there is no target 'c'"),
        (claim("better", "better"), "claims.0: 'better' is compared with itself"),
        (claim(["better", "same", "noisy"], ["scratch", "scratch"]), "3 treatments have 2 baselines"),
        (claim("better", targets=["a"], kinds=["in-domain"]), "targets and kinds are both given"),
        (claim("better", metric="time"), "size is required with metric time"),
    ],
)
def test_impossible_claims_are_named(wrong, message):
    data = {**claims_study([]).model_dump(by_alias=True, mode="json"), "claims": [wrong]}
    with pytest.raises(StudyError, match=message):
        parse_study(data, "study.yaml")


def test_a_plan_resolves_more_with_more_seeds_and_less_variation(scored, tmp_path):
    claims = [claim("better"), claim("better", kinds=["cross-domain"])]
    few, none = planned_claims(claims_study(claims, seeds=[1, 2]), tmp_path)
    assert none["resolves"] is None and none["basis"] == "the study has no cross-domain target"
    assert few["basis"].startswith("stated defaults")
    (more, _) = planned_claims(claims_study(claims, seeds=[1, 2, 3, 4, 5]), tmp_path)
    assert more["resolves"] < few["resolves"]
    # A summary of the study itself takes the place of the defaults.
    study = claims_study(claims)
    write_summary(study, scored)
    spread = row_of(json.loads((scored / "tiny/summary.json").read_text())["spread"], metric="cer")
    (own, _) = planned_claims(study, scored)
    assert own["basis"] == "as runs varied in tiny"
    default = planned_claims(study, tmp_path)[0]["resolves"]
    assert (own["resolves"] < default) == (spread["seed_sd"] < 0.03)
