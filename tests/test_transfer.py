"""What makes a start transfer: agreement with statsmodels and scipy, and verdicts on tables whose truth is known."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from transfer_tables import FACTORIAL, LANGUAGES, changes_of, design_of, study_of

from headstart.languages.pairs import Pairs
from headstart.languages.similarity import nearest, similarity
from headstart.study.reading import load_study
from headstart.summarise import crossed
from headstart.summarise.crossed import cell_effect, inflation, language_effect, largest_share, start_effect
from headstart.summarise.estimates import holm
from headstart.summarise.pretraining_data import corpus_languages, pretraining_data
from headstart.summarise.ranks import every_language, rank_rows, stability
from headstart.summarise.transfer import transfer_section
from headstart.summarise.transfer_questions import question_rows
from headstart.summarise.transfer_table import TransferTable


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def crossed_table(rng, starts, languages, start_sd=0.1, slope_sd=0.0, cell_sd=0.05, predictor=None):
    table = rng.normal(0, start_sd, (starts, 1)) + rng.normal(0, 0.3, languages)
    table = table + rng.normal(0, cell_sd, (starts, languages))
    return table if predictor is None else table + np.outer(predictor, rng.normal(0, slope_sd, languages))


def mixed_model(table, size, number, slopes):
    """The same effects by REML, with crossed random effects of starts and languages."""
    starts, languages = table.shape
    start, language = (index.ravel() for index in np.indices(table.shape))
    fixed = np.column_stack([np.ones(table.size), size[start], number[start]])
    parts = {"start": np.eye(starts)[start], "language": np.eye(languages)[language]}
    if slopes:
        parts["slope"] = parts["language"] * size[start][:, None]
    names = [[f"{name}{i}" for i in range(part.shape[1])] for name, part in parts.items()]
    structure = sm.regression.mixed_linear_model.VCSpec(
        list(parts), [[columns] for columns in names], [[part] for part in parts.values()]
    )
    model = MixedLM(table.ravel(), fixed, np.ones(table.size), exog_re=None, exog_vc=structure)
    return model.fit(reml=True, method="lbfgs")


@pytest.mark.parametrize("slopes", [False, True])
def test_effects_of_starts_are_those_of_a_mixed_model(rng, slopes):
    size, number = np.log2([8, 8, 16, 16, 32, 32, 64, 64, 128, 128.0]), np.log2([1, 4, 2, 8, 1, 4, 2, 8, 1, 2.0])
    size = size - size.mean()
    table = crossed_table(rng, 10, 12, start_sd=0.1, slope_sd=0.1 if slopes else 0.0, predictor=size)
    table += 0.2 * number[:, None]
    fitted = mixed_model(table, size, number, slopes)
    ones = np.ones(10)
    by_size = start_effect(table, size, np.column_stack([ones, number]), rng)
    by_number = start_effect(table, number, np.column_stack([ones, size]), rng)
    assert by_size.value == pytest.approx(fitted.fe_params[1], abs=1e-5)
    assert by_number.value == pytest.approx(fitted.fe_params[2], abs=1e-5)
    assert by_size.error == pytest.approx(fitted.bse_fe[1], rel=0.03)
    if not slopes:
        assert by_number.error == pytest.approx(fitted.bse_fe[2], rel=0.03)


def test_starts_count_as_starts_however_many_languages_there_are(rng):
    size = rng.normal(size=9)
    table = np.tile(rng.normal(size=(9, 1)), (1, 18)) + rng.normal(size=18)
    own = start_effect(table, size, np.ones((9, 1)), rng)
    plain = sm.OLS(table.mean(1), sm.add_constant(size)).fit()
    assert own.value == pytest.approx(plain.params[1])
    assert own.error == pytest.approx(plain.bse[1])
    assert own.df == pytest.approx(7)
    assert own.p_t == pytest.approx(plain.pvalues[1])
    assert own.interval(0.95) == pytest.approx(plain.conf_int()[1])


def test_a_difference_between_languages_is_the_t_test_of_their_means(rng):
    inside = np.array([1.0] * 5 + [0.0] * 7)
    table = rng.normal(size=12) + rng.normal(size=(6, 1))  # starts differ from one another alike in all languages
    own = language_effect(table, inside, np.ones((12, 1)), rng)
    t = stats.ttest_ind(table.mean(0)[:5], table.mean(0)[5:])
    assert own.p_t == pytest.approx(t.pvalue)
    assert own.interval(0.95) == pytest.approx(tuple(t.confidence_interval(0.95)))


def test_permutations_of_few_starts_are_all_of_them(rng):
    kind = np.array([1.0, 1, 1, 0, 0, 0])
    table = rng.normal(size=(6, 1)) + 0.8 * kind[:, None] + 0.01 * rng.normal(size=(6, 5))
    own = start_effect(table, kind, np.ones((6, 1)), rng)
    means = table.mean(1)
    exact = stats.permutation_test(
        (means[:3], means[3:]), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=np.inf
    )
    assert own.p_permutation == pytest.approx(exact.pvalue)
    assert own.finest == pytest.approx(2 / 20)  # two of twenty splits are the measured one and its mirror image


def test_an_effect_within_starts_and_languages_is_that_of_dummies(rng):
    x, other = rng.normal(size=(7, 9)), rng.normal(size=(7, 9))
    table = crossed_table(rng, 7, 9) + 0.3 * x - 0.2 * other
    own = cell_effect(table, x, other[None], rng)
    start, language = (index.ravel() for index in np.indices(x.shape))
    dummies = np.column_stack([np.eye(7)[start], np.eye(9)[language][:, 1:]])
    fitted = sm.OLS(table.ravel(), np.column_stack([x.ravel(), other.ravel(), dummies])).fit()
    assert own.value == pytest.approx(fitted.params[0])


def test_the_error_within_starts_and_languages_is_that_of_repeated_studies(rng, monkeypatch):
    monkeypatch.setattr(crossed, "PERMUTATIONS", 9)
    effects = []
    for _ in range(150):
        x = rng.normal(size=(8, 10)) + rng.normal(size=(8, 1)) + rng.normal(size=10)
        slopes = rng.normal(0, 0.05, (8, 1)) + rng.normal(0, 0.05, 10)
        effects.append(cell_effect(crossed_table(rng, 8, 10) + slopes * x, x, np.empty((0, 8, 10)), rng))
    variance = np.mean([effect.error**2 for effect in effects])
    assert 0.8 < variance / np.var([effect.value for effect in effects]) < 1.6
    covered = [np.prod(effect.interval(0.95)) < 0 for effect in effects]
    assert sum(covered) >= 150 - most_of(150)


def test_variance_inflation_is_that_of_statsmodels(rng):
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    one, two = rng.normal(size=(2, 15))
    two = two + one
    design = np.column_stack([np.ones(15), one, two])
    assert inflation(two, design[:, :2]) == pytest.approx(variance_inflation_factor(design, 2))
    assert inflation(2 * one, design[:, :2]) == np.inf
    assert largest_share(np.array([0, 0, 0, 1.0]), np.ones((4, 1))) == pytest.approx(0.75)


# ---------------------------------------------------------------------------------------------- what starts are


def test_a_start_has_the_hours_and_languages_of_its_ancestors():
    study = study_of({"first": (30, ["en", "de"])}, targets=["sw", "fi"])
    starts = {name: start.model_dump(by_alias=True) for name, start in study.starts.items()}
    starts["second"] = {"kind": "ssl", "from": "first", "corpora": {"c-en": 20, "c-sw": 5}}
    starts["outside"] = {"kind": "ssl", "path": "models/some", "corpora": {"c-en": 20}}
    starts["refined"] = {"kind": "semisup", "from": "first", "labelled": {"c-en": 2}, "unlabelled": {"c-en": 3}}
    study = study.model_validate({**study.model_dump(by_alias=True), "starts": starts})
    assert pretraining_data(study, "none").hours == 0 and pretraining_data(study, "none").languages == ()
    second = pretraining_data(study, "second")
    assert (second.hours, set(second.languages), second.language_count) == (20 + 15 + 5, {"en", "de", "sw"}, 3)
    assert pretraining_data(study, "refined").hours == 30  # of the same recordings
    assert pretraining_data(study, "outside").hours is None and pretraining_data(study, "outside").languages is None


def test_code_switched_corpora_have_the_languages_of_their_grammar_or_target():
    study = study_of({"a": (1, ["en"])}, targets=["sw", "en", "zh"], mixed=[("zh", "en")])
    data = study.model_dump(by_alias=True)
    data["corpora"]["spanglish"] = {"reader": "synthetic", "language": "en-es-short"}
    study = study.model_validate(data)
    assert corpus_languages(study, "c-zh-en") == ("zh", "en")
    assert set(corpus_languages(study, "spanglish")) == {"en", "es"}
    assert corpus_languages(study, "c-sw") == ("sw",)


# ---------------------------------------------------------------------------------------------- verdicts


def questions_of(study, truth, **noise):
    section = transfer_section(study, {"cer": design_of(study, truth, **noise)})
    return {row["question"]: row for row in section["questions"]}


@pytest.fixture
def fewer_permutations(monkeypatch):
    monkeypatch.setattr(crossed, "PERMUTATIONS", 399)


def test_what_is_true_is_found(fewer_permutations):
    study = study_of(FACTORIAL)
    found = questions_of(study, changes_of(study, per_languages=-0.1, per_hours=0.0))
    assert found["languages"]["verdict"] == "lower"
    assert found["languages"]["low"] < np.expm1(-0.1) < found["languages"]["high"]
    assert found["languages_or_hours"]["verdict"] == "lower"
    assert found["multilingual"]["verdict"] == "lower"
    assert found["hours"]["verdict"] == "unclear"
    assert found["every_language"]["verdict"] == "lower"
    assert found["ranks"]["verdict"] == "higher"
    assert found["switched"]["verdict"] == "cannot tell"


def test_similarity_and_family_are_found_where_they_matter(fewer_permutations):
    study = study_of(FACTORIAL)
    table = TransferTable.of(study, design_of(study, changes_of(study)))
    alike = np.array([[table.nearest_language(name, (tag,), "table")[0] for tag in LANGUAGES] for name in table.starts])
    european = np.array([table.families[place] == "Indo-European" for place in range(len(LANGUAGES))])
    truth = changes_of(study, cell_sd=0.02)
    added = -0.4 * alike - 0.2 * european
    truth[1:] += added
    found = questions_of(study, truth)
    assert found["similarity"]["verdict"] == found["family"]["verdict"] == found["own_language"]["verdict"] == "lower"
    step = found["similarity"]["step"]
    assert step == pytest.approx(alike[alike < 1].std())
    assert found["similarity"]["low"] < np.expm1(-0.4 * step) < found["similarity"]["high"]
    difference = added[:, european].mean() - added[:, ~european].mean()
    assert found["family"]["low"] < np.expm1(difference) < found["family"]["high"]


def test_each_measure_of_similarity_is_asked_for_itself(fewer_permutations):
    """One of two made-up measures is what decides, and a third knows some of the languages only."""
    study = study_of(FACTORIAL)
    rng = np.random.default_rng(5)
    values = {pair: rng.uniform() for pair in combinations(LANGUAGES, 2)}
    right = Pairs.of((*pair, value) for pair, value in values.items())
    wrong = Pairs.of((*pair, rng.uniform()) for pair in values)
    some = Pairs.of((*pair, value) for pair, value in values.items() if not set(pair) & {"ja", "en"})
    none = Pairs.of([("en", "de", 0.5)])
    measures = {"table": similarity, "right": right, "wrong": wrong, "some": some, "none": none}
    truth = changes_of(study, cell_sd=0.02)
    alike = [[nearest(tag, FACTORIAL[name][1], right)[0] for tag in LANGUAGES] for name in FACTORIAL]
    truth[1:] -= 0.3 * np.array(alike)
    section = transfer_section(study, {"cer": design_of(study, truth)}, measures)
    asked = {row["measure"]: row for row in section["questions"] if row["question"] == "similarity"}
    assert list(asked) == list(measures)
    assert asked["right"]["verdict"] == asked["some"]["verdict"] == "lower"
    assert asked["table"]["verdict"] == asked["wrong"]["verdict"] == "unclear"
    assert asked["none"]["verdict"] == "cannot tell" and asked["none"]["reason"]
    assert asked["some"]["languages"] == len(LANGUAGES) - 2 and asked["right"]["languages"] == len(LANGUAGES)
    # All of them are adjusted for together.
    tested = [row for row in section["questions"] if row["p"] is not None]
    assert [row["p_adjusted"] for row in tested] == holm([row["p"] for row in tested])
    assert set(section["similarities"]) == {"right", "wrong", "some", "none"}
    assert Pairs.of_plain(section["similarities"]["right"]) == right
    assert [row["measure"] for row in section["advice"]] == ["table", "right", "wrong", "some"]


def test_what_moves_together_cannot_be_told_apart(fewer_permutations):
    sizes = [(10 * 2**step, step) for step in range(8)]
    confounded = {f"s{step}": (hours, LANGUAGES[: step + 1]) for hours, step in sizes}
    study = study_of(confounded)
    found = questions_of(study, changes_of(study, per_languages=-0.2))
    for question in ("hours", "languages", "languages_or_hours"):
        assert found[question]["verdict"] == "cannot tell"
        assert "change together" in found[question]["reason"]
        assert found[question]["p"] is None
    assert found["multilingual"]["verdict"] == "cannot tell"


def test_equal_hours_leave_the_number_of_languages_alone(fewer_permutations):
    study = study_of(
        {f"n{count}-{turn}": (10, LANGUAGES[turn : turn + count]) for count in (1, 4) for turn in range(6)}
    )
    found = questions_of(study, changes_of(study, per_languages=-0.1))
    assert found["languages"]["verdict"] == "lower"
    assert found["hours"]["verdict"] == "cannot tell" and "same hours" in found["hours"]["reason"]


def test_an_effect_that_rests_on_one_start_is_none(fewer_permutations):
    study = study_of({f"m{step}": (2**step, [LANGUAGES[step]]) for step in range(8)} | {"multi": (16, LANGUAGES[:8])})
    found = questions_of(study, changes_of(study, per_languages=-0.2))
    assert found["languages"]["verdict"] == "cannot tell"
    assert "rests on one start" in found["languages"]["reason"]


def test_few_starts_or_languages_make_no_section_and_few_more_no_verdict(fewer_permutations):
    few = study_of(dict(list(FACTORIAL.items())[:3]))
    assert transfer_section(few, {"cer": design_of(few, changes_of(few))}) is None
    few = study_of(FACTORIAL, targets=["en", "sw", "ja"])
    assert transfer_section(few, {"cer": design_of(few, changes_of(few))}) is None
    few = study_of({name: FACTORIAL[name] for name in ("8h-1-0", "8h-2-1", "32h-1-1", "128h-4-0")})
    found = questions_of(few, changes_of(few, per_languages=-0.5))
    assert found["languages"]["verdict"] == found["hours"]["verdict"] == "cannot tell"


def test_starts_of_unknown_data_are_left_out_of_what_needs_it(fewer_permutations):
    study = study_of(FACTORIAL)
    data = study.model_dump(by_alias=True)
    data["starts"]["stranger"] = {"kind": "hub", "path": "models/stranger"}
    study = study.model_validate(data)
    truth = np.vstack([changes_of(study_of(FACTORIAL)), np.full(len(LANGUAGES), -1.0)])
    section = transfer_section(study, {"cer": design_of(study, truth)})
    found = {row["question"]: row for row in section["questions"]}
    assert found["hours"]["starts"] == found["similarity"]["starts"] == len(FACTORIAL)
    assert found["ranks"]["starts"] == len(FACTORIAL) + 1
    assert section["starts"][-1]["hours"] is None


def test_one_seed_gives_no_verdict_where_seeds_are_needed(fewer_permutations):
    study = study_of(FACTORIAL, seeds=1)
    found = questions_of(study, changes_of(study, per_languages=-0.1))
    assert found["ranks"]["verdict"] == found["every_language"]["verdict"] == "cannot tell"
    assert found["languages"]["verdict"] == "lower"


def test_the_same_study_gives_the_same_numbers(fewer_permutations):
    study = study_of(FACTORIAL, mixed=[("en", "es"), ("de", "tr"), ("zh", "en")])
    assert questions_of(study, changes_of(study)) == questions_of(study, changes_of(study))


# ---------------------------------------------------------------------------------------------- ranks


def test_agreement_of_seeds_is_spearmans_correlation(rng):
    errors = rng.normal(size=(8, 5, 2)) + 2 * np.arange(8)[:, None, None]
    found = stability(errors, 0.95)
    expected = [stats.spearmanr(errors[:, place, 0], errors[:, place, 1]).statistic for place in range(5)]
    assert found["estimate"] == pytest.approx(np.mean(expected))
    low, high = stats.t.interval(0.95, 4, np.mean(expected), stats.sem(expected))
    assert (found["low"], found["high"]) == pytest.approx((low, min(high, 1.0)))
    assert found["p"] < 0.01
    assert stability(rng.normal(size=(8, 5, 2)), 0.95)["p"] > 0.05
    assert stability(errors[:, :, :1], 0.95) is None


def test_intervals_of_ranks_hold_what_is_not_clear(rng):
    study = study_of({name: (8, ["en"]) for name in "abcd"}, targets=LANGUAGES[:6])
    levels = np.array([0.0, -0.5, -0.5, -1.0, -1.0])
    design = design_of(study, levels[:, None] + np.zeros(6))
    rows = {row["start"]: row for row in rank_rows(design, list(study.starts), list(design.cells), 0.95)}
    assert (rows["none"]["low"], rows["none"]["high"]) == (5, 5)
    assert {(rows[name]["low"], rows[name]["high"]) for name in "ab"} == {(3, 4)}
    assert {(rows[name]["low"], rows[name]["high"]) for name in "cd"} == {(1, 2)}
    assert sorted(row["rank"] for row in rows.values()) == [1, 2, 3, 4, 5]


def test_every_language_takes_the_weakest(rng):
    study = study_of({"a": (8, ["en"])}, targets=LANGUAGES[:4], seeds=5)
    truth = np.array([[0, 0, 0, 0], [-0.3, -0.3, -0.01, -0.3]])
    design = design_of(study, truth)
    contrasts = {cell[0]: {cell: {"a": 1.0, "none": -1.0}} for cell in design.cells}
    found = every_language(design, contrasts, 0.95)
    assert found["weakest"] == "t-nl"
    alone = design.difference(contrasts["t-nl"])
    assert found["p"] == pytest.approx(1 - alone.below(0.0)) and found["p"] > 0.05
    truth[1, 2] = 0.3
    worse = every_language(design_of(study, truth), contrasts, 0.95)
    assert worse["positive"] == ["t-nl"] and worse["p"] > 0.99


def test_the_design_of_the_study_at_demo_scale_can_answer_every_question(monkeypatch):
    """Hours and languages vary independently, and there are enough starts and languages of each kind."""
    monkeypatch.setattr(crossed, "PERMUTATIONS", 199)
    study = load_study(Path(__file__).parents[1] / "config" / "studies" / "transfer.yaml")
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.05, (len(study.starts), len(study.targets)))
    design = design_of(study, truth)
    data = TransferTable.of(study, design).starts.values()
    hours, counts = (np.log2([getattr(one, key) for one in data]) for key in ("hours", "language_count"))
    assert inflation(counts, np.column_stack([np.ones(len(hours)), hours])) < 1.1
    section = transfer_section(study, {"cer": design})
    assert [row["question"] for row in section["questions"] if row["verdict"] == "cannot tell"] == []
    assert section["family"] == "Indo-European" and len({row["family"] for row in section["targets"]} - {None}) >= 4
    heard = {tag for one in data for tag in one.languages}
    assert {"pt", "pl", "et"}.isdisjoint(heard)
    assert {(row["covered"], row["of"]) for row in section["groups"]} == {(0, 2), (1, 2), (2, 2)}


# ---------------------------------------------------------------------------------------------- false verdicts


def false_verdicts(tables: int, seed: int) -> dict[str, int]:
    """By question, in how many tables without any effect the p value is below 5 %; and `any`, a verdict of the report.

    Starts differ, and suit some languages better than others, for reasons that the study does not know.
    """
    counts: dict[str, int] = {"any": 0}
    rng = np.random.default_rng(seed)
    for _ in range(tables):
        names = {
            f"s{place}": (2.0 ** rng.integers(3, 8), rng.choice(LANGUAGES, rng.integers(1, 6), replace=False).tolist())
            for place in range(12)
        }
        study = study_of(names, targets=LANGUAGES[2:14], seeds=2)
        truth = rng.normal(0, 0.1, (13, 1)) + rng.normal(-1, 0.3, 12) + rng.normal(0, 0.05, (13, 12))
        truth[1:] += np.outer(rng.normal(size=12), rng.normal(0, 0.03, 12))
        design = design_of(study, truth, seed=int(rng.integers(2**30)))
        rows = [row for row in question_rows(TransferTable.of(study, design), 0.95) if row["p"] is not None]
        for row in rows:
            counts[row["question"]] = counts.get(row["question"], 0) + (row["p"] < 0.05)
        counts["any"] += min(holm([row["p"] for row in rows])) < 0.05
    return counts


def most_of(tables: int) -> int:
    """The count that a rate of 5 % exceeds in one of a thousand such tests."""
    return int(stats.binom.ppf(0.999, tables, 0.05))


def test_what_is_not_there_is_seldom_found(monkeypatch):
    monkeypatch.setattr(crossed, "PERMUTATIONS", 99)
    counts = false_verdicts(40, seed=5)
    assert len(counts) >= 6
    assert max(counts.values()) <= most_of(40)


@pytest.mark.slow
def test_what_is_not_there_is_found_in_less_than_5_percent(monkeypatch):
    monkeypatch.setattr(crossed, "PERMUTATIONS", 199)
    counts = false_verdicts(600, seed=6)
    assert max(counts.values()) <= most_of(600)
    assert counts["any"] <= 0.06 * 600


def test_a_gain_that_one_language_lacks_is_seldom_found_in_every_language():
    study = study_of({"a": (8, ["en"]), "b": (8, ["en"])}, targets=LANGUAGES[:5], seeds=2)
    found = 0
    for seed in range(150):
        design = design_of(study, np.array([[0.0] * 5, [-0.5] * 4 + [0.0], [-0.5] * 4 + [0.0]]), seed=seed)
        contrasts = {cell[0]: {cell: {"a": 1.0, "none": -1.0}} for cell in design.cells}
        found += every_language(design, contrasts, 0.95)["p"] < 0.05
    assert found <= most_of(150)
