"""Which differences a study can tell, given how much its runs and its test speakers vary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, t

from headstart.score.metrics import METRICS
from headstart.study.study import Study
from headstart.summarise.design import Design, Weights, speaker_variance
from headstart.summarise.estimates import satterthwaite
from headstart.summarise.tables import Row

POWER = 0.8
MOST_SEEDS = 100
# Where no earlier study is at hand: what the default study showed (docs/statistics.md), rounded up.
ERROR_RATE_SPREAD = {"seed_sd": 0.03, "prior_df": 5.0, "speaker_sd": 0.05, "speakers": 20}
DEFAULT_SPREAD = {
    **dict.fromkeys(METRICS, ERROR_RATE_SPREAD),
    "updates": {"seed_sd": 0.15, "prior_df": 5.0, "speaker_sd": None, "speakers": None},
    "gap": {"seed_sd": 0.02, "prior_df": 5.0, "speaker_sd": 0.05, "speakers": 20},
}


@dataclass(frozen=True)
class Precision:
    """What decides how well a difference of logs can be told.

    Attributes:
        seed_variance: variance of the difference between seeds, of a single seed.
        seed_df: degrees of freedom of that variance's estimate.
        test_variance: variance from the choice of test speakers.
        test_df: its degrees of freedom.
    """

    seed_variance: float
    seed_df: float
    test_variance: float
    test_df: float

    def smallest_effect(self, seeds: int, alpha: float, power: float = POWER) -> float:
        """The smallest difference of logs that a two-sided t test at level `alpha` finds with probability `power`."""
        parts = [self.seed_variance / seeds, self.test_variance]
        error = float(np.sqrt(sum(parts)))
        if error == 0:
            return 0.0
        df = float(satterthwaite(parts, [self.seed_df, self.test_df]))
        return error * _noncentrality(min(df, 1e6), alpha, power)


def _noncentrality(df: float, alpha: float, power: float) -> float:
    """The noncentrality with which a two-sided t test at level `alpha` rejects with probability `power`."""
    critical = float(t.isf(alpha / 2, df))
    return float(brentq(lambda shift: nct.sf(critical, df, shift) - power, 0.0, 20 + 4 * critical))


@dataclass(frozen=True)
class Needs:
    """What would find a difference of a given size in 80 % of cases.

    `seeds` is None if no number of them suffices. `test_set` is the factor by which the test set would have to grow, in
    speakers and hours alike; 1.0 if it suffices.
    """

    seeds: int | None
    test_set: float


def needs(design: Design, weights: Weights, relative: float, confidence: float, comparisons: int) -> Needs:
    """What would find a relative change in a comparison, among several that are judged together."""
    precision = precision_of(design, weights)
    alpha = (1 - confidence) / comparisons
    effect = float(np.log1p(relative))
    seeds = _enough_seeds(precision, design, effect, alpha)
    if seeds is not None:
        return Needs(seeds, 1.0)
    # Half of the squared error for each part.
    half = Precision(precision.seed_variance, precision.seed_df, 0.0, precision.test_df)
    seeds = _enough_seeds(half, design, effect / np.sqrt(2), alpha)
    error = effect / np.sqrt(2) / _noncentrality(max(precision.test_df, 1.0), alpha, POWER)
    return Needs(seeds, max(1.0, precision.test_variance / error**2))


def _enough_seeds(precision: Precision, design: Design, effect: float, alpha: float) -> int | None:
    starts = max(len(cell.starts) for cell in design.cells.values())
    for seeds in range(max(2, design.seeds), MOST_SEEDS + 1):
        df = seed_df(design.differences.typical_df, starts, len(design.cells), seeds)
        grown = Precision(precision.seed_variance, df, precision.test_variance, precision.test_df)
        if grown.smallest_effect(seeds, alpha) <= effect:
            return seeds
    return None


def seed_df(prior_df: float, starts: int, cells: int, seeds: int) -> float:
    """Degrees of freedom of a moderated variance: limma's, but no more than the whole study has."""
    return min(prior_df + seeds - 1, cells * (starts - 1) * (seeds - 1))


def precision_of(design: Design, weights: Weights) -> Precision:
    """The precision of a comparison in a design with at least two seeds."""
    starts = max(len(cell.starts) for cell in design.cells.values())
    prior = design.differences
    df = seed_df(prior.typical_df, starts, len(design.cells), design.seeds)
    total = sum(variance for variance, _ in design.seed_variance(weights, prior))
    # The geometric mean over the prior's points; it is 0 for identical runs.
    variance = float(np.exp(prior.weights @ np.log(total))) if total.all() else 0.0
    test = design.test_variance(weights, design.common_in_differences)
    variances, test_df = zip(*test, strict=True) if test else ((0.0,), (1.0,))
    return Precision(variance, df, sum(variances), float(satterthwaite(variances, test_df)))


