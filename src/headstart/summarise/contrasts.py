"""Error rates of starts, and their paired differences, with intervals and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from headstart.score.metrics import metric_named
from headstart.study.study import Study
from headstart.summarise.design import Cell, Design
from headstart.summarise.estimates import Estimate, holm
from headstart.summarise.rates import check_same_utterances, error_rate
from headstart.summarise.tables import Counts, Row, read_counts, score_path

Verdict = Literal["lower", "higher", "equal", "unclear"]
Scores = dict[str, list[Counts]]  # start -> counts of each seed


def scores_of(study: Study, results: Path, target: str, budget: str) -> Scores:
    """Counts of every start, one entry per seed.

    Raises:
        ValueError: the files are not over the same utterances and references.
    """
    scores: Scores = {}
    first_path = first = None
    for start in study.starts:
        scores[start] = []
        for seed in study.seeds:
            path = score_path(results, study.study, (start, target, budget, seed))
            counts = read_counts(path)
            first_path, first = first_path or path, first or counts
            check_same_utterances(first.utterance_ids, counts.utterance_ids, str(first_path), str(path))
            if only := sorted(first.reference.keys() ^ counts.reference.keys()):
                raise ValueError(
                    f"{first_path} and {path} do not have the same metrics, such as {only[0]}; score both again with "
                    "the same text settings and decoding"
                )
            for name in counts.reference:
                other = np.flatnonzero(first.reference[name] != counts.reference[name])
                if other.size:
                    names = ", ".join(counts.utterance_ids[i] for i in other[:5])
                    raise ValueError(
                        f"{first_path} and {path} count different reference {metric_named(name).units} in "
                        f"{other.size} utterance(s): {names}; score both again with the same text settings"
                    )
            scores[start].append(counts)
    return scores


def run_rows(study: Study, scores: Scores, reached: dict, target: str, budget: str) -> list[Row]:
    """The error rates of every run, and the updates after which it reaches the level of the convergence."""
    return [
        {
            "start": start,
            "target": target,
            "budget": budget,
            "seed": seed,
            **{name: error_rate(counts.errors[name], counts.reference[name]) for name in counts.errors},
            "updates_to_reference": reached[start][seed]["updates"] if seed in reached[start] else None,
        }
        for start in study.starts
        for seed, counts in zip(study.seeds, scores[start], strict=True)
    ]


def designs_of(study: Study, scores: dict[tuple[str, str], Scores]) -> dict[str, Design]:
    """The design of all runs by each metric, with the targets to which it applies. `scores` are by target, budget."""
    designs = {}
    names = dict.fromkeys(name for by_start in scores.values() for name in by_start[study.baseline][0].errors)
    for metric in names:
        cells = {}
        for (target, budget), by_start in scores.items():
            first = by_start[study.baseline][0]
            if metric not in first.errors:
                continue
            cells[target, budget] = Cell.of_counts(
                study.targets[target].corpus,
                list(study.starts),
                np.array([[run.errors[metric] for run in by_start[start]] for start in study.starts]),
                first.reference[metric],
                first.blocks[1],
            )
        designs[metric] = Design(cells)
    return designs


def applying(designs: dict[str, Design], target: str, budget: str) -> list[tuple[str, Design]]:
    """The metrics that apply to a target, with their designs."""
    return [(metric, design) for metric, design in designs.items() if (target, budget) in design.cells]


def cell_rows(study: Study, designs: dict[str, Design]) -> list[Row]:
    """The error rates of each start, target and budget: the geometric mean over seeds, with its interval.

    A metric that does not apply to the target has no keys.
    """
    rows = []
    for start in study.starts:
        for target in study.targets:
            for budget in study.budgets:
                row = {"start": start, "target": target, "budget": budget}
                for metric, design in applying(designs, target, budget):
                    level = design.level(target, budget, start)
                    low, high = np.exp(level.interval(study.report.confidence)).tolist()
                    row |= {metric: float(np.exp(level.value)), f"{metric}_low": low, f"{metric}_high": high}
                rows.append(row)
    return rows


def contrast_rows(study: Study, designs: dict[str, Design]) -> list[Row]:
    """The paired difference of each comparison of the study, on each target and budget and by each metric.

    `relative` is the change of the error rate as a share of the baseline's; `difference` is the same in points, at the
    baseline's measured rate. P values are adjusted for all rows of a metric.
    """
    rows, estimates = [], []
    for target in study.targets:
        for budget in study.budgets:
            for metric, design in applying(designs, target, budget):
                for treatment, baseline in study.comparisons():
                    group = {"treatment": treatment, "baseline": baseline, "target": target, "budget": budget}
                    estimate, difference = paired_difference(design, **group, confidence=study.report.confidence)
                    rows.append({**group, "metric": metric, **difference})
                    estimates.append(estimate)
    return judged(study, rows, estimates, "metric")


def average_rows(study: Study, designs: dict[str, Design]) -> list[Row]:
    """The mean relative change over all targets to which a metric applies, for each budget and comparison.

    There are no rows for a metric of a single target.
    """
    rows, estimates = [], []
    for budget in study.budgets:
        for treatment, baseline in study.comparisons():
            for metric, design in designs.items():
                targets = [target for target in study.targets if (target, budget) in design.cells]
                if len(targets) < 2:
                    continue
                share = 1 / len(targets)
                weights = {(target, budget): {treatment: share, baseline: -share} for target in targets}
                estimates.append(design.difference(weights))
                rows.append(
                    {"treatment": treatment, "baseline": baseline, "budget": budget, "metric": metric}
                    | changes(estimates[-1], study.report.confidence)
                )
    return judged(study, rows, estimates, "metric")


def best_rows(study: Study, designs: dict[str, Design]) -> list[Row]:
    """By each metric, the start with the lowest error rate on each target and budget, and its rivals.

    `rivals` are the starts that are not clearly worse. Because the best start is picked by its results, p values are
    adjusted for all pairs of starts.
    """
    rows = []
    for target in study.targets:
        for budget in study.budgets:
            for metric, design in applying(designs, target, budget):
                best = min(study.starts, key=lambda start: design.mean(target, budget, start))  # noqa: B023
                pairs = list(combinations(study.starts, 2))
                estimates = [design.difference({(target, budget): {one: 1.0, other: -1.0}}) for one, other in pairs]
                adjusted = holm([estimate.p for estimate in estimates]) if len(study.seeds) > 1 else [1.0] * len(pairs)
                unclear = [pair for pair, p in zip(pairs, adjusted, strict=True) if p >= 1 - study.report.confidence]
                rivals = [start for start in study.starts if (best, start) in unclear or (start, best) in unclear]
                rows.append({"target": target, "budget": budget, "metric": metric, "start": best, "rivals": rivals})
    return rows


def paired_difference(
    design: Design, treatment: str, baseline: str, target: str, budget: str, confidence: float
) -> tuple[Estimate, Row]:
    """The difference of two starts, as an estimate on the log scale and as a row.

    The row has the relative change (`relative`, `relative_low`, `relative_high`) and what it amounts to at the measured
    level of the baseline (`difference`, `low`, `high`).
    """
    estimate = design.difference({(target, budget): {treatment: 1.0, baseline: -1.0}})
    change, base = changes(estimate, confidence), float(np.exp(design.mean(target, budget, baseline)))
    names = {"difference": "relative", "low": "relative_low", "high": "relative_high"}
    return estimate, {**{name: base * change[key] for name, key in names.items()}, **change}


def changes(estimate: Estimate, confidence: float) -> Row:
    """A difference of logs as a relative change (-0.1 is 10 % less), with its interval."""
    low, high = np.expm1(estimate.interval(confidence))
    return {"relative": float(np.expm1(estimate.value)), "relative_low": float(low), "relative_high": float(high)}


def judged(
    study: Study,
    rows: list[Row],
    estimates: list[Estimate],
    family: str,
    smallest_effect: float | None = None,
) -> list[Row]:
    """The rows with `p`, `p_adjusted`, `degrees_of_freedom` and `verdict` of their estimates.

    P values are adjusted among the rows with the same value of the key `family`. With one seed nothing is known of how
    much runs vary: there are no p values, and every verdict is `unclear`.
    """
    families: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        families.setdefault(row[family], []).append(i)
    for members in families.values():
        verdicts = verdicts_of(
            [estimates[i] for i in members],
            confidence=study.report.confidence,
            smallest_effect=study.report.smallest_effect if smallest_effect is None else smallest_effect,
            seeds=len(study.seeds),
        )
        for i, values in zip(members, verdicts, strict=True):
            rows[i] |= values
    return rows


def verdicts_of(
    estimates: Sequence[Estimate], *, confidence: float, smallest_effect: float | Sequence[float], seeds: int
) -> list[Row]:
    """What can be said of differences of logs that are judged together.

    A difference is `lower` or `higher` if its two-sided p value, adjusted by Holm's method, is below 1 - confidence. It
    is `equal` if that of two one-sided tests is, against a relative change by `smallest_effect` in either direction.
    Otherwise it is `unclear`. So is a difference without any error, which comes from runs that do not vary at all: they
    are one and the same, or none of them has recognised anything.
    """
    if seeds < 2:
        nothing = dict.fromkeys(("p", "p_adjusted", "p_equal", "degrees_of_freedom"))
        return [{**nothing, "verdict": "unclear"} for _ in estimates]
    margins = np.log1p(np.broadcast_to(smallest_effect, len(estimates)))
    p_values = [estimate.p for estimate in estimates]
    p_equal = [estimate.p_equal(margin) for estimate, margin in zip(estimates, margins, strict=True)]
    rows = []
    for estimate, p, adjusted, equal in zip(estimates, p_values, holm(p_values), holm(p_equal), strict=True):
        verdict: Verdict = "unclear"
        if adjusted < 1 - confidence and not estimate.exact:
            verdict = "lower" if estimate.value < 0 else "higher"
        elif equal < 1 - confidence and not estimate.exact:
            verdict = "equal"
        df = estimate.degrees_of_freedom
        rows.append(
            {"p": p, "p_adjusted": adjusted, "p_equal": equal}
            | {"degrees_of_freedom": df if np.isfinite(df) else None, "verdict": verdict}
        )
    return rows
