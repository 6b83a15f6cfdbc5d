"""The benchmarks: both sides compute the same, and the entry point writes its rows. Nothing here is about speed."""

import importlib
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def training(monkeypatch):
    """The module of the benchmarks, found as their entry point finds it."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("training")


@pytest.fixture
def task(training, tmp_path):
    """Fine-tuning of a tiny model with nothing random in it."""
    from speech import synthesise

    model, speech = training.SIZES["tiny"].model.model_dump(), synthesise(tmp_path, 24.0)
    return training.Task("ctc", model, speech, batches=2, batch_seconds=8.0, dropout=0.0, masking=False)


def losses(training, task) -> tuple[list[float], list[float]]:
    """Ours and the peer's, of each batch of the first pass."""
    ours = training.measure_ours(asdict(task), seconds=0.0)
    batches = json.loads(json.dumps(ours["batches"]))
    peer = training.measure_peer(asdict(task), batches, seconds=0.0, precision="float32", count=True)
    assert ours["rate"] > 0 and peer["rate"] > 0 and peer["flops_a_second"] > 0
    return ours["losses"], peer["losses"]


def test_both_sides_fine_tune_the_same_network_on_the_same_batches(training, task):
    ours, peer = losses(training, task)
    assert ours == pytest.approx(peer, rel=0.01)  # ours may be in bfloat16


def test_both_sides_pre_train_on_equal_terms(training, task):
    ours, peer = losses(training, replace(task, stage="ssl"))
    assert [*ours, *peer] == pytest.approx([math.log(101)] * 2 * len(ours), rel=0.15)  # of 101 candidates, at first


def test_both_sides_count_the_same_errors(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import scoring

    pairs = scoring.utterances()[:20]
    ours, peers = scoring.our_counts()(pairs), scoring.peer_counts()(pairs)
    for unit, metric in (("word", "wer"), ("char", "cer")):
        for name, own in zip(scoring.COUNTS, ours[metric], strict=True):
            assert own.tolist() == [peer[f"{unit}_{name}"] for peer in peers]
    assert {"pier", "switch_boundary", "wer[es]", "wer_raw"} <= ours.keys()  # ours counts much more, too


@pytest.mark.slow
def test_the_entry_point_writes_a_row_for_each_comparison(tmp_path):
    output = tmp_path / "benchmarks.json"
    command = [sys.executable, FOLDER / "run.py", "--only", "peak", "ssl-tiny", "ctc-tiny", "scoring"]
    options = ["--seconds", "0.2", "--rounds", "1", "--threads", "1", "--output", output]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text())
    assert [row["name"] for row in rows] == [
        "matmul peak, bf16 vs fp32",
        "ssl tiny vs transformers fp32",
        "ssl tiny vs transformers bf16",
        "ssl tiny vs matmul peak",
        "ctc tiny vs transformers fp32",
        "ctc tiny vs transformers bf16",
        "ctc tiny vs matmul peak",
        "scoring, words and characters",
    ]
    for row in rows:
        assert list(row)[:6] == ["name", "ours", "peer", "ratio", "unit", "peer_name"]
        assert row["ours"] > 0 and row["peer"] > 0
        assert row["name"] in result.stdout
        if "transformers" in row["name"]:
            assert 0 < row["fraction_of_peak"] < 1 and row["ours_memory_mb"] > 0


def test_the_planning_benchmark_plans_every_job(monkeypatch):
    """By hand: of each of two corpora a table, manifests, three features and a subset for each budget and seed; a model
    to download; twelve runs with scores, their two language models, and the summary and the report."""
    monkeypatch.syspath_prepend(FOLDER)
    import planning

    dry_run, plan = planning.measure(starts=2, languages=2, budgets=1, seeds=3, quiet=True)
    assert plan["jobs"] == 2 * (1 + 1 + 3 + 3) + 1 + 12 + 12 + 2 + 2
    assert dry_run["jobs"] == plan["jobs"] + 1  # the rule `all`
    assert dry_run["processor_s"] > 0 and dry_run["peak_mb"] > 0
