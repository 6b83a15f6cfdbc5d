"""Whole studies on a real Slurm of two nodes, one of them as docs/cluster.md tells a newcomer."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from local_slurm import NODES, ROOT, Slurm, jobs, local_slurm, profile, started, succeeded

pytestmark = pytest.mark.slow


@pytest.fixture
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


PAGE = (ROOT / "docs/cluster.md").read_text()
# What `make .venv/built` makes, without packages of its own: those of the environment that these tests run in.
ENVIRONMENT = """
{python} -m venv --without-pip .venv
echo {packages} > "$(echo .venv/lib/python*/site-packages)/headstart.pth"
echo "$PWD/src" >> "$(echo .venv/lib/python*/site-packages)/headstart.pth"
for command in headstart snakemake; do
    (echo "#!$PWD/.venv/bin/python"; tail -n +2 {bin}/$command) > .venv/bin/$command
    chmod +x .venv/bin/$command
done
echo "$PWD" > .venv/built
"""
EDITOR = """#!/bin/sh
sed -i 's/^  # slurm_partition: my_partition/  slurm_partition: test/' "$1"
echo 'slurm-init-seconds-before-status-checks: 5' >> "$1"
"""


def test_the_page_takes_a_newcomer_from_a_clone_to_a_report(slurm, tmp_path):
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("these tests are not in a clone")
    first = PAGE[: PAGE.index("## While it runs")]
    commands = "".join(re.findall(r"```sh\n(.*?)```", first, re.DOTALL))
    python = Path(sys.executable)
    made = ENVIRONMENT.format(python=python, packages=Path(yaml.__file__).parent.parent, bin=python.parent)
    assert "\ncd headstart\n" in commands
    commands = commands.replace("\ncd headstart\n", f"\ncd headstart\n{made}\n")
    (tmp_path / "editor").write_text(EDITOR)
    (tmp_path / "editor").chmod(0o755)
    # The address on the page leads to this repository.
    address = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf"}
    address["GIT_CONFIG_VALUE_0"] = re.search(r"git clone (\S+)", commands)[1]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = inherited | address | {"EDITOR": str(tmp_path / "editor")}
    with (tmp_path / "output").open("w") as output:
        run = subprocess.run(
            ["bash", "-e", "-c", commands], cwd=tmp_path, env=environment, stdout=output, stderr=output, timeout=3000
        )
    told = (tmp_path / "output").read_text()
    assert run.returncode == 0, told
    assert "ready\n" in told and told.rstrip().endswith("results/tiny/report.html")
    requested(tmp_path / "headstart/profiles/mine/profile.yaml")
    # Logs are where the page says; those of Slurm only where something failed.
    assert (tmp_path / "headstart/logs/finetune_run/tiny/own/en/1min/seed1.log").is_file()
    assert not list((tmp_path / "headstart/logs/slurm").rglob("*.log"))


def test_the_smoke_study_completes(slurm, tmp_path):
    (tmp_path / "study.yaml").write_text((ROOT / "config/studies/smoke.yaml").read_text())
    options = profile(tmp_path)
    with started(tmp_path, *options) as main:
        succeeded(main, tmp_path, 7200)
    assert (tmp_path / "results/smoke/report.html").is_file()
    requested(tmp_path / "profile/profile.yaml")


def requested(profile: Path) -> None:
    """What Slurm was asked for is what the profile says, of every rule; and both nodes were used."""
    finished = [job for job in jobs() if job.get("Comment", "").startswith("rule_")]
    resources = yaml.safe_load(profile.read_text())["set-resources"]
    assert {job["NodeList"] for job in finished} == set(NODES) and {job["JobState"] for job in finished} == {
        "COMPLETED"
    }
    rules = set()
    for job in finished:
        (rule,) = [rule for rule in resources if re.match(rf"rule_{rule}(_wildcards|$)", job["Comment"])] or ["draws"]
        rules.add(rule)
        if rule == "draws":  # draw_subset, of which two run at a time
            continue
        wanted = resources[rule]
        assert job["MinMemoryNode"] == f"{str(wanted['mem_mb']).removesuffix(' * attempt')}M", rule
        days, clock = divmod(wanted["runtime"], 1440)
        limit = f"{clock // 60:02d}:{clock % 60:02d}:00"
        assert job["TimeLimit"] == (f"{days}-{limit}" if days else limit), rule
        assert job.get("TresPerJob") == (f"gres:gpu:{wanted['gpu']}" if "gpu" in wanted else None), rule
    assert {"synthesise_corpus", "extract_features", "pretrain_start", "finetune_run", "score_run"} <= rules
