"""Computes `summary.json` from score files and learning curves: rates, intervals, contrasts and convergence.

Every number of the report comes from the dict that `summarise` returns. All rates in it are fractions (0.25 is 25 %).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headstart.corpora.manifests import read_columns
from headstart.errors import HeadstartError
from headstart.files import read_json, write_json, written_whole
from headstart.score.alignment import EditCounts
from headstart.score.metrics import METRICS
from headstart.study.study import Study
from headstart.summarise.statistics import (
    RNG_SEED,
    bootstrap_rates,
    check_same_utterances,
    draw_counts,
    error_rate,
    percentile_interval,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """Error counts of one run, in the order of utterance ids: arrays `[utterances]` for each metric."""

    utterance_ids: list[str]
    errors: dict[str, np.ndarray]
    reference: dict[str, np.ndarray]


def read_counts(path: Path) -> Counts:
    """Read the counts of a score file.

    Raises:
        HeadstartError: the file does not exist, or lacks the counts of a metric.
        ValueError: it has no utterances, or contains one of them twice.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no score file; run the scoring of this run first")
    names = [column for metric in METRICS.values() for column in metric.columns]
    table = read_columns(path, None, ["utterance_id", *names])
    if missing := [name for name in names if name not in table.column_names]:
        raise HeadstartError(
            f"{path}: no column {missing[0]!r}; delete the file and run again, which scores the run anew"
        )
    table = table.sort_by("utterance_id")
    ids = table["utterance_id"].to_pylist()
    if not ids:
        raise ValueError(f"{path}: no scored utterances")
    if len(set(ids)) < len(ids):
        repeated = sorted({a for a, b in zip(ids, ids[1:], strict=False) if a == b})
        raise ValueError(f"{path}: scored more than once: {', '.join(repeated[:5])}")
    errors, reference = {}, {}
    for name, metric in METRICS.items():
        counts = EditCounts(*(table[column].to_numpy() for column in metric.columns))
        errors[name], reference[name] = counts.errors, counts.reference
    return Counts(ids, errors, reference)


