"""Which differences a study can tell, given how much its runs and its test speakers vary.

The power of a comparison is found by simulation: studies of the same shape are drawn, and judged by the same code as
real ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from headstart.files import read_json
from headstart.study.study import Study
from headstart.summarise.design import Cell, Design, Weights, speaker_variance
from headstart.summarise.estimates import Estimate, satterthwaite
from headstart.summarise.tables import Row

POWER = 0.8
STUDIES = 100  # simulated for each power
MOST_SEEDS = 100
# Where no earlier study is at hand: what the default study showed (docs/statistics.md), rounded up.
ERROR_RATE_SPREAD = {"seed_sd": 0.03, "speaker_sd": 0.05, "speakers": 20}
DEFAULT_SPREAD = {
    "updates": {"seed_sd": 0.15, "speaker_sd": None, "speakers": None},
    "gap": {"seed_sd": 0.02, "speaker_sd": 0.05, "speakers": 20},
    "seconds": {"seed_sd": 0.05, "speaker_sd": None, "speakers": None},  # on a machine that does nothing else
}


@dataclass(frozen=True)
class Shape:
    """The shape of a study, and how much it varies.

    Attributes:
        corpora: (target, budget) -> corpus of the target.
        starts: names of the starts, which all cells have.
        seeds: number of seeds.
        seed_sd: standard deviation of a run in paired differences of log values.
        test_variance: squared standard error of the comparison from the choice of test speakers.
        test_df: degrees of freedom of its estimate.
    """

    corpora: Mapping[tuple[str, str], str]
    starts: list[str]
    seeds: int
    seed_sd: float
    test_variance: float
    test_df: float

    def smallest_effect(self, weights: Weights, alpha: float, power: float = POWER) -> float:
        """The smallest difference of logs that a two-sided test at level `alpha` finds with probability `power`."""
        estimates, largest = self._studies(weights), 1e-3
        while share_found(estimates, largest, alpha) < power:
            largest *= 2
        return float(
            brentq(lambda effect: share_found(estimates, effect, alpha) - power, 0.0, largest, xtol=largest / 100)
        )

    def power(self, weights: Weights, effect: float, alpha: float) -> float:
        """The share of such studies that find a difference of logs."""
        return share_found(self._studies(weights), effect, alpha)

    def _studies(self, weights: Weights) -> list[Estimate]:
        rng = np.random.default_rng(self.seeds)
        return [self._draw(weights, rng) for _ in range(STUDIES)]

    def _draw(self, weights: Weights, rng: np.random.Generator) -> Estimate:
        """The estimate of a study without any true difference."""
        values = self.seed_sd * rng.standard_normal((len(self.corpora), len(self.starts), self.seeds))
        cells = {
            key: Cell(corpus, self.starts, value)
            for (key, corpus), value in zip(self.corpora.items(), values, strict=True)
        }
        estimate = Design(cells).difference(weights)
        if not self.test_variance:
            return estimate
        observed = self.test_variance * rng.chisquare(self.test_df) / self.test_df
        return Estimate(
            estimate.value + np.sqrt(self.test_variance) * rng.standard_normal(),
            estimate.weights,
            estimate.variances + observed,
            satterthwaite([estimate.variances, observed], [estimate.df, self.test_df]),
        )


def share_found(estimates: list[Estimate], effect: float, alpha: float) -> float:
    """The share of studies whose test is passed where the true difference is larger by `effect`."""
    shifted = (replace(estimate, value=estimate.value + effect) for estimate in estimates)
    return float(np.mean([estimate.p < alpha for estimate in shifted]))


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
    shape = shape_of(design, weights)
    alpha, effect = (1 - confidence) / comparisons, float(np.log1p(relative))
    seeds = enough_seeds(shape, weights, effect, alpha)
    if seeds is not None or not shape.test_variance:
        return Needs(seeds, 1.0)
    # Half of the squared error for each part. With many seeds, the test set is all that is left of the error.
    seeds = enough_seeds(replace(shape, test_variance=0.0), weights, effect / np.sqrt(2), alpha)
    alone = replace(shape, seeds=MOST_SEEDS, seed_sd=1e-6)
    return Needs(seeds, max(1.0, 2 * (alone.smallest_effect(weights, alpha) / effect) ** 2))


def enough_seeds(shape: Shape, weights: Weights, effect: float, alpha: float) -> int | None:
    """The smallest number of seeds that find an effect, to about a tenth; None if `MOST_SEEDS` do not."""
    numbers = sorted({round(max(2, shape.seeds) * 1.1**step) for step in range(45)})
    numbers = [number for number in numbers if number <= MOST_SEEDS]
    first = bisect_left(
        numbers, True, key=lambda number: replace(shape, seeds=number).power(weights, effect, alpha) >= POWER
    )
    return numbers[first] if first < len(numbers) else None


def shape_of(design: Design, weights: Weights) -> Shape:
    """The shape of a study that has run, with the variation of one comparison."""
    prior = design.differences
    norm = sum(weight**2 for row in weights.values() for weight in row.values())
    total = sum(variance for variance, _ in design.seed_variance(weights, prior))
    # The geometric mean over the prior's points; it is 0 for identical runs.
    variance = float(np.exp(prior.weights @ np.log(total))) if np.all(total) else 0.0
    test = design.test_variance(weights, design.common_in_differences)
    variances, df = zip(*test, strict=True) if test else ((0.0,), (1.0,))
    return Shape(
        {key: cell.corpus for key, cell in design.cells.items()},
        next(iter(design.cells.values())).starts,
        design.seeds,
        float(np.sqrt(variance / norm)),
        sum(variances),
        float(satterthwaite(variances, df)) if sum(variances) else 1.0,
    )


def spread_rows(designs: Mapping[str, Design], drawn_by: str) -> list[Row]:
    """How much runs and test speakers vary by each metric: what a later study of this kind can be planned with.

    `seed_sd` is the standard deviation of a run in paired differences of log values, over all pairs of starts.
    `speaker_sd` is the standard deviation over test speakers of one speaker's difference between two starts. `drawn_by`
    says whether the test sets are samples of speakers or of utterances, and `speakers` how many of these they have.
    """
    rows = []
    for metric, design in designs.items():
        if design.differences is None:
            continue
        deviations, counts = [], []
        for cell in design.cells.values():
            if variances := [speaker_variance(pair)[0] for pair in cell.pair_influences]:
                counts.append(cell.shares.shape[2])
                deviations.append(design.common_in_differences * float(np.mean(variances)) * counts[-1])
        rows.append(
            {"metric": metric, "seed_sd": float(np.sqrt(design.pairs.mean()))}
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
    from headstart.summarise.claims import cells_compared, cells_of, smallest_effect_of, weights_of
    from headstart.summarise.training_time import STARTS

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
        elif metric == "seconds" and not all(map(study.per_seed, [*claim.treatment, *claim.baseline])):
            row["basis"] = "a start that is trained once has one time"
        elif len(study.seeds) < 2:
            row["basis"] = "one seed says nothing of how much runs vary"
        else:
            starts = study.analysed() if metric == "gap" else list(study.starts)
            corpora = {(t, b): study.targets[t].corpus for t in study.targets for b in study.budgets}
            if metric == "seconds":
                starts, corpora = [start for start in study.starts if study.per_seed(start)], {STARTS: STARTS[0]}
            # Budgets of a target share its test set; targets do not.
            test = (spread["speaker_sd"] or 0.0) ** 2 / (spread["speakers"] or 1) / len(targets)
            shape = Shape(
                corpora, starts, len(study.seeds), spread["seed_sd"], test, max(1, (spread["speakers"] or 2) - 1)
            )
            alpha = (1 - study.report.confidence) / len(tested)
            effect = shape.smallest_effect(weights_of(claim, *cells_compared(study, claim)), alpha)
            row |= {"resolves": float(np.expm1(effect)), "basis": basis}
    return rows


def _spread(study: Study, results: Path, metric: str) -> tuple[Row, str]:
    for path in _newest_first(study, results):
        try:
            rows = read_json(path).get("spread", [])
        except (OSError, ValueError):
            continue
        for row in rows:
            if row["metric"] == metric:
                return row, f"as runs varied in {path.parent.name}"
    return DEFAULT_SPREAD.get(
        metric, ERROR_RATE_SPREAD
    ), "stated defaults, since no earlier study is in the results folder"


def _newest_first(study: Study, results: Path) -> Iterable[Path]:
    return sorted(
        results.glob("*/summary.json"),
        key=lambda path: (path.parent.name == study.study, path.stat().st_mtime),
        reverse=True,
    )
