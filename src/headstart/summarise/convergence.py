"""Convergence: when the runs of each start reach a level of dev error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from headstart.study.study import Study
from headstart.summarise.curves import (
    QUANTITIES,
    Curve,
    area_under_curve,
    at_row,
    evaluated_rows,
    first_reached,
    fit_decay,
)
from headstart.summarise.tables import Row, finite, run_folder
from headstart.training.curve import read_curve


def convergence_of_runs(study: Study, results: Path, target: str, budget: str) -> dict[str, dict[int, Row]]:
    """For each start and each seed with a learning curve: when the run reaches the level of the study's `convergence`.

    A row has the `level`, the quantities at which it is first reached (updates, audio_hours, seconds, flops: all None
    for a run that never gets there), whether they are only upper bounds because the run is there at its first
    evaluation (`bound`), the quantities at the last evaluation (`last`), and the `curve` itself. Seeds without a curve
    of the baseline are left out if the level depends on it.
    """
    column = f"dev_{study.report.metric}"
    reached: dict[str, dict[int, Row]] = {start: {} for start in study.starts}
    for seed in study.seeds:
        curves = {
            start: evaluated_rows(
                read_curve(run_folder(results, study.study, (start, target, budget, seed)) / "curve.parquet"), column
            )
            for start in study.starts
        }
        level = _level(study, curves[study.baseline], column)
        if level is None:
            continue
        for start, curve in curves.items():
            if curve is not None:
                times = first_reached(curve, column, level) or {**dict.fromkeys(QUANTITIES), "bound": False}
                reached[start][seed] = {"level": level, **times, "last": at_row(curve, -1), "curve": curve}
    return reached


def _level(study: Study, baseline: Curve | None, column: str) -> float | None:
    if study.convergence.level is not None:
        return study.convergence.level
    if baseline is None:
        return None
    share = 1.0 if study.convergence.share is None else study.convergence.share
    return share * float(baseline[column][-1])


def convergence_rows(study: Study, reached: dict[str, dict[int, Row]], target: str, budget: str) -> list[Row]:
    """One row for each start: when it typically reaches the level, and the shape of its learning curves.

    `updates`, `audio_hours`, `seconds` and `flops` are medians over the seeds, where a run that never reaches the level
    counts as infinitely late: None means that at least half of the seeds do not. `ratio_to_baseline` is that of the
    updates. `reference_error` is the level, the mean over seeds. `area` is the mean dev error over all updates; `slope`
    and `asymptote` are those of `fit_decay` against updates, on the mean curve of all seeds.
    """
    column = f"dev_{study.report.metric}"

    def median(start: str, key: str) -> float | None:
        values = [math.inf if run["updates"] is None else run[key] for run in reached[start].values()]
        if not values or None in values:
            return None
        # With an even number of seeds, the mean of the middle two is infinite if one is; `finite` makes it None.
        return finite(np.median(values))

    baseline = median(study.baseline, "updates")
    rows = []
    for start in study.starts:
        runs = list(reached[start].values())
        times = {name: median(start, name) for name in QUANTITIES}
        updates = times["updates"]
        decay = fit_decay(*_mean_curve([run["curve"] for run in runs], column)) if runs else None
        rows.append(
            {"start": start, "target": target, "budget": budget}
            | {"reference_error": finite(np.mean([run["level"] for run in runs])) if runs else None, **times}
            | {"ratio_to_baseline": updates / baseline if updates is not None and baseline else None}
            | {"seeds_reached": sum(run["updates"] is not None for run in runs)}
            | {"area": float(np.mean([area_under_curve(run["curve"], column) for run in runs])) if runs else None}
            | {"slope": decay and decay.slope, "asymptote": decay and decay.asymptote}
        )
    return rows


def _mean_curve(curves: list[Curve], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates and mean error over the curves, at the updates at which all of them were evaluated."""
    steps = curves[0]["step"]
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve["step"])
    return steps, np.mean([curve[column][np.isin(curve["step"], steps)] for curve in curves], axis=0)
