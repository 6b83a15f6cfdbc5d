"""A real Slurm of two nodes: a training job spans both, and runs the study that was planned."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from local_slurm import ONE_RUN, Slurm, jobs, local_slurm, output_of, profile, snakemake, started, succeeded, until
from safetensors.torch import load_file

from headstart.files import read_json

STUDY = {
    **ONE_RUN,
    "nodes": 2,
    # Without dropout, whose random numbers depend on the process, and with the precision of all machines.
    "finetune": {"updates": 6, "batch_seconds": 8, "log_every": 1, "dropout": 0.0, "precision": "float32"},
}
RUN = "results/tiny/runs/scratch/en/20s/seed1"


@pytest.fixture
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


def told(folder: Path, *arguments: str) -> str:
    run = subprocess.run(snakemake(folder, *arguments), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_a_training_job_spans_nodes_and_a_study_that_is_edited_meanwhile_runs_as_planned(slurm, tmp_path):
    folder, alone = tmp_path / "cluster", tmp_path / "alone"
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    told(folder, "--cores", "2", "data/subsets/en/20s/seed1.parquet", "data/features/en/dev.parquet")
    shutil.copytree(folder, alone)

    output_of("scontrol", "update", "PartitionName=test", "State=DOWN")  # jobs are queued and do not start
    with started(folder, *profile(tmp_path, {"gpu: 1": "gpu: 2"}), "--retries", "0", f"{RUN}/recipe.json") as main:
        until(lambda: output_of("squeue", "-h", "-o", "%i"), "a job in the queue", log=folder / "snakemake.log")
        edited = {**STUDY, "finetune": {**STUDY["finetune"], "updates": 9}}
        (folder / "study.yaml").write_text(yaml.safe_dump(edited))
        output_of("scontrol", "update", "PartitionName=test", "State=UP")
        succeeded(main, folder)
    (job,) = jobs()
    assert (job["NodeList"], job["NumNodes"], job["MinMemoryNode"]) == ("node[1-2]", "2", "16000M")
    assert job["TresPerJob"] == "gres:gpu:2" and job["TimeLimit"] == "08:00:00"
    recipe = read_json(folder / RUN / "recipe.json")
    assert recipe["machine"]["processes"] == 2

    # What Snakemake has recorded is what has run: it runs again with the edited study, and only with that.
    assert recipe["settings"]["updates"] == 6
    planned = told(folder, "--dry-run", f"{RUN}/recipe.json")
    assert "rule finetune_run:" in planned and "Params have changed" in planned
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert "Nothing to be done" in told(folder, "--dry-run", f"{RUN}/recipe.json")

    # One process gives the same result, and needs no other settings than the number of nodes.
    (alone / "study.yaml").write_text(yaml.safe_dump({**STUDY, "nodes": 1}))
    told(alone, "--cores", "1", f"{RUN}/recipe.json")
    assert read_json(alone / RUN / "recipe.json")["machine"]["processes"] == 1
    ours, theirs = (load_file(path / RUN / "model.safetensors") for path in (folder, alone))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=2e-5, msg=name)


def test_nodes_without_slurm_are_named(tmp_path, monkeypatch):
    from headstart.errors import TrainingError
    from headstart.training.nodes import Nodes

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(TrainingError, match="the study has nodes: 2, but this is not a job of Slurm; start Snakemake"):
        Nodes.of_this_job(2)
