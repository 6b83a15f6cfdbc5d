"""Training jobs that span nodes of a Slurm cluster: one step of the job starts the processes of every node."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import TrainingError
from headstart.training.time_limit import ASKED, EXIT_CODE, OutOfTime


@dataclass
class Nodes:
    """The nodes of a job: how many there are, and where the processes meet, as HOST:PORT of the first node."""

    count: int
    meeting: str

    @classmethod
    def of_this_job(cls, count: int) -> Nodes:
        """The nodes of the Slurm job that this process is in, on the first of them.

        Raises:
            TrainingError: this is not a Slurm job.
        """
        if "SLURM_JOB_ID" not in os.environ or not shutil.which("srun"):
            raise TrainingError(
                f"the study has nodes: {count}, but this is not a job of Slurm; start Snakemake with "
                "--workflow-profile profiles/slurm, or set nodes to 1"
            )
        with socket.socket() as listening:
            listening.bind(("", 0))
            return cls(count, f"{socket.gethostname()}:{listening.getsockname()[1]}")

    def torchrun(self) -> list[str]:
        """The options of torchrun for the processes of this node, which is in a step that `start` has started."""
        host, port = self.meeting.rsplit(":", 1)
        rank = os.environ["SLURM_NODEID"]
        return [f"--nnodes={self.count}", f"--node-rank={rank}", f"--master-addr={host}", f"--master-port={port}"]

    def start(self, stage: str, job: Path, processes: int, threads: int, log_file: str) -> None:
        """Start a training job on every node, and wait until it has ended everywhere.

        Args:
            processes: on each node.
            threads: CPU threads of all processes of a node together.

        Raises:
            SystemExit: a process failed; the exit status is that of `srun`, the highest of all nodes.
            OutOfTime: a process ended with its status, or this process received SIGTERM or SIGINT.
        """
        step = ["srun", f"--nodes={self.count}", f"--ntasks={self.count}", "--ntasks-per-node=1"]
        # Without --kill-on-bad-exit, the processes of other nodes would wait for hours for one that has failed.
        step += [f"--cpus-per-task={threads}", "--cpu-bind=none", "--mpi=none", "--kill-on-bad-exit=1"]
        command = [*step, sys.executable, "-m", "headstart.training.launch", stage, str(job)]
        command += ["--processes", str(processes), "--nodes", str(self.count), "--meeting", self.meeting]
        running = subprocess.Popen([*command, "--append-to", log_file], stdin=subprocess.DEVNULL)
        asked_to_end = False

        def end(number: int, frame: object) -> None:
            nonlocal asked_to_end
            asked_to_end = True
            running.terminate()  # srun passes it on to all processes, which then save their state

        previous = {number: signal.signal(number, end) for number in ASKED}
        try:
            status = running.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if asked_to_end or status == EXIT_CODE:
            raise OutOfTime
        if status:
            sys.exit(status if status > 0 else 128 - status)
