"""Computes `summary.json` from score files and learning curves: rates, intervals, contrasts and convergence.

Every number of the report comes from the dict that `summarise` returns. All rates in it are fractions (0.25 is 25 %).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from headstart.files import read_sealed, sealed, write_json, written_whole
from headstart.score.metrics import CURVE_METRICS
from headstart.study.study import Study
from headstart.summarise.claims import claim_rows
from headstart.summarise.code_switching import mixing_rows
from headstart.summarise.contrasts import (
    average_rows,
    best_rows,
    cell_rows,
    contrast_rows,
    designs_of,
    run_rows,
    scores_of,
)
from headstart.summarise.convergence import convergence_of_runs, convergence_rows
from headstart.summarise.curves import mean_of_column
from headstart.summarise.design import Design
from headstart.summarise.power import spread_rows
from headstart.summarise.probe import probe_section
from headstart.summarise.representation import representation_designs, representation_rows
from headstart.summarise.similarity import measures_of
from headstart.summarise.speed import speed_designs, speed_rows
from headstart.summarise.tables import Row, run_folder
from headstart.summarise.training_time import training_design
from headstart.summarise.transfer import transfer_section
from headstart.training.curve import read_curve


def summarise(study: Study, results: Path) -> dict[str, Any]:
    """All numbers of the report, as a pure function of `study` and of the files in `<results>/<study>`.

    The files are score files, learning curves, recipes and, when the study sets `analyse`, similarities; and how alike
    its languages are.
    Keys of the result: `study`, `metric`, `confidence`, `smallest_effect`, and lists of rows:

    - `claims`: the study's claims with their verdicts (see `claim_rows`).
    - `runs`: error rates of each run, and what is wrong with its training, if anything (`diagnosis`, rows of `key` and
      `sentence`, see training/diagnosis.py); `cells`: the geometric mean over seeds, with intervals.
    - `contrasts`: paired differences, treatment minus baseline, for each pair of `study.comparisons()`, also as a
      fraction of the baseline's rate (`relative`); `averages`: the mean of `relative` over all targets; `best`: the
      start with the lowest error rate on each target and budget.
    - `mixing`: how much the test transcripts of code-switched targets mix languages (see `mixing_rows`).
    - `stages`: training time of each start that the study trained, compared with the time of the pre-training before
      it, and the share of pseudo-labels that was used.
    - `convergence`: when each start reaches the level of the study's `convergence` (see `convergence_rows`);
      `speed`: how much faster one start gets there than another (see `speed_rows`).
    - `representation`, `representation_gap`, `representation_contrasts`: see `representation_rows`; empty when the
      study does not set `analyse`.
    - `spread`: how much runs and test speakers vary (see `spread_rows`).
    - `transfer`: what makes a start transfer (see `transfer_section`); None in a study with few starts or languages.

    - `probe`: what probes foretell (see `probe_section`); there is no such key when the study does not set `probe`.

    Each row of `contrasts`, `averages`, `representation_contrasts` and `speed` has a `verdict` on its difference (see
    `verdicts_of`). Values that cannot be computed are None.

    Raises:
        HeadstartError: a score file or a table of similarities is missing or incomplete, or a curve cannot be read.
        ValueError: runs that are compared were not scored on the same utterances and references.
    """
    results = Path(results)
    groups = [(target, budget) for target in study.targets for budget in study.budgets]
    scores = {group: scores_of(study, results, *group) for group in groups}
    times = {group: convergence_of_runs(study, results, *group) for group in groups}
    designs = designs_of(study, scores)
    stages = _stages(study, results)
    comparable = dict(designs)
    speeds = speed_designs(study, times)
    if "updates" in speeds:
        comparable["updates"] = speeds["updates"]
    if any(claim.metric == "seconds" for claim in study.claims) and (trained := training_design(study, results)):
        comparable["seconds"] = trained
    representation: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    if analysed := representation_designs(study, results):
        representation = representation_rows(study, *analysed)
        comparable["gap"] = analysed[0]
    layers, gaps, gap_contrasts = representation
    drawn_by = " and ".join(sorted({by_start[study.baseline][0].blocks[0] for by_start in scores.values()}))
    return {
        "study": study.study,
        "metric": study.report.metric,
        "confidence": study.report.confidence,
        "smallest_effect": study.report.smallest_effect,
        "claims": claim_rows(study, comparable, stages),
        "runs": _in_study_order(
            study,
            [
                row | {"diagnosis": _diagnosis(study, results, row)}
                for group in groups
                for row in run_rows(study, scores[group], times[group], *group)
            ],
        ),
        "cells": cell_rows(study, designs),
        "contrasts": contrast_rows(study, designs),
        "averages": average_rows(study, designs),
        "best": best_rows(study, designs),
        "mixing": mixing_rows(study, results),
        "stages": stages,
        "convergence": _in_study_order(
            study, [row for group in groups for row in convergence_rows(study, times[group], *group)]
        ),
        "speed": speed_rows(study, speeds, times),
        "representation": layers,
        "representation_gap": gaps,
        "representation_contrasts": gap_contrasts,
        "spread": spread_rows(comparable, drawn_by),
        "transfer": transfer_section(study, designs, measures_of(study, results)),
        **(
            {"probe": probe_section(study, results, designs.get(study.report.metric, Design({})))}
            if study.probe
            else {}
        ),
    }


def write_summary(study: Study, results: Path, recipe: str = "") -> Path:
    """Write `<results>/<study>/summary.json` and, beside it, `metrics.json` and `curves.csv`.

    The latter two repeat numbers in forms that DVC can compare: it reads metrics from nested keys and not from rows,
    and plots from text files. Each file is written whole or not at all. Returns the path of the summary.

    `recipe` is a hash of the summary's inputs. After a clone, it tells whether the summary is up to date.
    """
    path = Path(results) / study.study / "summary.json"
    summary = summarise(study, results)
    _write_curves(study, results, path.with_name("curves.csv"))
    write_json(path.with_name("metrics.json"), nested_metrics(summary))
    write_json(path, sealed({**summary, "recipe": recipe}))
    return path


def nested_metrics(summary: dict[str, Any]) -> Row:
    """Error rates, updates to the reference level and representation gap: start -> target -> budget -> metric."""
    nested: Row = {}
    for cell, row in zip(summary["cells"], summary["convergence"], strict=True):
        values = {name.removesuffix("_low"): cell[name.removesuffix("_low")] for name in cell if name.endswith("_low")}
        values |= {"updates_to_reference": row["updates"]}
        nested.setdefault(cell["start"], {}).setdefault(cell["target"], {})[cell["budget"]] = values
    for row in summary["representation_gap"]:
        nested[row["start"]][row["target"]][row["budget"]]["representation_gap"] = row["gap"]
    return nested


def _write_curves(study: Study, results: Path, path: Path) -> None:
    """Write the dev error rates of every run as CSV, one row per evaluation; a metric that a curve lacks is empty."""
    columns = [f"dev_{metric}" for metric in CURVE_METRICS]
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start", "target", "budget", "seed", "step", *columns])
        for run in study.runs():
            curve = read_curve(run_folder(results, study.study, run) / "curve.parquet")
            if curve is None:
                continue
            unknown = np.full(len(curve["step"]), math.nan)
            rows = zip(curve["step"].tolist(), *(curve.get(name, unknown).tolist() for name in columns), strict=True)
            for step, *rates in rows:
                if any(map(math.isfinite, rates)):
                    writer.writerow([*run, int(step), *("" if math.isnan(rate) else rate for rate in rates)])


def _stages(study: Study, results: Path) -> list[Row]:
    """Training time of each start that the study trained, and as a share of all pre-training before it, where known.

    Of a start that was trained for each seed, these are means over `instances` trainings; of any other, it is one
    training. `pseudo_used` is the mean share of pseudo-labels that were used, or None where there were none.
    """
    rows = []
    for name, start in study.starts.items():
        folders = [Path(results) / study.study / "starts" / instance for instance in study.instances(name).values()]
        folders = [folder for folder in folders if (folder / "recipe.json").is_file()]
        if not folders:
            continue
        recipes = [read_sealed(folder / "recipe.json") for folder in folders]
        seconds = _mean([recipe.get("wall_s") for recipe in recipes])
        before = _mean([_pretraining_seconds(recipe) for recipe in recipes])
        used = _mean([mean_of_column(read_curve(folder / "curve.parquet"), "pseudo_kept") for folder in folders])
        rows.append(
            {"start": name, "kind": start.kind, "instances": len(recipes)}
            | {"updates": recipes[0].get("settings", {}).get("updates")}
            | {"seconds": seconds, "pretraining_seconds": before}
            | {"share_of_pretraining": seconds / before if seconds and before else None, "pseudo_used": used}
        )
    return rows


def _diagnosis(study: Study, results: Path, run: Row) -> list[Row]:
    """The findings in the recipe of a run."""
    path = run_folder(results, study.study, (run["start"], run["target"], run["budget"], run["seed"])) / "recipe.json"
    return (read_sealed(path) if path.is_file() else {}).get("diagnosis", [])


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _pretraining_seconds(recipe: Row) -> float | None:
    """The time of all pre-training before a start; None without any, or if it is not known."""
    seconds, parent = 0.0, recipe.get("parent")
    while isinstance(parent, dict):
        if parent.get("stage") == "pretrain":
            if parent.get("wall_s") is None:
                return None
            seconds += parent["wall_s"]
        parent = parent.get("parent")
    # A parent that is no dict is the name of a checkpoint that Headstart did not train.
    return None if parent else seconds or None


def _in_study_order(study: Study, rows: list[Row]) -> list[Row]:
    """Rows sorted by start, in the order of the study file; targets, budgets and seeds are in order already."""
    order = list(study.starts)
    return sorted(rows, key=lambda row: order.index(row["start"]))
