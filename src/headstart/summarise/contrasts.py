"""Error rates of starts, and their paired differences, with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.score.metrics import METRICS
from headstart.study.study import Study
from headstart.summarise.statistics import (
    RNG_SEED,
    bootstrap_rates,
    check_same_utterances,
    error_rate,
    percentile_interval,
)
from headstart.summarise.tables import Counts, Row, finite, read_counts, score_path


def scores_of(study: Study, results: Path, target: str, budget: str) -> dict[str, list[Counts]]:
    """Counts of every start, one entry per seed.

    Raises:
        ValueError: the files are not over the same utterances and references.
    """
    scores: dict[str, list[Counts]] = {}
    first_path = first = None
    for start in study.starts:
        scores[start] = []
        for seed in study.seeds:
            path = score_path(results, study.study, (start, target, budget, seed))
            counts = read_counts(path)
            first_path, first = first_path or path, first or counts
            check_same_utterances(first.utterance_ids, counts.utterance_ids, str(first_path), str(path))
            for name, metric in METRICS.items():
                other = np.flatnonzero(first.reference[name] != counts.reference[name])
                if other.size:
                    names = ", ".join(counts.utterance_ids[i] for i in other[:5])
                    raise ValueError(
                        f"{first_path} and {path} count different reference {metric.units} in "
                        f"{other.size} utterance(s): {names}; score both again with the same text settings"
                    )
            scores[start].append(counts)
    return scores


def run_rows(study: Study, scores: dict, reached: dict, target: str, budget: str) -> list[Row]:
    return [
        {
            "start": start,
            "target": target,
            "budget": budget,
            "seed": seed,
            **{metric: error_rate(counts.errors[metric], counts.reference[metric]) for metric in METRICS},
            "updates_to_reference": reached[start][seed]["updates"] if seed in reached[start] else None,
        }
        for start in study.starts
        for seed, counts in zip(study.seeds, scores[start], strict=True)
    ]


def intervals_of(
    study: Study, scores: dict, target: str, budget: str
) -> tuple[list[Row], list[Row], dict[tuple[str, ...], np.ndarray]]:
    """Rows of `cells` and `contrasts` for one (target, budget), and replicates of the relative changes.

    All of them use the same bootstrap draws. The relative changes are (treatment, baseline, metric) -> the estimate
    followed by the replicates.
    """
    confidence = study.report.confidence
    group = {"target": target, "budget": budget}
    cells = {start: {"start": start, **group} for start in study.starts}
    contrasts, changes = [], {}
    for metric in METRICS:
        errors = np.array([[run.errors[metric] for run in scores[start]] for start in study.starts])
        reference = np.array([[run.reference[metric] for run in scores[start]] for start in study.starts])
        replicates = bootstrap_rates(errors, reference, replicates=study.report.bootstrap_replicates)
        rates = {start: error_rate(errors[i], reference[i]) for i, start in enumerate(study.starts)}
        drawn = {start: replicates[:, i] for i, start in enumerate(study.starts)}
        for start in study.starts:
            interval = percentile_interval(rates[start], drawn[start], confidence)
            cells[start] |= {
                metric: interval.estimate,
                f"{metric}_low": interval.low,
                f"{metric}_high": interval.high,
            }
        for treatment, baseline in study.comparisons():
            interval = percentile_interval(
                rates[treatment] - rates[baseline], drawn[treatment] - drawn[baseline], confidence
            )
            # The relative change is undefined when the baseline's error rate is 0.
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn_change = np.divide(drawn[treatment], drawn[baseline]) - 1
                change = float(np.divide(rates[treatment], rates[baseline]) - 1)
            relative = percentile_interval(change, drawn_change, confidence)
            changes[treatment, baseline, metric] = np.array([change, *drawn_change])
            contrasts.append(
                {"treatment": treatment, "baseline": baseline, **group, "metric": metric}
                | {"difference": interval.estimate, "low": interval.low, "high": interval.high}
                | {"verdict": interval.verdict, "relative": finite(change)}
                | {"relative_low": finite(relative.low), "relative_high": finite(relative.high)}
            )
    return list(cells.values()), contrasts, changes


def averages_of(study: Study, changes: dict[tuple[str, str], dict[tuple[str, ...], np.ndarray]]) -> list[Row]:
    """Mean relative change over targets, for each budget and comparison; no rows with a single target.

    Runs on different targets are independent, also when their seeds have the same number. The replicates of each target
    are therefore put in a random order before they are averaged over targets.
    """
    rows = []
    for budget in study.budgets if len(study.targets) > 1 else []:
        of_targets = [changes[target, budget] for target in study.targets]
        for treatment, baseline, metric in of_targets[0]:
            comparison = [of_target[treatment, baseline, metric] for of_target in of_targets]
            change = np.mean([of_target[0] for of_target in comparison])
            orders = [np.random.default_rng([RNG_SEED, number]) for number in range(len(comparison))]
            drawn = [rng.permutation(of_target[1:]) for rng, of_target in zip(orders, comparison, strict=True)]
            interval = percentile_interval(change, np.mean(drawn, axis=0), study.report.confidence)
            rows.append(
                {"treatment": treatment, "baseline": baseline, "budget": budget, "metric": metric}
                | {name: finite(getattr(interval, key)) for name, key in _RELATIVE.items()}
                | {"verdict": interval.verdict}
            )
    return rows


_RELATIVE = {"relative": "estimate", "relative_low": "low", "relative_high": "high"}