def read_curve(path: Path) -> dict[str, np.ndarray] | None:
    """Columns of a learning curve as float64, null as NaN, rows in order of `step`; None when the file does not exist.

    Raises:
        HeadstartError: the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True).sort_by("step")
    except (pa.ArrowException, OSError) as error:  # not renamed: only training could make it again
        raise HeadstartError(
            f"{path}: the learning curve cannot be read ({error}). Restore it from a copy, or delete its folder and "
            "run Snakemake again, which trains the run anew"
        ) from None
    return {name: np.array(table[name].to_pylist(), dtype=np.float64) for name in table.column_names}


def score_path(results: Path, study: str, run: tuple[str, str, str, int]) -> Path:
    """Path of the score file of a (start, target, budget, seed)."""
    start, target, budget, seed = run
    return Path(results) / study / "scores" / start / target / budget / f"seed{seed}.parquet"


def run_folder(results: Path, study: str, run: tuple[str, str, str, int]) -> Path:
    """Folder of the model, recipe and learning curve of a (start, target, budget, seed)."""
    start, target, budget, seed = run
    return Path(results) / study / "runs" / start / target / budget / f"seed{seed}"


def representation_path(results: Path, study: str, start: str, target: str, budget: str) -> Path:
    """Path of the similarities of a start and its fine-tuned runs, of all seeds together."""
    return Path(results) / study / "representation" / start / target / f"{budget}.parquet"


def summarise(study: Study, results: Path) -> dict[str, Any]:
    """All numbers of the report, as a pure function of `study` and of the files in `<results>/<study>`.

    The files are score files, learning curves, recipes of starts and, when the study sets `analyse`, similarities.
    Keys of the result: `study`, `metric`, `confidence`, and lists of rows:

    - `runs`: error rates of each run; `cells`: those of all seeds together, with intervals.
    - `contrasts`: paired differences, treatment minus baseline, for each pair of `study.comparisons()`, also as a
      fraction of the baseline's rate (`relative`); `averages`: the mean of `relative` over all targets.
    - `stages`: training time of each start that the study trained, compared with the time of the pre-training before
      it, and the share of pseudo-labels that was used.
    - `convergence`: see below.
    - `representation`, `representation_gap`, `representation_contrasts`: see `_representation`; empty when the study
      does not set `analyse`.

    Each row of `contrasts`, `averages` and `representation_contrasts` has a `verdict` on its difference or change:
    `lower` or `higher` when the interval excludes zero, and `unclear` otherwise. Values that cannot be computed are
    None.

    `updates_to_reference` of a run is the first step of its learning curve at which its dev error is at or below
    the final dev error of the baseline's run with the same target, budget and seed. In `convergence` it is the
    *median* over seeds, where a seed that does not reach this level counts as infinitely many updates. None thus
    means that at least half of the seeds do not reach it; `seeds_reached` counts those that do. Seeds without a
    learning curve are left out.

    Raises:
        HeadstartError: a score file or a table of similarities is missing or incomplete, or a curve cannot be read.
        ValueError: runs that are compared were not scored on the same utterances and references.
    """
    results = Path(results)
    runs, cells, contrasts, convergence = [], [], [], []
    changes: dict[tuple[str, str], dict] = {}
    representation, gaps, gap_contrasts = [], [], []
    for target in study.targets:
        for budget in study.budgets:
            scores = _scores(study, results, target, budget)
            reached = _convergence_runs(study, results, target, budget)
            runs += _run_rows(study, scores, reached, target, budget)
            group_cells, group_contrasts, changes[target, budget] = _intervals(study, scores, target, budget)
            cells += group_cells
            contrasts += group_contrasts
            convergence += _convergence_rows(study, reached, target, budget)
            group_layers, group_gaps, group_gap_contrasts = _representation(study, results, target, budget)
            representation += group_layers
            gaps += group_gaps
            gap_contrasts += group_gap_contrasts
    return {
        "study": study.study,
        "metric": study.report.metric,
        "confidence": study.report.confidence,
        "runs": _in_study_order(study, runs),
        "cells": _in_study_order(study, cells),
        "contrasts": contrasts,
        "averages": _averages(study, changes),
        "stages": _stages(study, results),
        "convergence": _in_study_order(study, convergence),
        "representation": _in_study_order(study, representation),
        "representation_gap": _in_study_order(study, gaps),
        "representation_contrasts": gap_contrasts,
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
    write_json(path, {**summary, "recipe": recipe})
    return path


def nested_metrics(summary: dict[str, Any]) -> Row:
    """Error rates, updates to the reference level and representation gap: start -> target -> budget -> metric."""
    nested: Row = {}
    for cell, row in zip(summary["cells"], summary["convergence"], strict=True):
        values = {metric: cell[metric] for metric in METRICS} | {"updates_to_reference": row["updates"]}
        nested.setdefault(cell["start"], {}).setdefault(cell["target"], {})[cell["budget"]] = values
    for row in summary["representation_gap"]:
        nested[row["start"]][row["target"]][row["budget"]]["representation_gap"] = row["gap"]
    return nested


def _write_curves(study: Study, results: Path, path: Path) -> None:
    """Write the dev error rates of every run as CSV, one row per evaluation; a metric that a curve lacks is empty."""
    columns = [f"dev_{metric}" for metric in METRICS]
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


# ---------------------------------------------------------------------------------------------- scores


def _scores(study: Study, results: Path, target: str, budget: str) -> dict[str, list[Counts]]:
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


def _run_rows(study: Study, scores: dict, reached: dict, target: str, budget: str) -> list[Row]:
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


def _intervals(
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
                | {"verdict": interval.verdict, "relative": _finite(change)}
                | {"relative_low": _finite(relative.low), "relative_high": _finite(relative.high)}
            )
    return list(cells.values()), contrasts, changes


def _averages(study: Study, changes: dict[tuple[str, str], dict[tuple[str, ...], np.ndarray]]) -> list[Row]:
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
                | {name: _finite(getattr(interval, key)) for name, key in _RELATIVE.items()}
                | {"verdict": interval.verdict}
            )
    return rows


_RELATIVE = {"relative": "estimate", "relative_low": "low", "relative_high": "high"}


def _stages(study: Study, results: Path) -> list[Row]:
    """Training time of each start that the study trained, and as a share of all pre-training before it, where known.

    `pseudo_used` is the mean share of pseudo-labels that were used, or None where there were none.
    """
    rows = []
    for name, start in study.starts.items():
        path = Path(results) / study.study / "starts" / name / "recipe.json"
        if not path.is_file():
            continue
        recipe = read_json(path)
        before, parent = 0.0, recipe.get("parent")
        while isinstance(parent, dict):
            before += parent.get("wall_s", float("nan")) if parent.get("stage") == "pretrain" else 0.0
            parent = parent.get("parent")
        if parent or before != before:  # the oldest ancestor is not Headstart's, or a recipe lacks its time
            before = 0.0
        seconds = recipe.get("wall_s")
        rows.append(
            {"start": name, "kind": start.kind, "updates": recipe.get("settings", {}).get("updates")}
            | {"seconds": seconds, "pretraining_seconds": before or None}
            | {"share_of_pretraining": seconds / before if seconds and before else None}
            | {"pseudo_used": _mean(read_curve(path.with_name("curve.parquet")), "pseudo_kept")}
        )
    return rows


def _mean(curve: dict[str, np.ndarray] | None, column: str) -> float | None:
    rows = _evaluated(curve, column)
    return None if rows is None else float(rows[column].mean())


# ---------------------------------------------------------------------------------------------- convergence


def _convergence_runs(study: Study, results: Path, target: str, budget: str) -> dict[str, dict[int, Row]]:
    """For each start and each seed with learning curves: when the run reaches the baseline's final dev error."""
    column = f"dev_{study.report.metric}"
    reached: dict[str, dict[int, Row]] = {start: {} for start in study.starts}
    for seed in study.seeds:
        curves = {
            start: _evaluated(read_curve(run_folder(results, study.study, run) / "curve.parquet"), column)
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


def _evaluated(curve: dict[str, np.ndarray] | None, column: str) -> dict[str, np.ndarray] | None:
    """The rows of a curve that have a value in `column`; None when there are none."""
    if curve is None or column not in curve:
        return None
    rows = np.isfinite(curve[column])
    return {name: values[rows] for name, values in curve.items()} if rows.any() else None


def _first_at_or_below(curve: dict[str, np.ndarray], column: str, reference: float) -> Row:
    """Updates, hours of audio and seconds at the first row with a value of at most `reference`; None if never."""
    rows = np.flatnonzero(curve[column] <= reference)
    if not rows.size:
        return {"updates": None, "audio_hours": None, "seconds": None}
    row = rows[0]
    hours, seconds = (_finite(curve[name][row]) if name in curve else None for name in ("audio_hours_seen", "wall_s"))
    return {"updates": int(curve["step"][row]), "audio_hours": hours, "seconds": seconds}


def _convergence_rows(study: Study, reached: dict, target: str, budget: str) -> list[Row]:
    def median(start: str, key: str) -> float | None:
        # A seed that does not reach the reference counts as infinity, so that the median includes every seed.
        values = [math.inf if run["updates"] is None else run[key] for run in reached[start].values()]
        if not values or None in values:
            return None
        # With an even number of seeds, the mean of the middle two is infinite if one is; `_finite` makes it None.
        return _finite(np.median(values))

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
                "reference_error": _finite(np.mean([run["reference"] for run in seeds])) if seeds else None,
                "updates": updates,
                "audio_hours": median(start, "audio_hours"),
                "seconds": median(start, "seconds"),
                "ratio_to_baseline": updates / baseline if updates is not None and baseline else None,
                "seeds_reached": sum(run["updates"] is not None for run in seeds),
            }
        )
    return rows


