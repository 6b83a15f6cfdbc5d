"""Faults of a study as a whole: interrupted, killed, twice at once, on a read-only disk, with data that change.

Everything here takes minutes. What a single job does is in test_launch.py; random kills are in test_random_kills.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_disk import remount, small_disk

from headstart.files import read_json

ROOT = Path(__file__).parent.parent
RUN = "results/tiny/runs/scratch/en/30s/seed1"
MODEL, LOG = f"{RUN}/model.safetensors", "logs/finetune_run/tiny/scratch/en/30s/seed1.log"
SCORES = "results/tiny/scores/scratch/en/30s/seed1.parquet"
STUDY = {
    "study": "tiny",
    "corpora": {
        "en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.012, "dev": 0.003, "test": 0.003}}
    },
    "starts": {"scratch": {"kind": "scratch"}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["30s"],
    "seeds": [1],
    "model": {"hidden_size": 64, "layers": 2, "heads": 2, "intermediate_size": 128, "conv_dim": [64, 64]},
    "finetune": {"updates": 200, "batch_seconds": 16, "log_every": 100, "save_minutes": 0.002, "dev_minutes": 0.05},
}

pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str) -> list[str]:
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*snakemake, "--configfile", str(folder / "study.yaml"), "--cores", "2", *arguments]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a run of Snakemake."""
    run = subprocess.run(command(folder, *arguments), capture_output=True, text=True, env=environment(), timeout=3600)
    return run.returncode, run.stdout + run.stderr


def begun(folder: Path, *arguments: str) -> subprocess.Popen:
    """A run of Snakemake in a process group of its own, as a shell starts it in the foreground."""
    with (folder / "output").open("w") as output:
        return subprocess.Popen(
            command(folder, *arguments),
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a script
        )


def until(condition: Callable[[], object], process: subprocess.Popen, folder: Path) -> None:
    while not condition():
        assert process.poll() is None, (folder / "output").read_text()
        time.sleep(0.01)


def trains(folder: Path) -> bool:
    """Whether the run has a saved state."""
    return (folder / "results/tiny/.state/runs/scratch/en/30s/seed1/state.safetensors").exists()


