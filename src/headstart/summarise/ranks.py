"""Ranks of starts over all targets, with intervals, and whether seeds agree on them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from headstart.summarise.design import Design, Weights
from headstart.summarise.estimates import holm
from headstart.summarise.tables import Row

DRAWS = 1999
Array = NDArray[np.float64]


def rank_rows(design: Design, starts: list[str], cells: list[tuple[str, str]], confidence: float) -> list[Row]:
    """`start`, `rank` by the mean log error rate over all cells (1 is the lowest), and the interval `low` to `high`.

    A start's rank is at least one more than the number of starts that are clearly better, and so on. P values are
    adjusted over all pairs, so that the intervals of all starts hold at once. With one seed, nothing is clear.

    Args:
        design: the runs.
        starts: those that are ranked.
        cells: (target, budget) of the runs that count, each alike.
        confidence: of all intervals together.
    """
    mean = {start: float(np.mean([design.mean(*cell, start) for cell in cells])) for start in starts}
    better, worse = dict.fromkeys(starts, 0), dict.fromkeys(starts, 0)
    if design.seeds > 1:
        pairs = list(combinations(starts, 2))
        share = 1 / len(cells)
        estimates = [design.difference({cell: {one: share, two: -share} for cell in cells}) for one, two in pairs]
        for (one, two), estimate, p in zip(pairs, estimates, holm([e.p for e in estimates]), strict=True):
            if p < 1 - confidence and not estimate.exact:
                first, second = (one, two) if estimate.value < 0 else (two, one)
                better[second] += 1
                worse[first] += 1
    order = sorted(starts, key=mean.__getitem__)
    return [
        {"start": start, "rank": place, "low": 1 + better[start], "high": len(starts) - worse[start]}
        for place, start in enumerate(order, 1)
    ]


def stability(errors: Array, confidence: float) -> Row | None:
    """How well seeds agree on the order of starts within a language: Spearman's correlation, the mean over pairs of
    seeds and over languages.

    Args:
        errors: `[starts, languages, seeds]`.
        confidence: of the interval, which is a t interval over languages.

    Returns:
        `estimate`, `low`, `high`, and `p` of the hypothesis that each seed orders the starts at random; None with fewer
        than two seeds, three languages or three starts.
    """
    starts, languages, seeds = errors.shape
    if seeds < 2 or languages < 3 or starts < 3:
        return None
    means = _mean_correlations(errors)
    estimate = float(means.mean())
    half = float(stdtrit(languages - 1, (1 + confidence) / 2) * means.std(ddof=1) / np.sqrt(languages))
    rng = np.random.default_rng(0)
    drawn = np.array([_mean_correlations(rng.random(errors.shape)).mean() for _ in range(DRAWS)])
    p = (1 + int((drawn >= estimate - 1e-12).sum())) / (DRAWS + 1)
    return {"estimate": estimate, "low": max(-1.0, estimate - half), "high": min(1.0, estimate + half), "p": p}


def _mean_correlations(errors: Array) -> Array:
    """Of each language, Spearman's correlation between seeds, the mean over pairs of seeds."""
    ranks = rankdata(errors, axis=0)
    ranks = ranks - ranks.mean(0)
    sizes = np.sqrt((ranks**2).sum(0))  # [languages, seeds]
    ranks = np.divide(ranks, sizes, out=np.zeros_like(ranks), where=sizes > 0)
    matrix = np.einsum("als,alt->lst", ranks, ranks)
    left, right = np.triu_indices(errors.shape[2], 1)
    return matrix[:, left, right].mean(1)


def every_language(design: Design, contrasts: dict[str, Weights], confidence: float) -> Row | None:
    """Whether a difference is negative in every language: an intersection-union test (Berger 1982).

    Each language has a one-sided test at the full level, and the largest of their p values is that of the statement,
    with nothing to adjust.

    Args:
        design: the runs.
        contrasts: language -> weights of a difference of log error rates.
        confidence: of the interval.

    Returns:
        `p`; `weakest`, the language of the largest p value, with `estimate`, `low` and `high` there (a relative
        change); `positive`, the languages in which the difference is clearly above 0 after Holm's adjustment. None with
        one seed or fewer than two languages.
    """
    if design.seeds < 2 or len(contrasts) < 2:
        return None
    estimates = {language: design.difference(weights) for language, weights in contrasts.items()}
    p_values = {language: 1 - estimate.below(0.0) for language, estimate in estimates.items()}
    weakest = max(p_values, key=p_values.__getitem__)
    above = holm([estimate.below(0.0) for estimate in estimates.values()])
    low, high = np.expm1(estimates[weakest].interval(confidence)).tolist()
    return {
        "p": p_values[weakest],
        "weakest": weakest,
        "estimate": float(np.expm1(estimates[weakest].value)),
        "low": low,
        "high": high,
        "positive": [name for name, p in zip(estimates, above, strict=True) if p < 1 - confidence],
    }
