"""How much faster one start reaches a level of error than another, with an interval.

The times are compared as error rates are: as logarithms, in the randomised block design of the study. A run that never
reaches the level is censored: its time is longer than the run. It counts with the time of its last evaluation, so that
the speed-up is a bound. Likewise, a run that is at the level at its first evaluation counts with that evaluation's
time, and may have been there sooner.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from headstart.study.study import Study
from headstart.summarise.contrasts import judged
from headstart.summarise.curves import QUANTITIES
from headstart.summarise.design import Cell, Design
from headstart.summarise.estimates import Estimate
from headstart.summarise.tables import Row

Times = dict[tuple[str, str], dict[str, dict[int, Row]]]  # (target, budget) -> start -> seed -> row


def speed_designs(study: Study, times: Times) -> dict[str, Design]:
    """The design of the logarithms of each quantity that the learning curves have, over starts with all seeds' curves.

    Starts some of whose runs are censored, or there at their first evaluation, are marked as bounds.
    """
    designs = {}
    for quantity in QUANTITIES:
        cells = {}
        for (target, budget), by_start in times.items():
            rows = {
                start: values
                for start in study.starts
                if all(values := [_time(by_start[start].get(seed), quantity) for seed in study.seeds])
            }
            if rows:
                cells[target, budget] = Cell(
                    study.targets[target].corpus,
                    list(rows),
                    np.log([[time for time, _ in values] for values in rows.values()]),
                    bounds=np.array([any(bound for _, bound in values) for values in rows.values()]),
                )
        if len(cells) == len(times):
            designs[quantity] = Design(cells)
    return designs


def _time(row: Row | None, quantity: str) -> tuple[float, str | None] | None:
    """The time until a run reaches the level, and whether it is only a bound; None if it is not known.

    The bound is `later` if the run never gets there, and `sooner` if it is there at its first evaluation.
    """
    if row is None:
        return None
    censored = row["updates"] is None
    time = row["last"].get(quantity) if censored else row[quantity]
    return (time, "later" if censored else "sooner" if row["bound"] else None) if time else None


def speed_rows(study: Study, designs: dict[str, Design], times: Times) -> list[Row]:
    """The speed-up of each comparison of the study: the baseline's time over the treatment's, by every quantity.

    `speedup` 2 means in half the time. `bound` is `at least` if runs of the baseline may take longer, or runs of the
    treatment less, than is known; `at most` in the opposite case; and `none` in both, when nothing can be said.
    `verdict` is `faster`, `slower`, `equal` or `unclear`; p values are adjusted for all rows of a quantity.
    """
    rows, estimates = [], []
    for (quantity, design), (treatment, baseline) in product(designs.items(), study.comparisons()):
        for (target, budget), cell in design.cells.items():
            if treatment not in cell.starts or baseline not in cell.starts:
                continue
            estimate = design.difference({(target, budget): {treatment: 1.0, baseline: -1.0}})
            low, high = estimate.interval(study.report.confidence)
            rows.append(
                {"treatment": treatment, "baseline": baseline, "target": target, "budget": budget}
                | {"quantity": quantity, "speedup": float(np.exp(-estimate.value))}
                | {"low": float(np.exp(-high)), "high": float(np.exp(-low))}
                | {"bound": _bound(times[target, budget], treatment, baseline)}
            )
            estimates.append(estimate)
    rows = judged(study, rows, estimates, "quantity", study.convergence.smallest_effect)
    for row, estimate in zip(rows, estimates, strict=True):
        row["verdict"] = _verdict(row, estimate)
    return rows


def _bound(times: dict[str, dict[int, Row]], treatment: str, baseline: str) -> str | None:
    """Which bound of the speed-up is known; None if the speed-up itself is."""
    bounds = [
        {known[1] for row in times[start].values() if (known := _time(row, "updates"))}
        for start in (treatment, baseline)
    ]
    ours, theirs = bounds
    at_least, at_most = "sooner" in ours or "later" in theirs, "later" in ours or "sooner" in theirs
    if at_least and at_most:
        return "none"
    return "at least" if at_least else "at most" if at_most else None


def _verdict(row: Row, estimate: Estimate) -> str:
    """The verdict as a speed, where the bound allows it."""
    word = {"lower": "faster", "higher": "slower"}.get(row["verdict"], row["verdict"])
    allowed = {None: {"faster", "slower", "equal"}, "at least": {"faster"}, "at most": {"slower"}, "none": set()}
    return word if word in allowed[row["bound"]] else "unclear"
