"""Convergence: after how many updates a start is as good as the baseline in the end."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from headstart.study.study import Study
from headstart.summarise.tables import Row, finite, run_folder
from headstart.training.curve import read_curve


def convergence_of_runs(study: Study, results: Path, target: str, budget: str) -> dict[str, dict[int, Row]]:
    """For each start and each seed with learning curves: when the run reaches the baseline's final dev error."""
    column = f"dev_{study.report.metric}"
    reached: dict[str, dict[int, Row]] = {start: {} for start in study.starts}
    for seed in study.seeds:
        curves = {
            start: evaluated_rows(read_curve(run_folder(results, study.study, run) / "curve.parquet"), column)
            for start in study.starts
            if (run := (start, target, budget, seed))
        }
        baseline = curves[study.baseline]
        if baseline is None:
            continue
        reference = float(baseline[column][-1])
        for start, curve in curves.items():
            if curve is not None:
                reached[start][seed] = {
                    "reference": reference,
                    **_first_at_or_below(curve, column, reference),
                }
    return reached


def evaluated_rows(curve: dict[str, np.ndarray] | None, column: str) -> dict[str, np.ndarray] | None:
    """The rows of a curve that have a value in `column`; None when there are none."""
    if curve is None or column not in curve:
        return None
    rows = np.isfinite(curve[column])
    return {name: values[rows] for name, values in curve.items()} if rows.any() else None


def mean_of_column(curve: dict[str, np.ndarray] | None, column: str) -> float | None:
    rows = evaluated_rows(curve, column)
    return None if rows is None else float(rows[column].mean())


def _first_at_or_below(curve: dict[str, np.ndarray], column: str, reference: float) -> Row:
    """Updates, hours of audio and seconds at the first row with a value of at most `reference`; None if never."""
    rows = np.flatnonzero(curve[column] <= reference)
    if not rows.size:
        return {"updates": None, "audio_hours": None, "seconds": None}
    row = rows[0]
    hours, seconds = (finite(curve[name][row]) if name in curve else None for name in ("audio_hours_seen", "wall_s"))
    return {"updates": int(curve["step"][row]), "audio_hours": hours, "seconds": seconds}


def convergence_rows(study: Study, reached: dict, target: str, budget: str) -> list[Row]:
    def median(start: str, key: str) -> float | None:
        # A seed that does not reach the reference counts as infinity, so that the median includes every seed.
        values = [math.inf if run["updates"] is None else run[key] for run in reached[start].values()]
        if not values or None in values:
            return None
        # With an even number of seeds, the mean of the middle two is infinite if one is; `finite` makes it None.
        return finite(np.median(values))

    baseline = median(study.baseline, "updates")
    rows = []
    for start in study.starts:
        seeds = reached[start].values()
        updates = median(start, "updates")
        rows.append(
            {
                "start": start,
                "target": target,
                "budget": budget,
                "reference_error": finite(np.mean([run["reference"] for run in seeds])) if seeds else None,
                "updates": updates,
                "audio_hours": median(start, "audio_hours"),
                "seconds": median(start, "seconds"),
                "ratio_to_baseline": updates / baseline if updates is not None and baseline else None,
                "seeds_reached": sum(run["updates"] is not None for run in seeds),
            }
        )
    return rows
