"""The study as it was planned, for jobs that read it again: a study file may be edited while its jobs are queued.

A job on another machine is a Snakemake process of its own, which reads the workflow anew, hours later perhaps. The
process that plans the jobs therefore writes the study to a file that is named by its content, and hands the file's
path on in an environment variable. What it records as a job's settings is then what the job has run with.
"""

from __future__ import annotations

import os
from pathlib import Path

from headstart.files import fingerprint_rows, read_json, write_json
from headstart.study.study import Study, StudyError, parse_study

VARIABLE = "HEADSTART_STUDY"


def planned_path(study: Study) -> str:
    """Where this study is kept for its jobs, relative to the folder that Snakemake works in.

    The path is relative because a cluster's nodes may see that folder under another name. The order of keys counts:
    the order of starts is that of the report.
    """
    content = fingerprint_rows([study.model_dump(mode="json", by_alias=True)])
    return f"results/.planned/{study.study}-{content}.json"


def keep_planned(study: Study) -> None:
    """Write the study for its jobs, if the same one is not there yet."""
    path = Path(planned_path(study))
    if not path.is_file():
        write_json(path, study.model_dump(mode="json", by_alias=True))


def planned_study() -> Study:
    """The study that this job was planned with; raises `StudyError` when it cannot be found."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise StudyError(
            f"the environment variable {VARIABLE} is not set in this job, so the study that it was planned with cannot "
            "be found. Let the executor pass on the variables that the workflow lists under `envvars`"
        )
    if not Path(path).is_file():
        raise StudyError(
            f"{path}: the study that this job was planned with is not in {Path.cwd()}. Start Snakemake again, in a "
            "folder that the job's machine sees too"
        )
    return parse_study(read_json(path), path)
