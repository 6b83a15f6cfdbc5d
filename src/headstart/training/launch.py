"""Start training jobs on free GPUs, in the number of processes that the study sets.

The workflow calls `launch`, which first writes the job to `results/STUDY/.state/.../job.json`. From this file the same
job can be started by hand:

    python -m headstart.training.launch pretrain JOB.json [--max-minutes M]
    torchrun --nproc-per-node 4 -m headstart.training.launch finetune JOB.json

Torch is imported only after the log is open, so that a job with too little memory for it says so in its log.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from headstart.errors import HeadstartError, TrainingError
from headstart.files import alone, read_json, write_json
from headstart.jobs import TRAINING, PretrainJob, SemisupJob, TrainingJob
from headstart.logs import log_to
from headstart.training.nodes import Nodes
from headstart.training.time_limit import ASKED, MINUTES, OutOfTime, save_when_asked

log = logging.getLogger(__name__)


def launch(job: TrainingJob, threads: int, processes: int, log_file: str, nodes: int = 1) -> None:
    """Run a training job in this process, or in several processes that share its batches.

    Args:
        threads: CPU threads of all processes of a node together.
        processes: number of processes of a node; each gets a GPU of its own where there are GPUs.
        log_file: the file to which this process logs already, and to which those that it starts will.
        nodes: number of nodes; for several of them, this process is in a Slurm job that has been allocated so many.

    Raises:
        SystemExit: a process failed; the exit status is that of the first that did.
        OutOfTime: this process received SIGTERM or SIGINT, and the processes that it started have ended.
        TrainingError: there are too few GPUs, or nodes outside Slurm.
    """
    file = Path(job.state) / "job.json"
    with alone(job.state):
        # Snakemake caps a job's threads at its number of cores, which may be smaller than the number of processes.
        write_json(file, {"threads": max(1, threads // processes), **job.plain()})
        if nodes > 1:
            Nodes.of_this_job(nodes).start(job.stage, file, processes, threads, log_file)
            return
        claim(processes)
        if processes == 1:
            run(job, max(1, threads))
        else:
            torchrun(job.stage, file, processes, log_file, ["--standalone"])


def torchrun(stage: str, file: Path, processes: int, log_file: str | Path, meeting: list[str]) -> None:
    """Run a training job in several processes of this node.

    Args:
        meeting: options that say where the processes find each other.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    command = [*meeting, f"--nproc-per-node={processes}", "--module", "headstart.training.launch"]
    try:
        main([*command, stage, str(file), "--append-to", str(log_file)])
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        # torchrun has forwarded the signal to its processes and has waited until they saved their state.
        if error.sigval not in ASKED:
            raise
        raise OutOfTime from None


def claim(processes: int) -> None:
    """Reserve free GPUs for this job, unless Slurm has allocated no more than it needs.

    Raises:
        TrainingError: there are GPUs, but fewer than the job has processes.
    """
    import torch

    from headstart.training.ranks import claim_devices, visible_devices

    devices = visible_devices()
    if len(devices) < processes and torch.cuda.is_available():
        raise TrainingError(
            f"the study has devices: {processes}, but a job sees {len(devices)} of this machine's GPUs; lower devices, "
            "or let jobs have more GPUs (`gpu` in profiles/slurm)"
        )
    if devices and ("SLURM_JOB_ID" not in os.environ or len(devices) > processes):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claim_devices(processes, devices))


def run(job: TrainingJob, threads: int) -> None:
    """Run a training job in this process."""
    import torch

    save_when_asked()
    torch.set_num_threads(threads)
    if isinstance(job, PretrainJob):
        from headstart.pretrain import pretrain_start

        pretrain_start(job)
    elif isinstance(job, SemisupJob):
        from headstart.semisup import refine_start

        refine_start(job)
    else:
        from headstart.finetune import finetune_run

        finetune_run(job)


def read_job(stage: str, path: Path) -> tuple[TrainingJob, int]:
    """Read a job and its number of threads per process from the file that `launch` writes.

    Raises:
        HeadstartError: the file is missing, or is not a job of this stage in this version of Headstart.
    """
    try:
        values = read_json(path)
        threads = values.pop("threads")
        job = TRAINING[stage](**values)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise HeadstartError(f"{path}: not a job of the stage {stage}: {error}") from None
    return job, threads


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m headstart.training.launch", description="Run a training job by hand."
    )
    parser.add_argument("stage", choices=TRAINING)
    parser.add_argument("job", type=Path, metavar="JOB.json", help="the job, results/STUDY/.state/.../job.json")
    parser.add_argument("--max-minutes", type=float, help="save and stop, with exit status 75, before this time is up")
    parser.add_argument("--processes", type=int, default=1, help="of this node (default: 1)")
    parser.add_argument("--nodes", type=int, default=1, help="of the step of a Slurm job; each runs this command")
    parser.add_argument("--meeting", metavar="HOST:PORT", help="of the first node, where the nodes' processes meet")
    parser.add_argument("--append-to", type=Path, metavar="LOG", help="log file (default: lines on the terminal)")
    options = parser.parse_args(argv)
    if options.max_minutes is not None:
        os.environ[MINUTES] = str(options.max_minutes)
    if options.append_to:
        log_to(options.append_to, append=True)
        if os.environ.get("RANK", "0") != "0":
            logging.getLogger().setLevel(logging.WARNING)  # only the first process logs progress
    else:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.nodes > 1:
        claim(options.processes)
        meeting = Nodes(options.nodes, options.meeting).torchrun()
        torchrun(options.stage, options.job, options.processes, options.append_to, meeting)
        return
    job, threads = read_job(options.stage, options.job)
    if "RANK" in os.environ:
        run(job, threads)
        return
    with alone(job.state):
        claim(1)
        run(job, threads)


if __name__ == "__main__":
    main()
