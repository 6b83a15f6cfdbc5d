"""Why a fine-tuning run is stuck: the rules on learning curves as they are seen, and real runs that are stuck."""

import logging

import numpy as np
import pytest

from headstart.corpora.manifests import FEATURES, read_table, write_table
from headstart.files import read_json
from headstart.finetune import finetune_run
from headstart.jobs import FinetuneJob
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.text import Text
from headstart.subsets import draw_subset
from headstart.training.curve import read_curve
from headstart.training.diagnosis import Transcripts, boundaries, diagnose

SETTINGS = Finetune(updates=600, learning_rate=1e-3)
GOOD = Transcripts("", 0.0, 0.2, 0.2)


def curve_of(updates: int = 600, rows: int = 12, **columns: tuple[float, float]) -> list[dict[str, float]]:
    """A learning curve whose columns go straight from the first value to the second; those of a good run by default."""
    columns = {
        "train_loss": (3.0, 0.3),
        "dev_wer": (1.0, 0.4),
        "dev_cer": (1.0, 0.1),
        "dev_blank": (1.0, 0.6),
        "dev_length": (0.0, 1.0),
        "dev_boundaries": (0.0, 0.2),
        "skipped": (0, 0),
    } | columns
    values = {name: np.linspace(*ends, rows) for name, ends in columns.items()}
    steps = range(updates // rows, updates + 1, updates // rows)
    return [
        {"step": step, **{name: float(column[i]) for name, column in values.items()}} for i, step in enumerate(steps)
    ]


def found(curve: list[dict[str, float]], transcripts: Transcripts = GOOD, settings: Finetune = SETTINGS) -> list[str]:
    findings = diagnose(curve, settings, transcripts)
    for finding in findings:
        assert finding.sentence[0].isupper() and finding.sentence.endswith(".") and "nan" not in finding.sentence
    return [finding.key for finding in findings]


BLANK = {"dev_wer": (1.0, 1.0), "dev_cer": (1.0, 0.99), "dev_length": (0.0, 0.02), "dev_blank": (1.0, 0.997)}
STUCK = {
    "blank": BLANK | {"train_loss": (3.5, 2.9)},
    "flat": {"dev_cer": (1.6, 1.05), "dev_wer": (1.0, 1.0), "dev_length": (1.0, 1.4), "train_loss": (9.0, 8.9)},
    "glued": {"dev_boundaries": (0.0, 0.01), "dev_cer": (1.0, 0.3), "dev_wer": (1.0, 1.0)},
    "updates": {"dev_cer": (1.0, 0.5), "dev_wer": (1.0, 0.98), "dev_boundaries": (0.0, 0.15)},
    "diverged": {"train_loss": (0.5, 4.0)},
    "skipped": {"skipped": (0, 90)},
}


def test_a_run_that_learns_has_no_findings():
    assert found(curve_of()) == []
    # Nor has one that is good from the beginning, nor one whose transcripts have no spaces in any split.
    assert found(curve_of(dev_cer=(0.1, 0.1), dev_wer=(0.3, 0.3), dev_length=(1.0, 1.0))) == []
    assert found(curve_of(dev_boundaries=(0.0, 0.0)), Transcripts("", 0.0, 0.0, 0.0)) == []
    assert found([]) == []


@pytest.mark.parametrize("key", STUCK)
def test_a_stuck_run_has_one_finding(key):
    assert found(curve_of(**STUCK[key])) == [key]


@pytest.mark.parametrize("key", STUCK)
def test_a_run_that_has_just_begun_is_not_called_stuck(key):
    early = {"diverged": ["diverged"], "skipped": ["skipped"]}.get(key, [])
    curve = curve_of(**STUCK[key])
    # `diverged` compares with the best row so far, and this loss has risen by more than one after five of twelve rows.
    assert found(curve[:5]) == early
    if key == "updates":
        assert found(curve[:11]) == []  # the end alone tells that it came too early


def test_blanks_are_blamed_on_few_updates_or_on_a_loss_that_no_longer_falls():
    few = diagnose(curve_of(**STUCK["blank"]), SETTINGS, GOOD)[0].sentence
    assert "99.7% of the dev frames is the blank" in few and "raise finetune.updates (now 600)" in few
    many = Finetune(updates=6000, learning_rate=1e-6)
    stuck = diagnose(curve_of(6000, **BLANK, train_loss=(2.91, 2.90)), many, GOOD)[0].sentence
    assert "raise finetune.learning_rate (now 1e-06)" in stuck and "finetune.updates" not in stuck
    falling = diagnose(curve_of(6000, **BLANK, train_loss=(3.6, 2.6)), many, GOOD)[0].sentence
    assert "raise finetune.updates (now 6000)" in falling


def test_transcripts_are_diagnosed_before_the_first_update():
    alphabet = Transcripts("шжщ", 0.4, 0.2, 0.2)
    (finding,) = diagnose([], SETTINGS, alphabet)
    assert finding.key == "alphabet"
    assert finding.sentence.startswith("40% of the characters in dev") and "ш ж щ" in finding.sentence
    glued = Transcripts("", 0.0, 0.0, 0.25)
    (finding,) = diagnose([], SETTINGS, glued)
    assert finding.key == "boundaries" and "have no spaces, dev transcripts one space for 4 char" in finding.sentence
    # The words that this run writes as one are not found a second time.
    assert found(curve_of(**STUCK["glued"]), glued) == ["boundaries"]


def test_curves_without_these_columns_have_no_findings_of_them():
    row = {"step": 600, "train_loss": 1.0, "dev_wer": 1.0, "dev_cer": 0.5}
    assert found([row]) == []
    assert found([{"step": 600}]) == []


def test_boundaries_are_counted_for_each_other_character():
    assert boundaries(["ab cd", "efgh"]) == pytest.approx(1 / 8)
    assert boundaries(["", ""]) == 0


# ------------------------------------------------------------------------------------------------------ real runs


MODEL = Model(hidden_size=32, layers=1, heads=2, intermediate_size=64, conv_dim=(32, 32), position_kernel=8)


def finetuned(folder, english, caplog, **settings) -> tuple[dict, list[str]]:
    """A run from random weights: its recipe, and the findings in its log."""
    folder.mkdir(exist_ok=True)
    subset = str(folder / "12s.parquet")
    draw_subset(english["train"]["features"], "12s", 1, subset)
    options = {"settings": Finetune(**{"batch_seconds": 6.0, "dev_minutes": 1.0, **settings}).model_dump()}
    options |= {"text": Text().model_dump(), "model": MODEL.model_dump(), "parent": None, "seed": 1}
    paths = {
        "train": english["train"],
        "dev": english["dev"],
        "output": str(folder / "run"),
        "state": str(folder / "s"),
    }
    caplog.set_level(logging.WARNING)
    finetune_run(FinetuneJob.of(**paths, subset=subset, **options))
    return read_json(folder / "run" / "recipe.json"), [record.getMessage() for record in caplog.records]


@pytest.mark.usefixtures("one_thread")
def test_a_run_with_too_few_updates_writes_blanks_and_says_so(english, tmp_path, caplog):
    recipe, messages = finetuned(tmp_path, english, caplog, updates=40, learning_rate=4e-3, log_every=10)
    (finding,) = recipe["diagnosis"]
    assert finding["key"] == "blank" and "raise finetune.updates (now 40)" in finding["sentence"]
    assert any("update 40: " + finding["sentence"] in message for message in messages)  # at the end
    assert any("update 20: The best label of" in message for message in messages)  # and when it was clear
    assert not any("update 30: " in message for message in messages)
    curve = read_curve(tmp_path / "run" / "curve.parquet")
    assert curve["dev_blank"][-1] > 0.9 and curve["dev_length"][-1] < 0.3 and curve["dev_cer"][-1] > 0.7


@pytest.mark.usefixtures("one_thread")
def test_a_learning_rate_of_nothing_is_found(english, tmp_path, caplog):
    recipe, _ = finetuned(tmp_path, english, caplog, updates=4, learning_rate=1e-9, log_every=2)
    (finding,) = recipe["diagnosis"]
    assert finding["key"] == "flat" and "raise finetune.learning_rate (now 1e-09)" in finding["sentence"]


@pytest.mark.usefixtures("one_thread")
def test_training_transcripts_without_spaces_are_found_before_training(english, tmp_path, caplog):
    rows = read_table(english["train"]["features"], FEATURES)
    glued = [row | {"text": row["text"].replace(" ", "")} for row in rows]
    write_table(tmp_path / "glued.parquet", glued, FEATURES)
    train = {"features": str(tmp_path / "glued.parquet"), "audio": english["train"]["audio"]}
    recipe, messages = finetuned(
        tmp_path / "f", {**english, "train": train}, caplog, updates=2, learning_rate=1e-3, log_every=2
    )
    finding = recipe["diagnosis"][0]
    assert finding["key"] == "boundaries" and "Training transcripts have no spaces" in finding["sentence"]
    begun = [i for i, message in enumerate(messages) if "update 0: " + finding["sentence"] in message]
    ended = [i for i, message in enumerate(messages) if "update 2: " + finding["sentence"] in message]
    assert len(begun) == len(ended) == 1 and begun < ended
