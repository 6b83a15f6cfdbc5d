"""The report's table of the checkpoints from outside the study: what they were pre-trained on, and their licences."""

from __future__ import annotations

from typing import Any

from headstart.encoder.hub_folder import source_of
from headstart.study.facts import Facts
from headstart.study.starts import Checkpoint
from headstart.study.study import Study
from headstart.workflow import Workflow, outside_folder

Row = dict[str, Any]
SHOWN = 6  # languages or families that are listed by name


def checkpoint_rows(study: Study, runs: list[Row]) -> list[Row]:
    """A row for each start that is, or goes on from, a checkpoint from outside the study.

    Args:
        runs: fine-tuning runs with `start` and `recipe`, of which the number of parameters is taken.
    """
    parameters: dict[str, int] = {}
    for run in runs:
        if (number := run["recipe"].get("parameters")) is not None:
            parameters.setdefault(run["start"], number)
    workflow, rows = Workflow(study), []
    for name, start in study.starts.items():
        if folder := outside_folder(start):
            facts = workflow.facts(name)
            row = {"start": name, "checkpoint": named(start, source_of(folder)), "parameters": parameters.get(name)}
            rows.append(row | facts.model_dump(include={"hours", "licence", "source"}) | _listed(facts))
    return rows


def named(start: Checkpoint, source: Row | None = None) -> str:
    """The checkpoint that a start names, such as `facebook/wav2vec2-base (main, commit 0b5b8e8)`, or its folder.

    Args:
        source: the record of the model's fetching, which has the commit.
    """
    if start.hub_model is None:
        return start.path
    model, revision = start.hub_model
    commit = (source or {}).get("commit", revision)
    return f"{model} (commit {commit[:7]})" if commit == revision else f"{model} ({revision}, commit {commit[:7]})"


def _listed(facts: Facts) -> Row:
    languages, families = facts.languages or (), facts.families or ()
    few = 0 < len(languages) <= SHOWN and len(languages) == facts.language_count
    return {
        "languages": ", ".join(languages) if few else facts.language_count,
        "families": ", ".join(families) if len(families) <= SHOWN else f"at least {len(families)}",
    }
