"""How well one measurement of starts foretells their order by another, on several targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from headstart.summarise.estimates import satterthwaite
from headstart.summarise.tables import Row

DRAWS = 1999
Array = NDArray[np.float64]


def rank_agreement(one: Array, other: Array, confidence: float) -> Row:
    """Spearman's correlation between two measurements of starts: the mean over targets.

    Starts and targets are both samples, so the variance is the sum of two jackknives: one leaves out each start in
    turn, the other each target. The sum counts what differs between the single cells twice, so that the interval is
    too wide rather than too narrow. The p value is of the hypothesis that the measurements have nothing to do with one
    another: starts change places in one of them, each with its values on all targets.

    Args:
        one, other: `[starts, targets]`, of four starts and one target at least.
        confidence: of the interval.

    Returns:
        `estimate`, `low`, `high` and `p`. With one target, they are about this target. The interval is from -1 to 1
        where all correlations are equal, so that nothing is known of its error.
    """
    starts, targets = one.shape
    single = correlations(one, other)
    estimate = float(single.mean())
    without = [correlations(np.delete(one, i, 0), np.delete(other, i, 0)).mean() for i in range(starts)]
    variances, freedom = [_jackknife(without)], [starts - 1]
    if targets > 1:
        variances.append(float(single.var(ddof=1)) / targets)  # the jackknife of a mean in closed form
        freedom.append(targets - 1)
    low, high = -1.0, 1.0
    if sum(variances) > 1e-12:
        df = float(satterthwaite(variances, freedom))
        half = float(stdtrit(df, (1 + confidence) / 2) * np.sqrt(sum(variances)))
        low, high = max(-1.0, estimate - half), min(1.0, estimate + half)
    rng = np.random.default_rng(0)
    drawn = np.array([correlations(one[rng.permutation(starts)], other).mean() for _ in range(DRAWS)])
    p = (1 + int((np.abs(drawn) >= abs(estimate) - 1e-12).sum())) / (DRAWS + 1)
    return {"estimate": estimate, "low": low, "high": high, "p": p}


def _jackknife(values: list[float]) -> float:
    """The variance of an estimate from its values without each item."""
    count = len(values)
    return (count - 1) / count * float(np.square(np.array(values) - np.mean(values)).sum())


def correlations(one: Array, other: Array) -> Array:
    """Spearman's correlation over starts on each target: `[targets]`; 0 where all starts are equal."""
    ranks = []
    for values in (one, other):
        centred = rankdata(values, axis=0) - (len(values) + 1) / 2
        sizes = np.sqrt(np.square(centred).sum(0))
        ranks.append(np.divide(centred, sizes, out=np.zeros_like(centred), where=sizes > 0))
    return (ranks[0] * ranks[1]).sum(0)
