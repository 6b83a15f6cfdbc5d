"""The plan: its jobs are Snakemake's, its schedule is right, and its times and sizes are measured."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headstart.cli import main
from headstart.errors import HeadstartError
from headstart.plan.graph import Graph, Node, schedule
from headstart.plan.measure import _run, extent, multiplications
from headstart.plan.plan import in_words, plan, span
from headstart.study.reading import load_study, parse_study
from headstart.workflow import Workflow

HOURS = {"train": 0.03, "dev": 0.01, "test": 0.01}
TINY = {
    "study": "planned",
    "corpora": {"small": {"reader": "synthetic", "language": "en", "hours": HOURS}},
    "starts": {"scratch": {"kind": "scratch"}, "other": {"kind": "scratch", "seed_offset": 1}},
    "targets": {"en": {"corpus": "small", "kind": "in-domain"}},
    "budgets": ["1min"],
    "seeds": [1, 2],
    "claims": [{"claim": "Chance alone.", "treatment": "other", "baseline": "scratch", "expect": "equal"}],
    "model": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 32, "conv_dim": [32, 32]},
    "finetune": {"updates": 100, "batch_seconds": 10},
}


def counts(study) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in Graph(Workflow(study)).nodes.values():
        found[node.stage] = found.get(node.stage, 0) + 1
    return found


def test_the_jobs_of_the_smoke_study_are_those_that_snakemake_runs():
    """By hand from config/studies/smoke.yaml: two starts are trained for each of two seeds."""
    assert counts(load_study(Path("config/studies/smoke.yaml"))) == {
        "synthesis": 2,
        "corpora": 2,
        "features": 5,  # train and dev of one corpus, three splits of the other
        "label budgets": 2,
        "clusters": 1,
        "language models": 1,
        "pre-training": 4,
        "refinement": 4,
        "fine-tuning": 14,
        "scoring": 14,
        "analysis": 6,
        "probes": 7,
        "report": 2,
    }


def test_a_start_waits_for_its_parent_and_a_run_for_its_own_instance():
    nodes = Graph(Workflow(load_study(Path("config/studies/smoke.yaml")))).nodes
    assert "start mono" in nodes["start mono+S"].needs
    assert "start best-rq/seed2" in nodes["start best-rq+S/seed2"].needs
    assert "start best-rq+S/seed2" in nodes["run best-rq+S en-es 1min 2"].needs
    assert "start best-rq+S/seed1" not in nodes["run best-rq+S en-es 1min 2"].needs


def graph_of(**seconds: tuple[float, list[str]]) -> tuple[dict[str, Node], dict[str, float]]:
    nodes = {name: Node(name, "", needs, False) for name, (_, needs) in seconds.items()}
    return nodes, {name: time for name, (time, _) in seconds.items()}


def test_a_schedule_by_hand():
    nodes, seconds = graph_of(a=(3, []), b=(2, []), c=(2, []), d=(4, ["a"]), e=(1, ["b", "c"]))
    time = lambda cores: schedule(nodes, lambda node: seconds[node.name], cores)  # noqa: E731
    # One core: all in a row. Two: a and b, then c beside a and d; d ends at 7, after e. Many: the longest chain, a, d.
    assert (time(1), time(2), time(8)) == (12, 7, 7)
    nodes["a"].done = True
    assert time(8) == 4
    nodes["d"].threads = 2
    assert time(2) == 4 + 2 + 1  # d takes both cores, then b and c run side by side, then e


def test_jobs_marked_first_start_first():
    nodes, seconds = graph_of(long=(5, []), start=(2, []), run=(5, ["start"]))
    nodes["start"].first = True
    assert schedule(nodes, lambda node: seconds[node.name], 1) == 12
    assert schedule(nodes, lambda node: seconds[node.name], 2) == 7


def test_a_schedule_of_many_jobs_agrees_with_a_plain_simulation():
    """The reference looks at every job again at every step, which takes too long for the thousands of a large study."""
    rng = np.random.default_rng(0)
    for cores in (1, 3, 4):
        names = [f"job{number}" for number in range(40)]
        nodes = {
            name: Node(
                name,
                "",
                [need for need in names[:number] if rng.random() < 0.05],
                bool(rng.random() < 0.1),
                threads=int(rng.integers(1, 6)),
                first=bool(rng.random() < 0.2),
            )
            for number, name in enumerate(names)
        }
        seconds = {name: float(rng.uniform(1, 9)) for name in names}

        now, free, ends = 0.0, cores, {}
        done, to_start = {name for name in names if nodes[name].done}, [name for name in names if not nodes[name].done]
        while to_start or ends:
            for name in sorted(to_start, key=lambda name: (not nodes[name].first, -seconds[name], name)):
                threads = min(nodes[name].threads, cores)
                if threads <= free and done.issuperset(nodes[name].needs):
                    to_start.remove(name)
                    free, ends[name] = free - threads, now + seconds[name]
            name = min(ends, key=ends.__getitem__)
            now = ends.pop(name)
            done.add(name)
            free += min(nodes[name].threads, cores)
        assert schedule(nodes, lambda node, seconds=seconds: seconds[node.name], cores) == pytest.approx(now)


def test_models_of_a_hub_that_are_not_there_are_downloads_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {"kind": "hub", "model": "owner/encoder"}
    study = parse_study({**TINY, "starts": {"scratch": {"kind": "scratch"}, "other": model, "again": model}})
    (row,) = [row for row in plan(study, 2, calibrate=False)["stages"] if row["stage"] == "downloads"]
    assert (row["jobs"], row["to_do"]) == (1, 1)
    graph = Graph(Workflow(study))
    (download,) = [name for name, node in graph.nodes.items() if node.stage == "downloads"]
    assert download in graph.nodes["run other en 1min 1"].needs
    assert download not in graph.nodes["run scratch en 1min 1"].needs


def test_results_that_exist_are_not_planned_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = parse_study(TINY)
    scores = Path("results/planned/scores/scratch/en/1min/seed1.parquet")
    scores.parent.mkdir(parents=True)
    scores.touch()
    (row,) = [row for row in plan(study, 2, calibrate=False)["stages"] if row["stage"] == "scoring"]
    assert (row["jobs"], row["to_do"], row["seconds"]) == (4, 3, None)


def bytes_of_tiny(folder: Path) -> float:
    """What the tiny study writes: its corpus, made in full, and the weights of four fine-tuned models in float32."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    from headstart.corpora.reading import read_corpus
    from headstart.corpora.registry import open_reader
    from headstart.corpora.synthetic.synthesis import synthesise_corpus
    from headstart.features.extraction import extract_features

    study, splits = parse_study(TINY), ("train", "dev", "test")
    corpus, raw = study.corpora["small"], folder / "raw"
    synthesise_corpus(str(raw), **corpus.synthesis)
    manifests = {split: (f"{folder}/{split}.manifest", f"{folder}/{split}.rejects") for split in splits}
    read_corpus(open_reader(corpus, str(raw)), manifests)
    for split in splits:
        extract_features(manifests[split][0], f"{folder}/{split}.arrow", f"{folder}/{split}", f"{folder}/{split}.no")
    written = [path for path in raw.rglob("*") if path.is_file()] + list(folder.glob("*.arrow"))
    model = study.model
    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.intermediate_size,
        conv_dim=model.conv_dim,
        conv_kernel=model.conv_kernel,
        conv_stride=model.conv_stride,
        num_conv_pos_embeddings=model.position_kernel,
        num_conv_pos_embedding_groups=model.position_groups,
    )
    weights = sum(weight.numel() for weight in Wav2Vec2ForCTC(config).parameters())
    return sum(path.stat().st_size for path in written) + 4 * 4 * weights


