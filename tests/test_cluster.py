"""Studies on a real Slurm of two nodes, where jobs are interrupted in every way that a cluster has."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch
import yaml
from dry_runs import CORPUS, write_corpus
from local_slurm import (
    NODES,
    ONE_RUN,
    ROOT,
    Slurm,
    jobs,
    local_slurm,
    output_of,
    profile,
    shown,
    snakemake,
    started,
    succeeded,
    until,
)
from miniature import recording, write
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

STUDY = {
    **ONE_RUN,
    # The state is saved after every update, so that a test can interrupt the job as soon as there is one.
    "finetune": {"updates": 600, "batch_seconds": 8, "log_every": 300, "save_minutes": 1e-9, "precision": "float32"},
}
LONG = {**STUDY, "finetune": {**STUDY["finetune"], "updates": 8000, "log_every": 4000, "save_minutes": 10.0}}
RUN = "results/tiny/runs/scratch/en/20s/seed1"
LOG = "logs/finetune_run/tiny/scratch/en/20s/seed1.log"
RECIPE = f"{RUN}/recipe.json"
QUEUE = shlex.split(re.search(r"`(squeue .*?)`", (ROOT / "docs/cluster.md").read_text())[1])  # as on the page


@pytest.fixture
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


def prepare(folder: Path, study: dict) -> Path:
    """Fill a folder with a study, its data, and the run as one process makes it without an interruption."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    subprocess.run(snakemake(folder, "--cores", "2", RECIPE), check=True, capture_output=True, timeout=1800)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared"), STUDY)


def unrun(prepared: Path, folder: Path) -> Path:
    """A copy of a prepared folder without the run."""
    return Path(shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("results", "logs")))


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    return unrun(prepared, tmp_path / "study")


def the_same(folder: Path, prepared: Path) -> None:
    ours, theirs = (load_file(path / RUN / "model.safetensors") for path in (folder, prepared))
    assert ours.keys() == theirs.keys() and [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def training(folder: Path, attempt: int = 1) -> str:
    """Wait until the run's job trains, at its first attempt or a later one; its number."""
    log = folder / "snakemake.log"
    until(lambda: len(jobs()) >= attempt and jobs()[-1]["JobState"] == "RUNNING", "a running job", 600, log)
    saved = folder / "results/tiny/.state/runs/scratch/en/20s/seed1/state.safetensors"
    until(saved.exists, "a saved state", 600, log)
    if attempt > 1:
        # Snakemake deletes the log before each try.
        until(
            lambda: (folder / LOG).exists() and "resumed at update" in (folder / LOG).read_text(), "a resumed job", 600
        )
    return jobs()[-1]["JobId"]


def test_a_training_job_that_reaches_its_time_limit_goes_on_to_the_same_weights(slurm, tmp_path):
    (tmp_path / "prepared").mkdir()
    prepared = prepare(tmp_path / "prepared", LONG)
    folder = unrun(prepared, tmp_path / "study")
    limit = profile(tmp_path, {"    mem_mb: 16000\n    runtime: 480": "    mem_mb: 16000\n    runtime: 1"})
    with started(folder, *limit, "--retries", "20", RECIPE) as main:
        succeeded(main, folder, 1500)
    submitted = jobs()
    assert len(submitted) > 1, "one job was enough: give the study more updates"
    # They leave before Slurm would end them, which is TIMEOUT.
    assert [job["JobState"] for job in submitted] == ["FAILED"] * (len(submitted) - 1) + ["COMPLETED"]
    assert "resumed at update" in (folder / LOG).read_text()
    the_same(folder, prepared)


def test_a_job_that_is_cancelled_and_one_whose_node_fails_are_tried_again(slurm, folder, prepared, tmp_path):
    with started(folder, *profile(tmp_path), RECIPE) as main:
        first = training(folder)
        assert re.match(rf"{first} RUNNING .* node[12] rule_finetune_run", output_of(*QUEUE, "-h"))
        output_of("scancel", first)
        until(lambda: shown(first, "JobState") == "CANCELLED", "the end of the cancelled job")
        second = training(folder, attempt=2)
        slurm.fail(shown(second, "NodeList"))
        # Slurm notices it after a while, and puts the job into the queue again by itself.
        until(lambda: shown(second, "Restarts") == "1", "the job again", 180)
        succeeded(main, folder, 1500)
    assert "resumed at update" in (folder / LOG).read_text()
    the_same(folder, prepared)


def test_a_job_that_no_try_can_mend_is_tried_once(slurm, tmp_path):
    """A budget of more audio than there is; the variable that tells calls of Snakemake apart reaches the nodes."""
    folder = tmp_path / "study"
    folder.mkdir()
    write_corpus(folder / "mine", 1)
    targets = {"mine": {"corpus": "mine", "kind": "in-domain"}}
    study = {**STUDY, "corpora": {"mine": {**CORPUS, "path": "mine"}}, "targets": targets, "budgets": ["1h", "1s"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    features, subset = "data/features/mine/train.parquet", "data/subsets/mine/1h/seed1.parquet"
    subprocess.run(snakemake(folder, "--cores", "2", features), check=True, capture_output=True, timeout=600)
    with started(folder, *profile(tmp_path), subset) as main:
        until(lambda: main.poll() is not None, "the end of Snakemake", 900, folder / "snakemake.log")
    assert main.returncode != 0
    log = folder / "logs/draw_subset/mine/1h/seed1.log"
    assert "of audio asked for" in log.read_text() and "a further try would end like this one" in log.read_text()
    begun = [datetime.fromisoformat(job["StartTime"]).timestamp() for job in jobs()]
    final = log.with_name("seed1.log.final")  # written by the job that has failed for good
    assert len(begun) == 4 and begun[0] < final.stat().st_mtime < begun[1]


def test_a_job_on_two_nodes_that_is_cancelled_saves_its_state_and_goes_on(slurm, folder, tmp_path):
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "nodes": 2}))
    with started(folder, *profile(tmp_path, {"gpu: 1": "gpu: 2"}), RECIPE) as main:
        first = training(folder)
        output_of("scancel", first)
        asked = "asked to end (SIGTERM); the state after update"
        until(lambda: asked in (folder / LOG).read_text(), "the job's last words", 60, folder / LOG)
        second = training(folder, attempt=2)
        succeeded(main, folder, 1500)
    assert [shown(job, "NodeList") for job in (first, second)] == ["node[1-2]"] * 2
    assert "600 updates on" in (folder / LOG).read_text() and "'processes': 2" in (folder / LOG).read_text()


