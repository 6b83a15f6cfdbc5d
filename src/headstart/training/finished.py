"""Finished checkpoints, kept outside Snakemake's outputs so that no training is lost or repeated.

Snakemake deletes a job's outputs before the job runs and after it fails. That would lose a trained model when a job
reaches its time limit just after the last update, or when its data are rebuilt with the same content. A stage therefore
writes its checkpoint into the folder `finished` beside its saved state; the outputs are hard links to the same files
and take no additional space. A later job with the same identity (see `recipes.py`) reuses this folder instead of
training. Delete the folder to make the job train again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.encoder.checkpoint_files import CheckpointError, checkpoint_content, file_hash, own_recipe
from headstart.files import place_folder, sealed, set_folder_aside, synchronise, write_json, written_whole
from headstart.jobs import TrainingJob
from headstart.training.ranks import is_first_process
from headstart.training.recipes import identity

log = logging.getLogger(__name__)

FOLDER = "finished"
RECIPE, WEIGHTS = "recipe.json", "model.safetensors"


def reuse(job: TrainingJob, recipe: dict[str, Any]) -> bool:
    """Reuse the checkpoint of an earlier job with the same identity; returns whether there was one.

    Every process of a job returns the same answer, and only the first one places the output files. A damaged folder is
    renamed, and the job trains again.
    """
    folder = Path(job.state) / FOLDER
    found = own_recipe(folder)
    if found is None or identity(found) != identity(recipe, like=found):
        return False
    try:
        checkpoint_content(folder)
    except CheckpointError as error:
        log.warning("%s. The folder is renamed to %s.broken, and the job trains again", error, folder.name)
        if is_first_process():
            set_folder_aside(folder)
        return False
    log.info("%s %s: reused from %s, which was trained on the same data and settings", job.stage, job.output, folder)
    if is_first_process():
        place(folder, Path(job.output))
    return True


def finish(job: TrainingJob, recipe: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Write a job's checkpoint into its `finished` folder and place it at the job's output.

    Args:
        recipe: the complete recipe except for the hashes of the weights and the other files, which are added here.
        write: writes everything but the recipe into the folder that it is given.
    """
    folder = Path(job.state) / FOLDER
    partial = folder.with_name(f"{FOLDER}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write(partial)
        files = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
        write_json(partial / RECIPE, sealed({**recipe, "weights": files.pop(WEIGHTS), "files": files}))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # a full disk would stay full
        raise
    shutil.rmtree(folder, ignore_errors=True)
    place_folder(partial, folder)
    place(folder, Path(job.output))


def place(folder: Path, output: Path) -> None:
    """Link the files of `folder` into `output`, or copy them where the file system has no hard links.

    The recipe comes last, so that a folder with a recipe is complete.
    """
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(".*.tmp"):  # of a job that was killed here
        left.unlink(missing_ok=True)
    for source in sorted(folder.iterdir(), key=lambda path: path.name == RECIPE):
        temporary = output / f".{source.name}.{os.getpid()}.tmp"
        try:
            os.link(source, temporary)
        except OSError:
            with written_whole(output / source.name) as copy:
                shutil.copyfile(source, copy)
        else:
            os.replace(temporary, output / source.name)
            temporary.unlink(missing_ok=True)  # which stays where the output is a link to the same file already
        os.utime(output / source.name)  # Snakemake expects outputs to be newer than inputs
    synchronise(output)