def test_large_encoders_are_measured_with_less_audio(tmp_path):
    """The multiplications are counted by hand: 100 frames of 8 · 160 · 1, 50 of 16 · 2 · 8, and 3 layers' products."""
    model = {"conv_dim": [8, 16], "conv_kernel": [160, 2], "conv_stride": [160, 2], "hidden_size": 16}
    model |= {"intermediate_size": 20, "layers": 3}
    by_hand = 100 * 8 * 160 + 50 * 16 * 2 * 8 + 50 * 3 * (4 * 16 * 16 + 2 * 16 * 20)
    assert multiplications({"root": None, "model": model}) == by_hand
    (tmp_path / "config.json").write_text(json.dumps({**model, "num_hidden_layers": 3}), encoding="utf-8")
    assert multiplications({"root": str(tmp_path), "model": {}}) == by_hand

    default = multiplications({"root": None, "model": parse_study({**TINY, "model": {}}).model.model_dump()})
    assert extent(default, 24) == (40, 24)
    assert extent(default, 5760) == (40, 60)
    assert extent(100 * default, 24) == (6, 20)
    assert extent(100 * default, 5) == (6, 5)
    updates, seconds = extent(10 * default, 24)
    assert 6 < updates < 40 and updates % 2 == 0 and seconds == 20


