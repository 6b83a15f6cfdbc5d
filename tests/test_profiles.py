"""Dry runs: every study plans with both profiles, jobs get their resources, and a bad study is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from miniature import recording, write

from headstart.corpora.readers.table import FolderCorpus
from headstart.study.reading import load_study
from headstart.study.starts import HubStart

ROOT = Path(__file__).parent.parent
STUDIES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("config/studies/*.yaml")) + ["config/config.yaml"]
SMOKE = ROOT / "config/studies/smoke.yaml"
TRAINING = {"pretrain_start", "refine_start", "finetune_run"}


def dry_run(study: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "1"]
    command += ["--configfile", str(study), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def planned_resources(study: Path, *arguments: str) -> dict[str, dict[str, str]]:
    """Resources of each rule's jobs, as Snakemake prints them."""
    run = dry_run(study, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    rules = {}
    for job in re.split(r"^ *(?:local)?rule ", run.stdout + run.stderr, flags=re.MULTILINE)[1:]:
        resources = re.search(r"^ +resources: (.*)$", job, flags=re.MULTILINE)[1]
        rules[job.split(":")[0]] = dict(item.split("=", 1) for item in resources.split(", "))
    del rules["all"]
    return rules


def missing_folders(study: Path) -> list[str]:
    """Corpora and checkpoints that the study reads and that are not here."""
    loaded = load_study(study)
    corpora = [corpus.path for corpus in loaded.corpora.values() if isinstance(corpus, FolderCorpus)]
    starts = [start.path for start in loaded.starts.values() if isinstance(start, HubStart)]
    return [path for path in corpora + starts if not (ROOT / path).is_dir()]


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_plans_on_a_workstation(study):
    missing = missing_folders(ROOT / study)
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    rules = planned_resources(ROOT / study)
    assert {"read_corpus", "finetune_run", "score_run", "write_report"} <= set(rules)
    for rule, resources in rules.items():
        assert {"mem_mb", "runtime"} <= set(resources), rule
        # A workstation need not have a GPU: training takes one where there is one, and asks Snakemake for none.
        assert resources.get("gpu") == ("0" if rule in TRAINING else None), rule


def test_a_slurm_job_asks_for_what_the_profile_says(tmp_path):
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    every_stage = {**yaml.safe_load(SMOKE.read_text()), "analyse": {}}
    # Only recorded corpora have shards.
    recording(tmp_path / "recorded/one.wav")
    write(tmp_path / "recorded/metadata.tsv", "id\tpath\ttext\tsplit", "one\tone.wav\tari\ttrain")
    every_stage["corpora"]["recorded"] = {
        "reader": "folder", "path": str(tmp_path / "recorded"), "language": "qu", "shards": 2
    }  # fmt: skip
    start = next(start for start in every_stage["starts"].values() if start["kind"] == "ssl")
    start["corpora"]["recorded"] = 0.01
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(every_stage))
    rules = planned_resources(tmp_path / "study.yaml", "--workflow-profile", "profiles/slurm")
    # A rule that the profile forgets, or names wrongly, would run with the cluster's defaults.
    assert set(rules) == set(profile["set-resources"])
    for rule, wanted in profile["set-resources"].items():
        first = {key: str(value).removesuffix(" * attempt") for key, value in wanted.items()}
        assert {key: rules[rule].get(key) for key in wanted} == first, rule
    assert {rule for rule, resources in rules.items() if resources.get("gpu") == "1"} == TRAINING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, "sedes: unknown key (nearest valid: 'seeds')"),
        (
            {"corpora": {"swahili": {"reader": "folder", "path": "nowhere/swahili", "language": "sw"}}},
            "corpora.swahili: nowhere/swahili: no such corpus folder",
        ),
    ],
)
def test_a_bad_study_is_named_without_a_traceback(tmp_path, change, message):
    study = yaml.safe_load(SMOKE.read_text())
    for key, value in change.items():
        study[key] = {**study.get(key, {}), **value} if isinstance(value, dict) else value
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run = dry_run(tmp_path / "study.yaml")
    output = run.stdout + run.stderr
    assert run.returncode != 0
    assert any(line.strip().startswith(message) for line in output.splitlines()), output
    assert "Traceback" not in output


def test_a_key_that_is_written_twice_is_named(tmp_path):
    (tmp_path / "study.yaml").write_text(SMOKE.read_text() + "seeds: [3]\n")
    run = dry_run(tmp_path / "study.yaml")
    assert run.returncode != 0 and "Traceback" not in run.stdout + run.stderr
    assert "study.yaml, line" in run.stdout + run.stderr
    assert "the key 'seeds' is written twice" in run.stdout + run.stderr
