"""Finished results of training jobs, kept so that no training is lost or done twice.

Snakemake deletes a job's outputs before it runs the job and after it has failed, also when all that failed was a time
limit just after the last update, or when data were made anew with equal content. So a stage writes its checkpoint into
a folder `finished` beside its saved state, and gives the outputs to the same files as hard links, which take no room. A
job of the same identity (see `recipes.py`) takes them from there. Delete the folder to have the job train again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.encoder.checkpoint_files import CheckpointError, checkpoint_content, file_hash, own_recipe
from headstart.files import move_aside, write_json
from headstart.jobs import TrainingJob
from headstart.training.recipes import identity

log = logging.getLogger(__name__)

FOLDER = "finished"
RECIPE, WEIGHTS = "recipe.json", "model.safetensors"


def is_first() -> bool:
    """Whether this process writes, among those that torchrun has started for one job."""
    return os.environ.get("RANK", "0") == "0"


def reuse(job: TrainingJob, recipe: dict[str, Any]) -> bool:
    """Whether a job of this identity has finished before; its checkpoint is then put in place.

    All processes of a job answer alike, and the first one puts the files in place.
    """
    folder = Path(job.state) / FOLDER
    found = own_recipe(folder)
    if found is None or identity(found) != identity(recipe):
        return False
    try:
        checkpoint_content(folder)
    except CheckpointError as error:
        log.warning("%s; the folder is set aside and the job trains again", error)
        if is_first():
            move_aside(folder)
        return False
    log.info("%s %s: trained before from the same data and settings, and taken from %s", job.stage, job.output, folder)
    if is_first():
        place(folder, Path(job.output))
    return True


def finish(job: TrainingJob, recipe: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Keep what a job has trained, and put it in place.

    Args:
        recipe: whole, but for the hash of the weights.
        write: writes everything but the recipe into a folder.
    """
    folder = Path(job.state) / FOLDER
    partial = folder.with_name(f"{FOLDER}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    write_json(partial / RECIPE, {**recipe, "weights": file_hash(partial / WEIGHTS)})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    place(folder, Path(job.output))


def place(folder: Path, output: Path) -> None:
    """Give `output` the files of `folder`, as links where the file system has them, and else as copies; recipe last."""
    output.mkdir(parents=True, exist_ok=True)
    for source in sorted(folder.iterdir(), key=lambda path: path.name == RECIPE):
        temporary = output / f".{source.name}.{os.getpid()}.tmp"
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, output / source.name)
        os.utime(output / source.name)  # as of now: it is newer than what it was made from
