"""The profile for Kubernetes: dry runs, and jobs through a kubectl that runs pods on this machine."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROFILE = ROOT / "profiles/kubernetes"
STUDY = {
    "study": "tiny",
    "corpora": {
        "en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.002, "dev": 0.001, "test": 0.001}}
    },
    "starts": {"scratch": {"kind": "scratch"}, "own": {"kind": "ssl", "corpora": {"en": 0.001}}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["2s"],
}
# Keeps what it is told in PODS, and runs a pod at once. What runs in it sees of Kubernetes what is in the manifest.
KUBECTL = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
pods = Path("{pods}")
if sys.argv[1] == "create":
    job = json.load(sys.stdin)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {{item["name"]: item["value"] for item in container["env"]}}
    environment |= {{"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}}
    run = subprocess.run(container["command"], cwd=container["workingDir"], env=environment, stdout=sys.stderr)
    job["status"] = {{"failed": 1}} if run.returncode else {{"succeeded": 1}}
    (pods / job["metadata"]["name"]).write_text(json.dumps(job))
elif sys.argv[1] == "get":
    print((pods / sys.argv[3]).read_text())
else:
    (pods / "deleted").write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a study, and first on PATH a kubectl that keeps its jobs in the folder `pods`."""
    (tmp_path / "pods").mkdir()
    (tmp_path / "kubectl").write_text(KUBECTL.format(python=sys.executable, pods=tmp_path / "pods"))
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")  # of the clone in which Snakemake is started
    return tmp_path


def snakemake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += [*arguments, "--workflow-profile", str(PROFILE), "--configfile", "study.yaml"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_pods_get_what_jobs_need_and_run_them(folder):
    if not find_spec("snakemake_executor_plugin_cluster_generic"):
        pytest.skip("not installed: snakemake-executor-plugin-cluster-generic")
    planned = snakemake(folder, "--dry-run", "--forceall")
    for rule, wanted in yaml.safe_load((PROFILE / "profile.yaml").read_text())["set-resources"].items():
        if found := re.search(rf"^rule {rule}:.*?^    resources: (.*?)$", planned, re.DOTALL | re.MULTILINE):
            asked = dict(item.split("=", 1) for item in found[1].split(", "))
            for name, value in wanted.items():
                assert asked[name] == str(value).removesuffix(" * attempt"), (rule, name)

    snakemake(folder, "data/raw/en/metadata.tsv", "--latency-wait", "5")
    (job,) = [json.loads(path.read_text()) for path in (folder / "pods").iterdir()]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1500M"} and job["spec"]["backoffLimit"] == 0
    assert container["workingDir"] == str(folder) and pod["activeDeadlineSeconds"] == 3600
    assert (folder / "data/raw/en/metadata.tsv").is_file()


def pod(*arguments: str) -> str:
    command = [sys.executable, str(PROFILE / "pod.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_pods_with_gpus_failures_and_cancelled_jobs(folder):
    options = ["--cpus", "4", "--memory-mb", "16000", "--gpus", "2", "--minutes", "480"]
    options += ["--image", "image", "--volume", "claim:/study"]
    (folder / "fails.sh").write_text('test "$HEADSTART_MAX_MINUTES" = 480 || exit 3\nexit 1\n')
    (folder / "works.sh").write_text('test "$HEADSTART_MAX_MINUTES" = 480\n')
    failed, worked = (pod("submit", *options, str(folder / script)) for script in ("fails.sh", "works.sh"))
    assert (pod("status", failed), pod("status", worked)) == ("failed", "success")
    (container,) = json.loads((folder / "pods" / worked).read_text())["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "16000M", "nvidia.com/gpu": "2"}
    assert container["volumeMounts"] == [{"name": "study", "mountPath": "/study"}]
    pod(failed, worked)  # as Snakemake cancels
    assert (folder / "pods/deleted").read_text() == f"delete job --wait=false {failed} {worked}"
