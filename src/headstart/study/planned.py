"""The study as it was when Snakemake planned its jobs, because the study file may be edited while jobs are queued.

A job on another machine is a separate Snakemake process that reads the workflow again, perhaps hours later. The process
that plans the jobs therefore writes the study to a file named by a hash of its content, and passes the file's path on
in an environment variable. The settings that are recorded for a job are then those with which it ran.
"""

from __future__ import annotations

import os
from pathlib import Path

from headstart.files import fingerprint_rows, read_json, write_json
from headstart.study.reading import StudyError, parse_study
from headstart.study.study import Study

VARIABLE = "HEADSTART_STUDY"


def variable(module: str | None) -> str:
    """The environment variable with the path of the planned study; each module of another Snakefile has its own."""
    return f"{VARIABLE}_{module}" if module else VARIABLE


def planned_path(study: Study) -> str:
    """Path of the file with this study for its jobs, relative to Snakemake's working directory.

    It is relative because the nodes of a cluster may see that directory under another name. The hash in the name
    depends on the order of keys, because the report lists starts in the order of the study.
    """
    content = fingerprint_rows([study.model_dump(mode="json", by_alias=True)])
    return f"results/.planned/{study.study}-{content}.json"


def keep_planned(study: Study) -> None:
    """Write the study to `planned_path`, unless the file exists."""
    path = Path(planned_path(study))
    if not path.is_file():
        write_json(path, study.model_dump(mode="json", by_alias=True))


def planned_study(module: str | None = None) -> Study:
    """Read the study with which this job was planned.

    Args:
        module: the name of the module that Headstart's workflow is in another Snakefile; None if it is the main one.

    Raises:
        StudyError: the environment variable is not set, or the file does not exist or is not valid.
    """
    path = os.environ.get(variable(module))
    if not path:
        raise StudyError(
            f"the environment variable {variable(module)} is not set in this job, so the study that it was planned "
            "with cannot be found. Let the executor pass on the variables that the workflow lists under `envvars`"
        )
    if not Path(path).is_file():
        raise StudyError(
            f"{path}: the study that this job was planned with is not in {Path.cwd()}. Start Snakemake again, in a "
            "folder that the job's machine sees too"
        )
    return parse_study(read_json(path), path)
