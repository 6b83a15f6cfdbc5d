"""Starts training jobs: on free devices, in as many processes as the study asks for, and again after a time limit.

    python -m headstart.launch pretrain JOB.json [--max-minutes M]
    torchrun --nproc-per-node 4 -m headstart.launch finetune JOB.json

runs by hand the job that a workflow's job has left in its state folder, `results/.state/.../job.json`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headstart.files import read_json, write_json
from headstart.logs import log_to
from headstart.parallel import claim_devices, visible_devices
from headstart.walltime import MINUTES, OutOfTime, save_on_sigterm

log = logging.getLogger(__name__)

STAGES = ("pretrain", "semisup", "finetune")


def launch(stage: str, arguments: dict[str, Any], processes: int, log_file: str) -> None:
    """Run a training stage in this process, or in several that share its batches.

    Args:
        stage: `pretrain`, `semisup` or `finetune`.
        arguments: those of `pretrain_start`, `semisup_start` or `finetune_run`, as JSON values; `threads` of all
            processes together.
        processes: how many, each with a GPU of its own where there are GPUs.
        log_file: where they log.

    Raises:
        SystemExit: with the exit status of the first process that failed.
        OutOfTime: this process was sent SIGTERM, and its own have ended.
    """
    log_to(log_file)
    # Snakemake gives no more threads than it has cores, which may be fewer than processes.
    arguments = {**arguments, "threads": max(1, arguments["threads"] // processes)}
    job = Path(arguments["state"]) / "job.json"
    write_json(job, arguments)
    claim(processes)
    if processes == 1:
        run(stage, arguments)
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    command = ["--standalone", f"--nproc-per-node={processes}", "--module", "headstart.launch"]
    try:
        torchrun([*command, stage, str(job), "--append-to", str(log_file)])
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        # torchrun has passed the signal on to its processes and has waited for them to save.
        if error.sigval != signal.SIGTERM:
            raise
        raise OutOfTime from None


def claim(processes: int) -> None:
    """Take free GPUs for this job, unless Slurm has given it just what it needs."""
    devices = visible_devices()
    if devices and ("SLURM_JOB_ID" not in os.environ or len(devices) > processes):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claim_devices(processes, devices))


def run(stage: str, arguments: dict[str, Any]) -> None:
    """One stage with its arguments."""
    save_on_sigterm()
    if stage == "pretrain":
        from headstart.pretrain import pretrain_start

        pretrain_start(**arguments)
    elif stage == "semisup":
        from headstart.semisup import semisup_start

        semisup_start(**arguments)
    else:
        from headstart.finetune import finetune_run

        finetune_run(**arguments)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m headstart.launch", description="Run one training job by hand.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("job", type=Path, metavar="JOB.json", help="the job's arguments, results/.state/.../job.json")
    parser.add_argument("--max-minutes", type=float, help="save and stop, with exit status 75, before this time is up")
    parser.add_argument("--append-to", type=Path, metavar="LOG", help="log file (default: lines on the terminal)")
    options = parser.parse_args(argv)
    if options.max_minutes is not None:
        os.environ[MINUTES] = str(options.max_minutes)
    if options.append_to:
        log_to(options.append_to, append=True)
        if os.environ.get("RANK", "0") != "0":
            logging.getLogger().setLevel(logging.WARNING)  # one of them tells
    else:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if "RANK" not in os.environ:
        claim(1)
    run(options.stage, read_json(options.job))


if __name__ == "__main__":
    main()
