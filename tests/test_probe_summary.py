"""What probes foretell: against scipy, on simulated tables whose truth is known, by hand, and on the page."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from transfer_tables import design_of, study_of

from headstart.corpora.manifests import write_table
from headstart.errors import HeadstartError
from headstart.probe.probing import PROBES
from headstart.report.gallery import Gallery
from headstart.report.page import probe_values
from headstart.summarise.probe import probe_section
from headstart.summarise.rank_agreement import rank_agreement
from headstart.summarise.tables import probe_path, run_folder

STARTS = {"a": (10, ["en"]), "b": (10, ["de"]), "c": (20, ["fr"]), "d": (20, ["fi"]), "e": (5, ["tr"])}
TARGETS = ["en", "sw", "fi"]
# Error rates of `none` and of the starts on the targets, and the lowest CER of their probes.
ERRORS = np.array(
    [[0.9, 0.9, 0.9], [0.5, 0.6, 0.3], [0.4, 0.5, 0.5], [0.6, 0.7, 0.6], [0.7, 0.4, 0.7], [0.8, 0.8, 0.8]]
)
PROBE = np.array(
    [[0.99, 0.99, 0.99], [0.8, 0.8, 0.8], [0.7, 0.9, 0.85], [0.81, 0.91, 0.9], [0.9, 0.7, 0.95], [1, 1, 1]]
)


def probed(tmp_path, seconds: float = 2.0):
    study = study_of(STARTS, targets=TARGETS, seeds=2)
    study = study.model_validate({**study.model_dump(by_alias=True), "probe": {"seeds": 2}})
    for place, start in enumerate(study.starts):
        for column, target in enumerate(study.targets):
            rows = [
                {"seed": seed, "layer": layer, "cer": PROBE[place, column] + more + 0.01 * (seed - 1.5)}
                | {"train_loss": 2.0, "seconds": seconds}
                for seed in (1, 2)
                for layer, more in enumerate((0.05, 0.0, 0.1))
            ]
            write_table(probe_path(tmp_path, study.study, start, target, "10min"), rows, PROBES)
            for seed in study.seeds:
                folder = run_folder(tmp_path, study.study, (start, target, "10min", seed))
                folder.mkdir(parents=True)
                (folder / "recipe.json").write_text(json.dumps({"wall_s": 100.0}))
    return study, design_of(study, np.log(ERRORS), seed_sd=1e-9)


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    study, design = probed(folder := tmp_path_factory.mktemp("probes"))
    return study, probe_section(study, folder, design)


def test_the_best_layer_is_that_of_the_mean_over_seeds(section):
    cell = next(c for c in section[1]["cells"] if (c["start"], c["target"]) == ("b", "t-sw"))
    assert cell["layer"] == 1 and cell["cer"] == pytest.approx(0.9) and cell["seconds"] == 4.0
    assert cell["layers"] == pytest.approx([0.95, 0.9, 1.0]) and cell["error"] == pytest.approx(0.5)


def test_agreement_is_scipys_in_the_mean_over_targets_and_without_no_pretraining(section):
    (row,) = section[1]["agreement"]
    by_scipy = [spearmanr(PROBE[1:, k], ERRORS[1:, k]).statistic for k in range(3)]
    assert row["estimate"] == pytest.approx(np.mean(by_scipy))
    assert (row["starts"], row["targets"]) == (5, 3)
    assert row["low"] < row["estimate"] <= row["high"] <= 1


def test_picks_and_their_cost_by_hand(section):
    picks = {row["target"]: row for row in section[1]["picks"]}
    assert [(picks[f"t-{t}"]["picked"], picks[f"t-{t}"]["best"]) for t in TARGETS] == [
        ("b", "b"),
        ("d", "d"),
        ("a", "a"),
    ]
    rules = {row["rule"]: row for row in section[1]["rules"]}
    assert rules["probe"]["regret"] == pytest.approx(0, abs=1e-6)
    # On the other two targets, a has the lowest product twice (0.18 and 0.15), then b (0.2).
    by_hand = [np.log(0.5 / 0.4), np.log(0.6 / 0.4), np.log(0.5 / 0.3)]
    elsewhere = [np.argmin([np.prod(np.delete(row, k)) for row in ERRORS[1:]]) for k in range(3)]
    assert [int(k) for k in elsewhere] == [0, 0, 1]
    assert rules["elsewhere"]["regret"] == pytest.approx(np.expm1(np.mean(by_hand)), abs=1e-6)
    assert rules["elsewhere"]["hits"] == 0 and rules["elsewhere"]["low"] < rules["elsewhere"]["regret"]
    assert rules["chance"]["hits"] == pytest.approx(3 / 5)


def test_times_are_added_up(section):
    (row,) = section[1]["times"]
    # 5 starts x 3 targets, 2 seeds of 100 s and 2 of 2 s; one start in five is fine-tuned after the probes.
    assert row["fine_tuning"] == 3000 and row["probing"] == 60 and row["saved"] == 3000 - 600 - 60


def test_a_probe_that_is_missing_is_named_and_few_starts_are_not_ranked(tmp_path):
    study, design = probed(tmp_path)
    few = study.model_copy(update={"starts": {name: study.starts[name] for name in ("none", "a", "b")}})
    (row,) = probe_section(few, tmp_path, design)["agreement"]
    assert row["estimate"] is None and "2 pre-trained starts are too few" in row["reason"]
    path = probe_path(tmp_path, study.study, "c", "t-sw", "10min")
    path.unlink()
    with pytest.raises(HeadstartError, match="c/t-sw/10min.parquet: no probe"):
        probe_section(study, tmp_path, design)
    alone = study.model_copy(update={"starts": {"none": study.starts["none"]}})
    section = probe_section(alone, tmp_path, design)
    (agreement,) = section["agreement"]
    assert agreement["reason"] == "0 pre-trained starts are too few to rank"
    assert section["cells"] and not section["picks"]


def simulated(rng, starts, targets, common):
    """Two measurements of starts whose true values on a target are correlated by `common`, through starts and cells."""
    quality = rng.standard_normal((starts, 1))
    cells = rng.standard_normal((2, starts, targets))
    seen = quality * np.sqrt(common) + cells * np.sqrt(1 - common)
    return seen[0], seen[1]


@pytest.mark.parametrize("common", [0.0, 0.5, 0.9])
def test_intervals_contain_the_true_correlation_and_p_is_seldom_small_without_one(common, monkeypatch):
    from headstart.summarise import rank_agreement as module

    monkeypatch.setattr(module, "DRAWS", 99)
    rng = np.random.default_rng(0)
    truth = np.mean([module.correlations(*simulated(rng, 10, 100, common)).mean() for _ in range(100)])
    rows = [rank_agreement(*simulated(rng, 10, 6, common), 0.95) for _ in range(100)]
    covered = np.mean([row["low"] <= truth <= row["high"] for row in rows])
    assert covered >= 0.9, covered
    false = np.mean([row["p"] < 0.05 for row in rows])
    assert false <= 0.1 if common == 0 else false > 0.5


def test_equal_starts_and_perfect_order():
    values = np.arange(12.0).reshape(4, 3)
    perfect = rank_agreement(values, 10 * values, 0.95)
    assert perfect["estimate"] == pytest.approx(1) and (perfect["low"], perfect["high"]) == (-1, 1)
    assert perfect["p"] == pytest.approx(1 / 12, abs=0.05)  # of 24 orders of four starts, two agree or disagree wholly
    assert rank_agreement(values, np.ones((4, 3)), 0.95)["estimate"] == 0


def test_the_page_says_what_probes_are_worth(section):
    study, found = section
    gallery = Gallery(study, {"probe": found, "metric": "cer", "confidence": 0.95})
    values = probe_values(study, {"probe": found, "metric": "cer", "confidence": 0.95}, gallery)
    agreement, times = values["probe_sentences"]
    assert "Spearman's correlation is 0.9" in agreement and "3 targets" in agreement
    assert "saves 39 min 00 s" in times
    assert [row["rule"] for row in values["probe_rules"]][0] == "the probe's lowest CER"
    assert values["probe_rules"][0]["regret"] == "+0.0%" and values["probe_rules"][0]["hits"] == "3 of 3"
    assert len(values["probe_panels"]) == 4 and values["probe_picks"][0]["picked"] == "b"
    assert "b 70.0% at layer 1" in values["probe_panels"][0]["description"]
    assert probe_values(study.model_copy(update={"probe": None}), {}, gallery) == {"probe": None}