def test_a_failed_measurement_stops_the_others(tmp_path):
    """The first fails at once, because its task is unknown; the second would wait for a pipe that nobody opens."""
    os.mkfifo(tmp_path / "never")
    tasks = [{"folder": str(tmp_path / "a"), "task": "none"}, {"folder": str(tmp_path / "b"), "task": "data"}]
    began, processes = time.monotonic(), []

    class Process(subprocess.Popen):
        def __init__(self, command, **options):
            if processes:
                command = [sys.executable, "-c", f"open({str(tmp_path / 'never')!r})"]
            super().__init__(command, **options)
            processes.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.plan.measure.subprocess.Popen", Process)
        with pytest.raises(HeadstartError, match="could not be measured: .*With --no-calibrate"):
            _run(tasks)
    assert time.monotonic() - began < 60
    assert [process.poll() is not None for process in processes] == [True, True]


def test_a_measured_plan_of_a_tiny_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({**TINY, "probe": {"updates": 20}}), encoding="utf-8")
    assert main(["plan", str(file), "--cores", "1", "--json", "plan.json"]) == 0
    text = capsys.readouterr()
    made = json.loads(Path("plan.json").read_text())
    seconds = {row["stage"]: row["seconds"] for row in made["stages"]}
    assert all(value > 0 for value in seconds.values())
    # On one core, the study takes as long as all jobs together.
    assert made["seconds"] == pytest.approx(sum(seconds.values()))
    assert made["disk_bytes"] == pytest.approx(bytes_of_tiny(tmp_path / "tiny"), rel=0.1)
    assert 2e8 < made["memory_bytes"] == made["job_memory_bytes"] < 4e9
    assert re.search(r"fine-tuning +4 +4 ", text.out) and re.search(r"probes +2 +2 ", text.out)
    assert "The study takes about" in text.out
    assert "Chance alone." in text.out and "measuring finetune" in text.err


def test_wrong_options_are_named(tmp_path, capsys):
    assert main(["plan", "config/studies/smoke.yaml", "--cores", "many"]) == 2
    assert "--cores is a number of cores or all, not 'many'" in capsys.readouterr().err
    missing = tmp_path / "none.yaml"
    assert main(["plan", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err


def test_nothing_to_do_says_so():
    stages = [{"stage": "scoring", "jobs": 4, "to_do": 0, "seconds": None}]
    made = {"cores": 1, "stages": stages, "seconds": 0.0, "claims": []}
    assert "Every result exists." in in_words(made, "study.yaml")


def test_times_read_well():
    assert [span(s) for s in (42, 720, 11_100, 273_600)] == ["42 s", "12 min", "3 h 05 min", "3 days 4 h"]
