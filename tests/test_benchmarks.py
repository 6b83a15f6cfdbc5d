"""The benchmarks: both sides compute the same, and the entry point writes its rows. Nothing here is about speed."""

import importlib
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from headstart.training import machine as training_machine

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


def without_bfloat16(a, b, **options):
    """`torch.mm` of a machine without instructions for bfloat16, where a large product would take minutes."""
    if a.dtype == torch.bfloat16:
        assert len(a) <= 256
        time.sleep(0.05)
    return torch.matmul(a, b, **options)


def test_a_type_without_instructions_is_found_out_by_a_small_product(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import matmul

    assert set(matmul.measure(0.2)["peak"]) >= {"float32"}
    monkeypatch.setattr(torch, "mm", without_bfloat16)
    began = time.monotonic()
    assert list(matmul.measure(0.2)["peak"]) == ["float32"]
    assert time.monotonic() - began < 20


def test_rows_that_the_machine_cannot_do_are_left_out(training, monkeypatch, tmp_path):
    """No peer in bfloat16 is measured where the machine does not multiply it."""
    found = {"rate": 2.0, "precision": "float32", "memory_mb": 1.0, "batches": [], "flops_a_second": 3.0}
    asked = []
    monkeypatch.setattr(training, "synthesise", lambda *_: {})
    monkeypatch.setattr(training, "call", lambda *_, **given: asked.append(given.get("precision")) or found)
    rows = list(training.rows("ctc-tiny", 1.0, 1, 1, {"float32": 10.0}, tmp_path))
    assert [row["name"] for row in rows] == ["ctc tiny vs transformers fp32"]
    assert asked == [None, "float32"]


@pytest.fixture
def here(monkeypatch):
    """The benchmarks' modules, with what they measure in processes of their own measured in this one."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(training_machine, "bfloat16_is_fast", lambda: False)

    def call(module: str, function: str, threads: int, **arguments) -> dict:
        given = json.loads(json.dumps(arguments))
        return json.loads(json.dumps(getattr(importlib.import_module(module), function)(**given))) | {"memory_mb": 1.0}

    def module(name: str):
        found = importlib.import_module(name)
        monkeypatch.setattr(found, "call", call)
        return found

    return module


def test_every_stage_and_family_is_measured_on_a_gpu_as_on_a_cpu(here, tmp_path):
    gpu, speech = here("gpu"), importlib.import_module("speech")
    peak = {"float32": 1e14}
    rows = list(gpu.stage_rows("tiny", 0.0, 1, peak, speech.synthesise(tmp_path, 32.0)))
    rows += gpu.family_rows("tiny", 0.0, 1, peak)
    assert not [row for row in rows if row.get("note", "").startswith("failed")], rows
    assert [row["what"] for row in rows if "peer" in row] == [
        "wav2vec2, tiny", "ctc, tiny", *(f"forward, {family}, tiny" for family in gpu.FAMILIES)
    ]  # fmt: skip
    assert all(row["ours"] > 0 for row in rows[:-1]) and "needs a C++ compiler" in rows[-1]["note"]
    assert all(0 < row["of_peak"] < 1 for row in rows if "peer" in row)
    lines = gpu.table(rows).splitlines()
    assert len(lines) == 2 + len(rows) and len({line.count("|") for line in lines}) == 1


def test_a_speedrun_trains_and_interpolates(here, training, tmp_path, monkeypatch):
    speedrun = here("speedrun")
    assert speedrun.seconds_to(0.5, [(10, 0.9), (100, 0.6), (1000, 0.4)]) == pytest.approx(10**2.5)
    assert speedrun.seconds_to(0.5, [(10, 0.4)]) == 10 and speedrun.seconds_to(0.5, [(10, 0.9)]) is None
    monkeypatch.setattr(speedrun, "HOURS", {"en": 0.02, "es": 0.01})
    monkeypatch.setattr(speedrun, "MINUTES", 0.5)
    monkeypatch.setattr(speedrun, "DEV_HOURS", 0.003)
    monkeypatch.setattr(speedrun, "FINETUNE", {"updates": 2, "batch_seconds": 8.0})
    files = speedrun.prepare(str(tmp_path / "data"), str(FOLDER.parent / "config/config.yaml"))
    model, rows = training.SIZES["tiny"].model.model_dump(), []
    for branch, updates in ((speedrun.RANDOM, 0), ("wav2vec2, muon", 2), ("hubert", 2)):
        settings = {**speedrun.BRANCHES.get(branch, {}), "crop_seconds": 2.0, "batch_seconds": 8.0}
        if branch == "hubert":
            settings["hubert"] = {"clusters": 16}
        (place := tmp_path / branch).mkdir()
        found = speedrun.run(files, settings, {"optimiser": "muon"}, model, updates, 1, str(place))
        assert 0 < found["cer"] and (found["seconds"] > 0) == bool(updates) and found["finetune_seconds"] > 0
        rows.append({"branch": branch, "updates": updates, "seed": 1, **found})
    shown = speedrun.summary(rows, "wav2vec2, muon", None)
    assert "| hubert | 2 |" in shown and "- wav2vec2, muon: " in shown and "reached with 1 of 1 seeds" in shown
    assert speedrun.RANDOM in shown and f"- {speedrun.RANDOM}" not in shown


def test_updates_by_muon_are_timed_on_both_sides(here, monkeypatch):
    muon = here("muon")
    monkeypatch.setitem(muon.SHAPES, "small", (32, 96, 2))
    monkeypatch.delitem(muon.SHAPES, "base")
    monkeypatch.setattr(muon, "call", lambda module, function, threads, **given: getattr(muon, function)(**given))
    (row,) = muon.rows(0.01, 1)
    assert row["ours"] > 0 and row["ratio"] == row["peer"] / row["ours"]


@pytest.mark.slow
def test_the_gpu_script_runs_whole_without_a_gpu(tmp_path):
    """Its jobs are processes of their own: two that share a device, and one that is killed."""
    command = [sys.executable, FOLDER / "gpu.py", "--device", "cpu", "--size", "tiny", "--seconds", "0.1"]
    command += ["--threads", "1", "--updates", "40", "--output", tmp_path / "gpu.json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    notes = {row["what"]: row.get("note", "") for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert "losses differ by" in notes["two processes on one device, tiny"]
    assert notes["a kill and a resume, tiny"].startswith("resumed; losses differ by")


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
        "ctc tiny vs transformers fp32",
        "ctc tiny vs transformers bf16",
        "scoring, all metrics",
        "scoring, all metrics",
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
