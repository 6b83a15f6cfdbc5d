"""A real Slurm of one node: jobs run the study that was planned, and notice their time limit.

It needs Debian's packages slurm-wlm and munge, and root, whom the daemons run as. Elsewhere these tests are skipped.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from headstart.files import read_json, write_json
from headstart.jobs import FinetuneJob
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.text import Text
from headstart.subsets import draw_subset

ROOT = Path(__file__).parent.parent
ETC = Path("/etc/slurm")  # SLURM_CONF in the environment does not reach the steps of a job
MARK = "# Written by Headstart's tests, which may remove it.\n"
PROGRAMS = "munged mungekey slurmctld slurmd sbatch srun squeue scontrol scancel".split()

CONFIGURATION = """
ClusterName=headstart
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()


def until(holds: Callable[[], object], what: str, seconds: float = 60, log: Path | None = None) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        written = log.read_text() if log and log.exists() else ""
        assert time.monotonic() < end, f"not in {seconds} s: {what}\n{written[-4000:]}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Path]:
    """The folder of a Slurm of our own, with one node and one partition, `test`."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm of our own runs as root")
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian's slurm-wlm and munge)")
    lock = (Path(tempfile.gettempdir()) / "headstart-slurm.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.skip("other tests on this machine are using /etc/slurm")
    files = [ETC / "slurm.conf", ETC / "gres.conf"]
    for file in files:
        if file.exists() and not file.read_text().startswith(MARK):
            pytest.skip(f"{file} is there and not from these tests: this machine has a Slurm already")

    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().split(".")[0]
    ports = {"controller_port": free_port(), "node_port": free_port()}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    daemons = {
        "munged": ["--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"]
        + [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("pid-file", "log-file", "seed-file")],
        "slurmctld": ["-D", "-c", "-i"],
        "slurmd": ["-D", "-N", host],
    }
    processes = []
    try:
        files[0].write_text(MARK + CONFIGURATION.format(host=host, folder=folder, **ports))
        files[1].write_text(f"{MARK}NodeName={host} Name=gpu File=/dev/null\n")
        subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True, timeout=30)
        for name, arguments in daemons.items():
            with (folder / f"{name}.out").open("w") as output:
                command = [shutil.which(name), *arguments]
                processes.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder))
            if name == "munged":
                until((folder / "munge.socket").exists, "a socket of munged", log=folder / "munged.out")
        until(lambda: "idle" in output_of("sinfo", "-h", "-o", "%T"), "an idle node", log=folder / "slurmd.out")
        yield folder
    finally:
        if len(processes) == len(daemons):
            output_of("scancel", "--partition=test", "--signal=KILL", "--full")
            output_of("scancel", "--partition=test")
            time.sleep(1)
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for file in files:
            file.unlink(missing_ok=True)
        lock.close()


def shown(job: str, key: str) -> str:
    """What Slurm says of a job, such as its JobState."""
    described = dict(
        item.split("=", 1) for item in output_of("scontrol", "show", "job", "-o", job).split() if "=" in item
    )
    return described.get(key, "")


# ------------------------------------------------------------------------------------------ an edited study

STUDY = {
    "study": "tiny",
    "corpora": {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.01, "dev": 0.003, "test": 0.003}}},
    "starts": {"scratch": {"kind": "scratch"}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["20s"],
    "seeds": [1],
    "model": {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "conv_dim": [32, 32]},
    "finetune": {"updates": 3, "batch_seconds": 8, "log_every": 1},
}
RECIPE = "results/tiny/runs/scratch/en/20s/seed1/recipe.json"
# What a cluster without accounts needs; the profile tells of it.
NO_ACCOUNTING = ["--slurm-no-account", "--slurm-status-command", "squeue"]
SOON = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"]


def snakemake(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*command, "--configfile", str(folder / "study.yaml"), *arguments]


def told(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_a_study_that_is_edited_while_its_jobs_are_queued_runs_as_it_was_planned(slurm, tmp_path):
    study, log = tmp_path / "study.yaml", tmp_path / "snakemake.log"
    study.write_text(yaml.safe_dump(STUDY))
    told(snakemake(tmp_path, "--cores", "2", "--until", "draw_subset", "extract_features"))

    output_of("scontrol", "update", "PartitionName=test", "State=DOWN")  # jobs are queued and do not start
    profile = ["--workflow-profile", str(ROOT / "profiles/slurm"), "--retries", "0"]
    with log.open("w") as output:
        command = snakemake(tmp_path, *profile, *NO_ACCOUNTING, *SOON, RECIPE)
        main = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: output_of("squeue", "-h", "-o", "%i"), "a job in the queue", log=log)
        study.write_text(yaml.safe_dump({**STUDY, "finetune": {**STUDY["finetune"], "updates": 5}}))
        output_of("scontrol", "update", "PartitionName=test", "State=UP")
        until(lambda: main.poll() is not None, "the end of Snakemake", seconds=240, log=log)
    finally:
        main.kill()
        main.wait()
    assert main.returncode == 0, log.read_text()

    assert read_json(tmp_path / RECIPE)["settings"]["updates"] == 3
    # What Snakemake has recorded is what has run: it runs again with the edited study, and only with that.
    edited = told(snakemake(tmp_path, "--dry-run", RECIPE))
    assert "rule finetune_run:" in edited and "Params have changed" in edited
    study.write_text(yaml.safe_dump(STUDY))
    assert "Nothing to be done" in told(snakemake(tmp_path, "--dry-run", RECIPE))


# ------------------------------------------------------------------------------------------ time limits


def submit(job: Path, name: str, *options: str) -> tuple[str, Path]:
    """Start a training job; its number, and the file that it logs to."""
    log = job.with_name(f"{name}.log")
    command = f"srun {sys.executable} -m headstart.training.launch finetune {job}"
    number = output_of("sbatch", "--parsable", *options, f"--output={log}", f"--wrap={command}")
    assert number
    until(lambda: shown(number, "JobState") == "RUNNING", "a running job")
    return number, log


def test_a_job_notices_its_time_limit_and_is_asked_to_end(slurm, english, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    draw_subset(english["train"]["features"], "20s", 1, str(tmp_path / "subset.parquet"))
    settings = Finetune(updates=1_000_000, batch_seconds=4, log_every=1_000_000, save_minutes=1e9)
    job = tmp_path / "job.json"
    splits = {"train": english["train"], "dev": english["dev"], "subset": str(tmp_path / "subset.parquet")}
    options = {"settings": settings, "text": Text(), "model": Model(**STUDY["model"]), "parent": None, "seed": 1}
    paths = {"output": str(tmp_path / "run"), "state": str(tmp_path / "state")}
    write_json(job, {"threads": 1, **FinetuneJob.of(**splits, **options, **paths).plain()})

    # Slurm's limits are whole minutes, and it looks for jobs beyond theirs twice a minute: this one leaves before.
    number, log = submit(job, "limited", "--time=1")
    until(lambda: shown(number, "JobState") not in ("RUNNING", "COMPLETING"), "the end of the job", 120, log)
    assert (shown(number, "JobState"), shown(number, "ExitCode")) == ("FAILED", "75:0"), log.read_text()
    assert (saved := re.search(r"the time limit is near; the state after update (\d+) of", log.read_text()))

    number, log = submit(job, "cancelled", "--time=10")
    until(log.exists, "the log of the resumed job", 120)
    until(lambda: f"resumed at update {saved[1]} of" in log.read_text(), "the resumed job", log=log)
    until(lambda: re.search(r"update \d+ of \d+ \(", log.read_text()), "an update", log=log)
    output_of("scancel", number)
    until(lambda: "asked to end (SIGTERM); the state after update" in log.read_text(), "the job's last words", log=log)