def test_two_studies_share_a_cluster_and_one_that_is_stopped_leaves_the_other_alone(slurm, folder, prepared, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    options = profile(tmp_path)
    with started(folder, *options, RECIPE) as main, started(other, *options, RECIPE) as stopped:
        until(lambda: [job["JobState"] for job in jobs()] == ["RUNNING"] * 2, "two running jobs", 180)
        of_other = next(job["JobId"] for job in jobs() if job["WorkDir"] == str(other))
        until((other / LOG).exists, "the job's log", 180)
        stopped.send_signal(signal.SIGINT)
        until(lambda: shown(of_other, "JobState") == "CANCELLED", "the end of the other's job", 120)
        until(lambda: stopped.poll() is not None, "the end of the other", 120)
        succeeded(main, folder, 1500)
    assert {job["JobId"]: job["JobState"] for job in jobs()} == {
        of_other: "CANCELLED", next(job["JobId"] for job in jobs() if job["JobId"] != of_other): "COMPLETED"
    }  # fmt: skip
    the_same(folder, prepared)
    assert not (other / RECIPE).exists()
    with started(other, *options, RECIPE) as main:
        succeeded(main, other, 1500)
    the_same(other, prepared)


def test_shards_of_a_corpus_are_jobs_on_different_nodes(slurm, tmp_path):
    folder = tmp_path / "study"
    lines = ["id\tpath\ttext\tsplit"]
    for number in range(8):
        recording(folder / f"recorded/{number}.wav", 0.5 + 0.1 * number)
        lines.append(f"{number}\t{number}.wav\tari {number}\t{('train', 'dev', 'test')[max(0, number - 5)]}")
    write(folder / "recorded/metadata.tsv", *lines)
    corpus = {"reader": "folder", "path": str(folder / "recorded"), "language": "qu", "shards": 2}
    corpus["columns"] = {"split": "split"}
    targets = {"qu": {"corpus": "qu", "kind": "in-domain"}}
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "corpora": {"qu": corpus}, "targets": targets}))
    joined = "data/features/qu/train.parquet"
    with started(folder, *profile(tmp_path), joined) as main:
        succeeded(main, folder)
    shards = [job for job in jobs() if job["Comment"].startswith("rule_extract_shard")]
    assert sorted(job["NodeList"] for job in shards) == list(NODES)
    assert {job["MinMemoryNode"] for job in shards} == {"8000M"} and (folder / joined).exists()


def test_like_jobs_are_submitted_together(slurm, folder, tmp_path):
    """Draws as one job, and where the profile says so, runs as job arrays."""
    several = {**STUDY, "seeds": [1, 2], "finetune": {**STUDY["finetune"], "updates": 3}}
    (folder / "study.yaml").write_text(yaml.safe_dump(several))
    shutil.rmtree(folder / "data/subsets")
    arrays = {"# slurm-array-jobs": "slurm-array-jobs", "jobs: 100": "jobs: 10000"}
    recipes = [f"results/tiny/runs/scratch/en/20s/seed{seed}/recipe.json" for seed in (1, 2)]
    with started(folder, *profile(tmp_path, arrays), *recipes) as main:
        succeeded(main, folder, 900)
    draws, *runs = jobs()
    assert draws["Comment"].startswith("group_draws") or draws["Comment"].startswith("rule_draw"), draws["Comment"]
    assert draws["MinMemoryNode"] == "4000M"  # two at a time
    assert sorted(job["ArrayTaskId"] for job in runs) == ["1", "2"] and len({job["ArrayJobId"] for job in runs}) == 1
    assert all((folder / recipe).exists() for recipe in recipes)


def test_a_cluster_without_gpus_and_a_job_that_cannot_be_submitted(tmp_path, tmp_path_factory, folder, prepared):
    with local_slurm(tmp_path_factory.mktemp("slurm"), gpus=0):
        with started(folder, *profile(tmp_path), "--retries", "0", RECIPE) as main:
            until(lambda: main.poll() is not None, "the end of Snakemake", 120)
        assert main.returncode != 0 and "SLURM sbatch failed" in (folder / "snakemake.log").read_text()
        with started(folder, *profile(tmp_path, {"gpu: 1": "gpu: 0"}), RECIPE) as main:
            succeeded(main, folder, 1500)
    the_same(folder, prepared)