def new(folder: Path) -> Path:
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder in which everything before training has been made."""
    folder = new(tmp_path_factory.mktemp("faults") / "data")
    status, output = snakemake(folder, "--", *(f"data/features/en/{split}.arrow" for split in ("train", "dev", "test")))
    assert status == 0, output
    return folder


@pytest.fixture(scope="module")
def quiet(data) -> Path:
    """A copy of it in which the run was trained without a fault."""
    folder = data.with_name("quiet")
    shutil.copytree(data, folder)
    status, output = snakemake(folder, "--", MODEL)
    assert status == 0, output
    return folder


@pytest.fixture
def folder(data, tmp_path) -> Path:
    """A copy of it for a test."""
    shutil.copytree(data, tmp_path / "study")
    return tmp_path / "study"


def same_weights(one: Path, other: Path) -> None:
    a, b = load_file(one / MODEL), load_file(other / MODEL)
    assert a.keys() == b.keys() and [name for name in a if not torch.equal(a[name], b[name])] == []


def test_ctrl_c_at_the_terminal_saves_the_state_and_snakemake_waits_for_it(folder, quiet):
    process = begun(folder, "--", MODEL)
    until(lambda: trains(folder), process, folder)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    log = (folder / LOG).read_text()
    assert "this job was asked to end (Ctrl-C); the state after update" in log and "Traceback" not in log
    status, output = snakemake(folder, "--", MODEL)  # there is no lock to remove
    assert status == 0 and "resumed at update" in (folder / LOG).read_text(), output
    same_weights(folder, quiet)


def test_snakemake_is_killed_and_the_job_that_it_leaves_is_waited_for(folder, quiet):
    process = begun(folder, "--", MODEL)
    until(lambda: trains(folder), process, folder)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    status, output = snakemake(folder, "--", MODEL)
    assert status != 0 and "Directory cannot be locked" in output and "--unlock" in output
    assert snakemake(folder, "--unlock")[0] == 0
    status, output = snakemake(folder, "--", MODEL)
    assert status == 0, output
    assert not psutil.wait_procs(below, timeout=0)[1]  # none runs any more
    same_weights(folder, quiet)


def test_two_snakemakes_at_once_are_refused_and_the_first_goes_on(folder, quiet):
    process = begun(folder, "--", MODEL)
    until(lambda: trains(folder), process, folder)
    jobs = psutil.Process(process.pid).children(recursive=True)
    for job in jobs:
        job.suspend()  # so that the first is not done before the second has begun
    status, output = snakemake(folder, "--", MODEL)
    for job in jobs:
        job.resume()
    assert status != 0 and "Directory cannot be locked" in output and "Traceback" not in output
    assert process.wait(300) == 0
    same_weights(folder, quiet)


def test_results_on_a_read_only_disk_are_named_and_nothing_is_lost(folder, quiet):
    shutil.rmtree(folder / "results")
    with small_disk(folder / "results", kilobytes=20_000) as disk:
        process = begun(folder, "--", MODEL)
        until(lambda: trains(folder), process, folder)
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in below:
            child.kill()
        process.wait()
        psutil.wait_procs(below, timeout=60)
        remount(disk, "ro")
        snakemake(folder, "--unlock")
        status, output = snakemake(folder, "--", MODEL)
        assert status != 0 and "Read-only file system" in output or "the disk is read-only" in output, output
        remount(disk, "rw")
        status, output = snakemake(folder, "--", MODEL)
        assert status == 0 and "resumed at update" in (folder / LOG).read_text(), output
        same_weights(folder, quiet)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "config.json", "recipe.json"])
def test_a_damaged_checkpoint_is_named_with_the_rule_that_makes_it_and_made_again(name, quiet, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(quiet, folder)
    path = folder / RUN / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content.replace(b"1", b"2", 1) if name.endswith("json") else content[:-1] + b"\x77")
    assert snakemake(folder, "--touch", "--", MODEL)[0] == 0  # the disk did it, at no time that anybody knows
    status, output = snakemake(folder, "--", SCORES)
    assert status != 0
    log = (folder / "logs/score_run/tiny/scratch/en/30s/seed1.log").read_text()
    assert f"{RUN}/{name}: the file is damaged" in log and "whose rule finetune_run makes it anew" in log
    assert "Traceback" not in log
    path.unlink()  # as the message says
    status, output = snakemake(folder, "--", SCORES)
    assert status == 0 and path.read_bytes() == content, output


def test_a_table_that_changes_while_the_study_runs_is_read_again(folder):
    """The results are of what was read at first; the next run reads the corpus anew."""
    process = begun(folder, "--", MODEL)
    until(lambda: trains(folder), process, folder)
    table = folder / "data/raw/en/metadata.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    assert process.wait(300) == 0
    status, output = snakemake(folder, "--dry-run", "--", MODEL)
    assert status == 0 and "read_corpus" in output and "finetune_run" in output


BOMBS = {
    "lists": ['a0: &a0 ["x"]', *(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 12))],
    "maps": ["a0: &a0 {x: y}"]
    + [f"a{i}: &a{i} {{" + ", ".join(f"k{k}: *a{i - 1}" for k in range(10)) + "}" for i in range(1, 12)],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_study_of_aliases_of_aliases_is_refused_at_once(kind, tmp_path):
    """By `headstart check`, and by Snakemake where our code comes first: it makes copies of maps before that."""
    (tmp_path / "study.yaml").write_text("\n".join(BOMBS[kind]))
    began = time.monotonic()
    check = [sys.executable, "-m", "headstart.cli", "check", str(tmp_path / "study.yaml")]
    run = subprocess.run(check, capture_output=True, text=True, env=environment(), timeout=60)
    assert run.returncode == 2 and "its aliases stand for more than 100,000 values" in run.stderr
    if kind == "lists":
        status, output = snakemake(tmp_path, "--dry-run")
        assert status != 0 and "its aliases stand for more than 100,000 values" in output, output[-3000:]
    assert time.monotonic() - began < 60


def test_recipe_of_a_run_in_one_piece_has_no_moves(quiet):
    assert "moved" not in read_json(quiet / RUN / "recipe.json")
