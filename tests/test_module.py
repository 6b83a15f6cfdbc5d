"""Another Snakefile that uses the rules by `module`, as docs/module.md has it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from miniature import recording, write
from tiny_study import STUDY, TABLE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/module.md").read_text()
SECOND = """module english:
    snakefile:
        "headstart/Snakefile"
    config:
        config["english"]


use rule * from english as english_*


rule compare:
"""
ENGLISH = {**STUDY, "study": "english"}


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def run(folder: Path, *arguments: str, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HEADSTART", "SNAKEMAKE"))}
    inherited["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    options = {"cwd": folder, "capture_output": True, "text": True, "env": inherited | environment, "timeout": 600}
    ended = subprocess.run(arguments, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture
def folder(tmp_path) -> Path:
    """A workflow as the page has it, with its recordings, and a second module for another study."""
    (tmp_path / "headstart").symlink_to(ROOT)
    (tmp_path / "Snakefile").write_text(block("python").replace("rule compare:\n", SECOND))
    config = {**yaml.safe_load(block("yaml")), "english": ENGLISH}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (tmp_path / "other_system.json").write_text("{}")
    rows = ["id\tpath\ttext\tsplit"]
    for number, split in enumerate(("train", "train", "dev", "test")):
        recording(tmp_path / f"recordings/{number}.wav", 0.5 + 0.1 * number)
        rows.append(f"{number}\t{number}.wav\tari {number}\t{split}")
    write(tmp_path / "recordings/metadata.tsv", *rows)
    return tmp_path


def test_the_page_is_true(folder):
    copy, dry, real = block("sh").splitlines()
    run(folder, "sh", "-ec", copy)
    planned = run(folder, "sh", "-ec", dry)
    assert "localrules" not in planned
    counts = dict(re.findall(r"^(\w+) +(\d+)$", planned, flags=re.MULTILINE))
    # All stages of the module's study, its shards, and the rule that takes what it makes; nothing of the other module.
    assert {"compare": "1", "kichwa_extract_shard": "2", "kichwa_join_shards": "1"}.items() <= counts.items()
    assert counts["kichwa_extract_features"] == "2" and counts["kichwa_finetune_run"] == "6"
    assert counts["kichwa_summarise_study"] == "1" and not [name for name in counts if name.startswith("english")]
    run(folder, "sh", "-ec", f"{real} data/features/qu/train.parquet")
    assert (folder / "data/features/qu/train.parquet").is_file()


def test_jobs_elsewhere_know_the_study_of_their_module(folder):
    """What an executor runs on another machine, after the studies have been edited."""
    run(folder, "sh", "-ec", block("sh").splitlines()[1])
    variables = {}
    for module, study in (("kichwa", "kichwa"), ("english", "english")):
        (planned,) = (folder / "results/.planned").glob(f"{study}-*.json")
        variables[f"HEADSTART_STUDY_{module}"] = str(planned.relative_to(folder))
        assert json.loads(planned.read_text())["study"] == study
    longer = {**ENGLISH, "corpora": {"en": {**ENGLISH["corpora"]["en"], "hours": {"train": 1, "dev": 1, "test": 1}}}}
    config = {**yaml.safe_load(block("yaml")), "english": longer}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rule = "english_synthesise_corpus"
    job = ["--target-jobs", f"{rule}:corpus=en", "--allowed-rules", rule, "--mode", "remote", "--cores", "1"]
    flags = ["--force", "--nolock", "--ignore-incomplete", "--no-hooks"]
    run(folder, sys.executable, "-m", "snakemake", *job, *flags, **variables)
    assert 0 < (folder / TABLE).read_text().count("clips/en_train_") < 10