# ---------------------------------------------------------------------------------------------- representation


def _representation(study: Study, results: Path, target: str, budget: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Similarity of each start to its fine-tuned runs, at one target and budget, as three lists of rows.

    - The similarity of every layer by every measure.
    - The representation gap: one minus the mean, over the Transformer layers, of the similarity by the study's measure.
      These layers are 1 to the last; layer 0 is the input of the first.
    - Paired differences of the gap, treatment minus baseline, for the pairs of `study.comparisons()` whose starts were
      both analysed.

    Similarities are means over seeds. Their intervals are over utterances (drawn in blocks by the stage `analyse`) and
    seeds (drawn here).
    """
    confidence, group = study.report.confidence, {"target": target, "budget": budget}
    layers, gaps, contrasts = [], [], []
    estimated, drawn = {}, {}
    for start in study.analysed():
        path = representation_path(results, study.study, start, target, budget)
        similarity, replicates = _read_similarities(path, study.seeds)
        for measure, estimates in similarity.items():
            for layer, estimate in enumerate(estimates):
                interval = percentile_interval(estimate, replicates[measure][:, layer], confidence)
                layers.append(
                    {"start": start, **group, "layer": layer, "measure": measure}
                    | {"similarity": interval.estimate, "low": interval.low, "high": interval.high}
                )
        measure = study.analyse.measure
        estimated[start] = 1 - similarity[measure][1:].mean()
        drawn[start] = 1 - replicates[measure][:, 1:].mean(axis=1)
        interval = percentile_interval(estimated[start], drawn[start], confidence)
        gaps.append(
            {"start": start, **group, "measure": measure}
            | {"gap": interval.estimate, "low": interval.low, "high": interval.high}
        )
    for treatment, baseline in study.comparisons():
        if treatment in drawn and baseline in drawn:
            interval = percentile_interval(
                estimated[treatment] - estimated[baseline], drawn[treatment] - drawn[baseline], confidence
            )
            contrasts.append(
                {"treatment": treatment, "baseline": baseline, **group, "measure": study.analyse.measure}
                | {"difference": interval.estimate, "low": interval.low, "high": interval.high}
                | {"verdict": interval.verdict}
            )
    return layers, gaps, contrasts


def _read_similarities(path: Path, seeds: list[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Similarities by measure: estimates `[layers]` and replicates `[replicates, layers]`, means over seeds.

    A replicate contains some utterances more than once, which CCA fits better than distinct ones. Replicates therefore
    exceed the estimate, by more than they vary. To correct this bias, those of each layer and seed are shifted so that
    their mean is the estimate. Seeds are drawn as in `statistics`, with the same draws for every start.

    Raises:
        HeadstartError: the file does not exist.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no similarities; run the analysis of this start first")
    by_measure: dict[str, dict[tuple[int, int], tuple[float, list[float]]]] = {}
    for row in read_columns(path, None).to_pylist():
        by_measure.setdefault(row["measure"], {})[row["layer"], row["seed"]] = row["similarity"], row["replicates"]
    similarity, replicates = {}, {}
    for measure, cells in by_measure.items():
        layers = range(1 + max(layer for layer, _ in cells))
        estimates = np.array([[cells[layer, seed][0] for seed in seeds] for layer in layers])
        drawn = np.array([[cells[layer, seed][1] for seed in seeds] for layer in layers])  # [layers, seeds, replicates]
        drawn = np.minimum(drawn - drawn.mean(axis=2, keepdims=True) + estimates[:, :, None], 1.0)
        # A random stream other than the one that drew the blocks.
        draws = draw_counts(np.random.default_rng([RNG_SEED, 1]), drawn.shape[2], len(seeds)) / len(seeds)
        similarity[measure], replicates[measure] = estimates.mean(axis=1), np.einsum("lsr,rs->rl", drawn, draws)
    return similarity, replicates


def _finite(value: float) -> float | None:
    """`value` as a plain float, or None when it is NaN or infinite, which JSON cannot express."""
    return float(value) if math.isfinite(value) else None


def _in_study_order(study: Study, rows: list[Row]) -> list[Row]:
    """Rows sorted by start, in the order of the study file; targets, budgets and seeds are in order already."""
    order = list(study.starts)
    return sorted(rows, key=lambda row: order.index(row["start"]))
