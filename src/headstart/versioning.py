"""The file with which DVC keeps a study: its metrics, plots, parameters and results."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from headstart.files import written_whole

DEFAULT = "config/config.yaml"  # the study that `snakemake` runs without `--configfile`; its file is dvc.yaml itself

TEMPLATE = """\
# {study}, for DVC: its metrics, plots, parameters and results. `${{study}}` is the study's name.
# Written by `headstart dvc`; docs/versioning.md explains it.
#
#   dvc repro{target}               run what is out of date after an edit of the study, and record the results
#   dvc metrics diff HEAD   error rates against the last commit; likewise `dvc params diff`, `dvc plots diff`
#   dvc exp run{target} -S {study}:finetune.updates=300   the same with another value, as an experiment

vars:
  - {up}{study}

params:
  - {up}{study}

metrics:
  - {up}results/${{study}}/metrics.json

plots:
  - Character error rate on dev{of}:
      x: step
      y:
        {up}results/${{study}}/curves.csv: dev_cer
      template: learning_curves

stages:
  study:
{wdir}    # Snakemake runs the study, in the environment that `make` builds if there is one.
    cmd: PATH="$PWD/.venv/bin:$PATH" snakemake --cores all{configfile}
    # Snakemake decides which jobs run, so it is always called, and existing results are not deleted first.
    always_changed: true
    params:
      - {study}:
    deps:
      - Snakefile
      - rules
      - workflow
      - src/headstart
      - starts
    outs:
      - results/${{study}}:
          persist: true
"""


def dvc_folder(study: str) -> Path:
    """The folder of a study's file for DVC, relative to the repository; `study` is the study's name."""
    return Path("versions") / study


def dvc_file(file: str, folder: Path) -> str:
    """The content of the dvc.yaml of a study.

    Args:
        file: the study file, relative to the repository.
        folder: where the dvc.yaml will be, relative to the repository.
    """
    up = os.path.relpath(".", folder)
    own = up != "."
    return TEMPLATE.format(
        study=file,
        up=f"{up}/" if own else "",
        target=f" {folder}/dvc.yaml" if own else "",
        of=f", {folder.name}" if own else "",
        wdir=f"    wdir: {up}\n" if own else "",
        configfile="" if file == DEFAULT else f" --configfile {shlex.quote(file)}",
    )


def write_dvc_file(file: str, study: str) -> Path:
    """Write the dvc.yaml of a study, which lies in the current folder; returns its path."""
    file = os.path.relpath(file)
    folder = Path(".") if file == DEFAULT else dvc_folder(study)
    with written_whole(folder / "dvc.yaml") as temporary:
        temporary.write_text(dvc_file(file, folder), encoding="utf-8")
    return folder / "dvc.yaml"
