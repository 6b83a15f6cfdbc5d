"""Start training jobs on free GPUs, in the number of processes that the study sets.

The workflow calls `launch`, which first writes the job to `results/STUDY/.state/.../job.json`. From this file the same
job can be started by hand:

    python -m headstart.training.launch pretrain JOB.json [--max-minutes M]
    torchrun --nproc-per-node 4 -m headstart.training.launch finetune JOB.json
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import torch

from headstart.errors import HeadstartError
from headstart.files import alone, read_json, write_json
from headstart.jobs import TRAINING, PretrainJob, SemisupJob, TrainingJob
from headstart.logs import log_to
from headstart.training.ranks import claim_devices, visible_devices
from headstart.training.time_limit import ASKED, MINUTES, OutOfTime, save_when_asked

log = logging.getLogger(__name__)


def launch(job: TrainingJob, threads: int, processes: int, log_file: str) -> None:
    """Run a training job in this process, or in several processes that share its batches.

    Args:
        threads: CPU threads of all processes together.
        processes: number of processes; each gets a GPU of its own where there are GPUs.
        log_file: the file to which this process logs already, and to which those that it starts will.

    Raises:
        SystemExit: a process failed; the exit status is that of the first that did.
        OutOfTime: this process received SIGTERM or SIGINT, and the processes that it started have ended.
    """
    # Snakemake caps a job's threads at its number of cores, which may be smaller than the number of processes.
    threads = max(1, threads // processes)
    file = Path(job.state) / "job.json"
    with alone(job.state):
        write_json(file, {"threads": threads, **job.plain()})
        claim(processes)
        if processes == 1:
            run(job, threads)
        else:
            _run_together(job, file, processes, log_file)


def _run_together(job: TrainingJob, file: Path, processes: int, log_file: str) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    command = ["--standalone", f"--nproc-per-node={processes}", "--module", "headstart.training.launch"]
    try:
        torchrun([*command, job.stage, str(file), "--append-to", str(log_file)])
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        # torchrun has forwarded the signal to its processes and has waited until they saved their state.
        if error.sigval not in ASKED:
            raise
        raise OutOfTime from None


def claim(processes: int) -> None:
    """Reserve free GPUs for this job, unless Slurm has allocated no more than it needs."""
    devices = visible_devices()
    if devices and ("SLURM_JOB_ID" not in os.environ or len(devices) > processes):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claim_devices(processes, devices))


def run(job: TrainingJob, threads: int) -> None:
    """Run a training job in this process."""
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
    job, threads = read_job(options.stage, options.job)
    if "RANK" in os.environ:
        run(job, threads)
        return
    with alone(job.state):
        claim(1)
        run(job, threads)


if __name__ == "__main__":
    main()
