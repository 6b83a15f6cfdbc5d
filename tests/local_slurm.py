"""A real Slurm on this machine for tests: a controller, and two daemons that stand for two nodes.

It needs Debian's packages slurm-wlm and munge, and root, whom the daemons run as.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ETC = Path("/etc/slurm")  # SLURM_CONF in the environment does not reach the steps of a job
MARK = "# Written by Headstart's tests, which may remove it.\n"
PROGRAMS = "munged mungekey slurmctld slurmd sbatch srun squeue scontrol scancel".split()
NODES = ("node1", "node2")
WAIT_S = 900  # for other tests to finish with their Slurm

CONFIGURATION = """
ClusterName=headstart
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout=20
ReturnToService=2
MinJobAge=3600
KillWait=20
GresTypes=gpu
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE LLN=YES State=UP
"""

# A study of one run, to which a test adds how it is fine-tuned.
ONE_RUN = {
    "study": "tiny",
    "corpora": {"en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.01, "dev": 0.003, "test": 0.003}}},
    "starts": {"scratch": {"kind": "scratch"}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["20s"],
    "seeds": [1],
    "model": {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "conv_dim": [32, 32]},
}


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


def described(text: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in text.split() if "=" in item)


def jobs() -> list[dict[str, str]]:
    """What Slurm says of each of its jobs, the finished ones too."""
    return [described(line) for line in output_of("scontrol", "show", "jobs", "-o").splitlines() if "JobId=" in line]


def shown(job: str, key: str) -> str:
    """What Slurm says of a job, such as its JobState."""
    return described(output_of("scontrol", "show", "job", "-o", job)).get(key, "")


class Slurm:
    """A Slurm with two nodes and one partition, `test`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}

    def begin(self, gpus: int) -> None:
        """Write the configuration and start all daemons.

        Args:
            gpus: of each node; they are configured, but not there.
        """
        folder, host = self.folder, socket.gethostname().split(".")[0]
        configuration = CONFIGURATION.format(host=host, folder=folder, controller_port=free_port())
        for node in NODES:
            (folder / f"spool.{node}").mkdir()
            configuration += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} "
            configuration += f"CPUs=4 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN\n".replace("Gres=gpu:0 ", "")
        (folder / "state").mkdir()
        (ETC / "slurm.conf").write_text(MARK + configuration)
        devices = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")[:gpus]
        (ETC / "gres.conf").write_text(MARK + "".join(f"Name=gpu File={device}\n" for device in devices))
        subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True, timeout=30)
        options = ["--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"]
        options += [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("pid-file", "log-file", "seed-file")]
        self.start("munged", "munged", *options)
        until((folder / "munge.socket").exists, "a socket of munged", log=folder / "munged.out")
        self.start("slurmctld", "slurmctld", "-D", "-c", "-i")
        for node in NODES:
            self.start_node(node)
        idle = lambda: output_of("sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"]  # noqa: E731
        until(idle, "two idle nodes", log=folder / "node1.out")

    def start(self, name: str, program: str, *options: str) -> None:
        with (self.folder / f"{name}.out").open("a") as output:
            command = [shutil.which(program), *options]
            self.daemons[name] = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder)

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def fail(self, node: str) -> None:
        """Kill everything that runs on a node, as when its power is lost."""
        steps = [f"slurmstepd: [{job['JobId']}." for job in jobs() if node in job.get("NodeList", "")]
        self.daemons[node].kill()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
            if f"SLURMD_NODENAME={node}".encode() in environment or command.startswith(tuple(steps)):
                os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        if len(self.daemons) > 2:
            output_of("scancel", "--partition=test", "--signal=KILL", "--full")
            output_of("scancel", "--partition=test")
            time.sleep(1)
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def local_slurm(folder: Path, gpus: int = 2) -> Iterator[Slurm]:
    """A Slurm of our own, or a skipped test where none can be had."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm of our own runs as root")
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian's slurm-wlm and munge)")
    with (Path(tempfile.gettempdir()) / "headstart-slurm.lock").open("w") as lock:
        end = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    pytest.skip("other tests on this machine are using /etc/slurm")
                time.sleep(1)
        files = [ETC / "slurm.conf", ETC / "gres.conf"]
        for file in files:
            if file.exists() and not file.read_text().startswith(MARK):
                pytest.skip(f"{file} is there and not from these tests: this machine has a Slurm already")
        slurm = Slurm(folder)
        try:
            slurm.begin(gpus)
            yield slurm
        finally:
            slurm.stop()
            for file in files:
                file.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------ studies on it


def profile(folder: Path, changes: dict[str, str] | None = None) -> list[str]:
    """Snakemake's options for a copy of profiles/slurm with some texts replaced, which is asked more often."""
    text = (ROOT / "profiles/slurm/profile.yaml").read_text()
    for before, after in (changes or {}).items():
        assert before in text, before
        text = text.replace(before, after)
    (folder / "profile").mkdir(exist_ok=True)
    (folder / "profile" / "profile.yaml").write_text(text)
    soon = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"]
    return ["--workflow-profile", str(folder / "profile"), *soon]


def snakemake(folder: Path, *arguments: str) -> list[str]:
    """The command that runs the study in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*command, "--configfile", str(folder / "study.yaml"), *arguments]


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """Snakemake running the study in a folder, with its output in snakemake.log there; killed at the end."""
    with (folder / "snakemake.log").open("a") as output:
        main = subprocess.Popen(
            snakemake(folder, *arguments),
            stdout=output,
            stderr=subprocess.STDOUT,
            # A shell has its background processes ignore Ctrl-C, and these tests may be in one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield main
    finally:
        main.kill()
        main.wait()


def succeeded(main: subprocess.Popen, folder: Path, seconds: float = 900) -> None:
    """Wait until Snakemake has finished the study in a folder without a failure."""
    until(lambda: main.poll() is not None, "the end of Snakemake", seconds, folder / "snakemake.log")
    assert main.returncode == 0, (folder / "snakemake.log").read_text()