def spread_rows(designs: dict[str, Design], drawn_by: str) -> list[Row]:
    """How much runs and test speakers vary by each metric: what a later study of this kind can be planned with.

    `seed_sd` is the standard deviation of a run in paired differences of log values, `prior_df` says how alike the
    variances of different pairs are, and `speaker_sd` is the standard deviation over test speakers of one speaker's
    difference between two starts. `drawn_by` says whether the test sets are samples of speakers or of utterances, and
    `speakers` how many of these they have.
    """
    rows = []
    for metric, design in designs.items():
        if design.differences is None:
            continue
        deviations, counts = [], []
        for cell in design.cells.values():
            if cell.shares is None or cell.shares.shape[2] < 2 or len(cell.starts) < 2:
                continue
            left, right = np.triu_indices(len(cell.starts), 1)
            counts.append(cell.shares.shape[2])
            variances = [speaker_variance(pair)[0] for pair in cell.shares[left] - cell.shares[right]]
            deviations.append(design.common_in_differences * float(np.mean(variances)) * counts[-1])
        df = design.differences.typical_df
        rows.append(
            {"metric": metric, "seed_sd": float(np.sqrt(design.differences.typical))}
            | {"prior_df": df if np.isfinite(df) else None}
            | {"speaker_sd": float(np.sqrt(np.mean(deviations))) if deviations else None}
            | {"speakers": int(np.median(counts)) if counts else None}
            | {"drawn_by": drawn_by}
        )
    return rows


# ---------------------------------------------------------------------------------------------- before the runs


def planned_claims(study: Study, results: Path) -> list[Row]:
    """What the study's claims can resolve before it has run.

    How much runs and speakers vary is taken from the newest summary in `results` with the claim's metric, this study's
    own first; without one, from stated defaults. Each row has `statement`, `metric`, `smallest_effect` (the change that
    matters), `resolves` (the relative change that is found in 80 % of cases; None if there is nothing to compute it
    from) and `basis`.
    """
    # Imported here because claims.py needs this module.
    from headstart.summarise.claims import cells_of, smallest_effect_of, weights_of

    rows = []
    tested = [claim for claim in study.claims if claim.metric != "time"]
    for claim in tested:
        metric = claim.metric or study.report.metric
        targets, budgets = cells_of(study, claim)
        spread, basis = _spread(study, Path(results), metric)
        row = {"statement": claim.claim, "metric": metric}
        row |= {"smallest_effect": smallest_effect_of(study, claim), "resolves": None}
        rows.append(row)
        if not targets:
            row["basis"] = f"the study has no {' or '.join(claim.kinds or [])} target"
        elif len(study.seeds) < 2:
            row["basis"] = "one seed says nothing of how much runs vary"
        else:
            weights = weights_of(claim, targets, budgets)
            norm = sum(weight**2 for starts in weights.values() for weight in starts.values())
            cells = len(study.targets) * len(study.budgets)
            df = seed_df(spread["prior_df"] or np.inf, len(study.starts), cells, len(study.seeds))
            # Budgets of a target share its test set; targets do not.
            test = (spread["speaker_sd"] or 0.0) ** 2 / (spread["speakers"] or 1) / len(targets)
            precision = Precision(spread["seed_sd"] ** 2 * norm, df, test, max(1, (spread["speakers"] or 2) - 1))
            effect = precision.smallest_effect(len(study.seeds), (1 - study.report.confidence) / len(tested))
            row |= {"resolves": float(np.expm1(effect)), "basis": basis}
    return rows


def _spread(study: Study, results: Path, metric: str) -> tuple[Row, str]:
    summaries = sorted(
        results.glob("*/summary.json"),
        key=lambda path: (path.parent.name == study.study, path.stat().st_mtime),
        reverse=True,
    )
    for path in summaries:
        try:
            rows = json.loads(path.read_text(encoding="utf-8")).get("spread", [])
        except (OSError, ValueError):
            continue
        for row in rows:
            if row["metric"] == metric:
                return row, f"as runs varied in {path.parent.name}"
    return DEFAULT_SPREAD[metric], "stated defaults, since no earlier study is in the results folder"
