"""docs/versioning.md, its commands executed as written: from `git init` to a colleague's pull, with folders and S3.

The way to a colleague's pull and to the edit of a claim is always tested; experiments, kept features and S3 are slow.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from dry_runs import CORPUS, write_corpus
from test_dvc import COPIED

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```sh(.*?)\n(.*?)^```$", (ROOT / "docs/versioning.md").read_text(), re.MULTILINE | re.DOTALL)
STUDY = {
    "study": "mine",
    "corpora": {"mine": {**CORPUS, "path": "data/raw/mine"}},
    "starts": {"scratch": {"kind": "scratch"}, "own": {"kind": "ssl", "corpora": {"mine": 0.0005}}},
    "targets": {"mine": {"corpus": "mine", "kind": "in-domain"}},
    "budgets": ["2s"],
    "seeds": [1],
    "model": {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "conv_dim": [16, 16]},
    "pretrain": {"objective": "best-rq", "updates": 2, "batch_seconds": 2, "log_every": 1},
    "finetune": {"updates": 2, "batch_seconds": 2, "log_every": 1},
    "decoding": {"language_model": None},
    "claims": [{"claim": "It helps.", "treatment": "own", "baseline": "scratch", "metric": "cer", "size": -0.1}],
}

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="dvc is not installed"),
]


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name.strip() == kind]


def test_every_block_of_the_page_is_run_by_a_test():
    assert [name.strip() for name, _ in BLOCKS] == ["", "s3", "", "", "", "", "", "features"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A function that runs lines of shell in a folder, with this environment's commands, and returns what they say."""
    programs = tmp_path_factory.mktemp("bin")
    for name, module in {"dvc": "dvc.cli", "snakemake": "snakemake.cli", "headstart": "headstart.cli"}.items():
        (programs / name).write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        (programs / name).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    environment |= {
        f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "HOME": str(programs)}
    environment |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}

    def run(folder: Path, lines: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", lines]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, f"{lines}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def project(tmp_path_factory, shell) -> Path:
    """A repository in which the page's commands up to the first results have been run."""
    folder = tmp_path_factory.mktemp("versions") / "headstart"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "cache", "tmp", "config.local")
    folder.mkdir()
    for name in [*COPIED, "profiles", "starts"]:
        if name == "data":
            shutil.copytree(ROOT / "data/store", folder / "data/store")
            (folder / "data/raw").mkdir()
            shutil.copy(ROOT / "data/raw/example.dvc", folder / "data/raw")
        elif (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    write_corpus(folder / "data/raw/mine", 1)
    once, corpus, study, *_ = blocks("")
    shell(folder, once)
    shell(folder, corpus)
    (folder / "my_study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    assert "Generating lock file 'versions/mine/dvc.lock'" in shell(folder, study)
    return folder


def test_a_colleague_has_nothing_to_do_and_runs_only_what_an_edit_touches(project, shell):
    folder, (*_, pull, edit) = project, blocks("")
    said = shell(folder, pull)
    assert "7 results agree" in said and "again" not in said and "Nothing to be done" in said
    said = shell(folder.parent / "colleague", edit)
    planned = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", said, re.DOTALL)[1]
    assert {line.split()[0] for line in planned.splitlines()} == {"all", "summarise_study", "write_report"}
    (claim,) = json.loads((folder.parent / "colleague/results/mine/summary.json").read_text())["claims"]
    assert claim["size"] == -0.2
    assert "finetune_run" not in said


@pytest.mark.slow
def test_a_study_is_changed_and_compared(project, shell):
    folder, lines = project, blocks("")[3]
    changed = shell(folder, lines)
    assert re.search(r"my_study.yaml +finetune.updates +2 +3\n", changed)
    assert "plots/index.html" in changed and '"dev_cer"' in (folder / "plots/index.html").read_text()
    log = shell(folder, "git log --format=%s")
    assert log.split("\n")[:2] == ["mine: fine-tune for longer", "mine: first results"]
    both = shell(folder, "dvc params diff HEAD~1 HEAD --json")
    updates = json.loads(both)["my_study.yaml"]["finetune.updates"]
    assert (updates["old"], updates["new"]) == (2, 3)
    # An error rate that is the same in both is only shown with --all, and so little training may leave it the same.
    metrics = json.loads(shell(folder, "dvc metrics diff --all HEAD~1 HEAD --json 2> errors"))
    assert any("cer" in name for name in metrics["results/mine/metrics.json"])
    # Neither data nor results are in git (the shipped starts are). DVC keeps no files of single clips.
    tracked = shell(folder, "git ls-files").split()
    content = [name for name in tracked if name.endswith((".wav", ".parquet", ".safetensors", ".html"))]
    assert not [name for name in content if not name.startswith("starts/")]
    kept = shell(folder, "dvc list . results/mine --recursive --dvc-only").split()
    assert "summary.json" in kept and not [
        name for name in kept if name.endswith((".mp3", ".flac")) or ".state" in name
    ]


@pytest.mark.slow
def test_features_that_were_kept_are_not_extracted_again(project, shell, tmp_path):
    folder = project
    (features,) = blocks("features")
    shell(folder, features)
    shell(
        folder,
        f"git clone --quiet . {tmp_path}/other && cd {tmp_path}/other && dvc remote modify storage --local "
        f"url {folder.parent}/storage && dvc pull --allow-missing",
    )
    said = shell(tmp_path / "other", "headstart restore my_study.yaml")
    assert "extract_features" not in said and "read_corpus" not in said and "again" not in said
    assert "Nothing to be done" in shell(tmp_path / "other", "snakemake -n --configfile my_study.yaml")


@pytest.fixture
def s3():
    """The address of an S3 server on this machine, with the bucket of the page.

    The server and DVC's support of S3 are not in the locked environment, to which they would add 31 packages.
    """
    for name in ("moto", "flask", "dvc_s3"):
        pytest.importorskip(name, reason="not installed: moto[server], dvc-s3 (pip install 'moto[server]' dvc-s3)")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/my-bucket", method="PUT"))
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_content_goes_to_s3_and_comes_back(project, shell, s3, tmp_path):
    folder = project
    shell(folder, f"git clone --quiet . {tmp_path}/one && cp -r .dvc/cache {tmp_path}/one/.dvc/")
    (remote,) = blocks("s3")
    shell(tmp_path / "one", remote.replace("https://s3.example.org", s3))
    shell(tmp_path / "one", "dvc push data/raw/mine.dvc versions/mine/dvc.yaml && git commit --quiet --all -m s3")
    shell(tmp_path, "git clone --quiet one two && cd two && dvc pull --allow-missing")
    for name in ("data/raw/mine/metadata.tsv", "results/mine/summary.json"):
        assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()
