"""What it takes to plan a large study: Snakemake's dry run, and `headstart plan` without measurements.

The study has hub models that are not downloaded and synthetic corpora that are not made, so that every job is to do.
Nothing of it runs. Processor time is what can be compared on a machine that others use.

Run with `python benchmarks/planning.py`: 16 starts, 18 languages, 3 budgets and 3 seeds. A dry run prints each job;
with `--quiet`, it prints only how many there are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = ("10min", "20min", "30min")


def study(starts: int, languages: int, budgets: int, seeds: int) -> dict[str, Any]:
    """A study file in which no two starts, languages, budgets or seeds share a job that they need not share."""
    corpora = {
        f"corpus{number}": {"reader": "synthetic", "language": "en", "hours": {"train": 0.6}, "seed": number}
        for number in range(languages)
    }
    models = {f"start{number}": {"kind": "hub", "model": f"owner/model{number}"} for number in range(1, starts)}
    return {
        "study": "planning",
        "corpora": corpora,
        "starts": {"scratch": {"kind": "scratch"}, **models},
        "targets": {f"target{number}": {"corpus": name, "kind": "in-domain"} for number, name in enumerate(corpora)},
        "budgets": list(BUDGETS[:budgets]),
        "seeds": list(range(1, seeds + 1)),
    }


def measure(starts: int = 16, languages: int = 18, budgets: int = 3, seeds: int = 3, quiet: bool = False) -> list[Any]:
    """Rows for the two commands: jobs, seconds of processor and of wall clock, and peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.yaml")
        file.write_text(json.dumps(study(starts, languages, budgets, seeds)), encoding="utf-8")  # JSON is YAML
        snakemake = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--cores", "2"]
        snakemake += ["--workflow-profile", str(ROOT / "profiles/default"), *(["--quiet", "rules"] if quiet else [])]
        commands = {
            "dry run": ["-m", *snakemake, "--configfile", str(file)],
            "headstart plan": ["-m", "headstart.cli", "plan", str(file), "--no-calibrate", "--cores", "2"],
        }
        return [{"name": name, **_run(command, folder)} for name, command in commands.items()]


def _run(command: list[str], folder: str) -> dict[str, Any]:
    """Run a module of Python in a folder, and say what it took."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {(ended.stderr or ended.stdout).strip()[-2000:]}")
    text = ended.stdout + ended.stderr
    if total := re.search(r"^total +(\d+)", text, re.MULTILINE):
        jobs = int(total[1])
    else:  # the lines of stages: name, jobs, to do
        jobs = sum(int(to_do) for to_do in re.findall(r"^[a-z -]+? +\d+ +(\d+)$", text, re.MULTILINE))
    return {
        "jobs": jobs,
        "processor_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.perf_counter() - began,
        "peak_mb": after.ru_maxrss / 1024,  # of the largest so far, so the first command's is its own
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, number in (("starts", 16), ("languages", 18), ("budgets", 3), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--quiet", action="store_true", help="do not print the jobs of the dry run")
    for row in measure(**vars(parser.parse_args())):
        print(
            f"{row['name']:15} {row['jobs']:5} jobs {row['processor_s']:6.1f} s of processor {row['wall_s']:6.1f} s "
            f"{row['peak_mb']:5.0f} MB"
        )
