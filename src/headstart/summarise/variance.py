"""How much runs vary that differ in their seed only, estimated from few seeds.

The runs of one target and label budget are a randomised block design: every start is fine-tuned with every seed, and a
seed draws the same label budget for all starts. What varies in the *difference* of two starts is therefore measured by
the sample variance of their paired differences over the seeds, with one degree of freedom less than there are seeds.
With two seeds that is a single degree of freedom, which is next to nothing. So the variances of all pairs of starts, on
all targets and budgets, are used together, as limma does for genes (Smyth 2004, doi:10.2202/1544-6115.1027): they are
assumed to be draws from a scaled inverse chi-squared distribution with `d0` degrees of freedom and scale `s0²`. The
*moderated* variance of one pair is then (d0 s0² + d s²) / (d0 + d), with d0 + d degrees of freedom. An infinite `d0`
means that all variances are equal, and gives the textbook analysis of a randomised block design.

limma plugs in one estimate of `d0` and `s0²`, which is right with thousands of genes and too optimistic with a dozen
pairs. Here, both are integrated out on a grid instead: flat over the values of `PRIOR_DF` and over log `s0²`. What
remains is a mixture of t distributions (`headstart.summarise.estimates`). docs/statistics.md has the formulas and shows
that intervals keep their promise with two seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

PRIOR_DF = np.array([2.0, 4.0, 8.0, 16.0, 32.0, np.inf])
NEGLIGIBLE = 1e-7  # weight below which a point of the grid is left out
COARSE_UNITS = 300  # variances that are enough to find where the fine grid belongs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SeedVariance:
    """Distribution of the variance of one run, known from many variances: points `[k]` of (d0, s0²) with weights.

    Attributes:
        weights: they sum to 1.
        prior_df: d0 of each point, infinite where all variances are equal.
        scale: s0² of each point.
        df: degrees of freedom of every single variance: one less than there are seeds.
    """

    weights: Array
    prior_df: Array
    scale: Array
    df: int

    def moderated(self, variance: float) -> tuple[Array, Array]:
        """The moderated variance at each point, and its degrees of freedom, for one sample variance with `df`."""
        total = self.prior_df + self.df
        equal = np.isinf(self.prior_df)
        prior = np.where(equal, 0.0, self.prior_df)
        moderated = np.where(equal, self.scale, (prior * self.scale + self.df * variance) / (prior + self.df))
        return moderated, total


def fit_seed_variance(variances: Array, df: int, weight: float = 1.0) -> SeedVariance | None:
    """The distribution of variances from sample variances `[units]`, each with `df` degrees of freedom.

    `weight` is the share of an independent observation that a unit is worth. For the pairs of A starts it is 2/A: there
    are A (A - 1) / 2 pairs, but only A - 1 independent differences. With this weight and equal variances, the result is
    exactly the analysis of variance.

    Variances that are exactly zero come from identical runs and are left out. Returns None when nothing is left, or
    `df` is 0.
    """
    variances = np.asarray(variances, np.float64)
    variances = variances[variances > 0]
    if not len(variances) or df < 1:
        return None
    centre = np.log(variances.mean())
    # A coarse grid finds where the weight of each d0 lies, a fine one is laid there. Of thousands of variances, some
    # are enough for the first, which is the larger one.
    coarse = np.broadcast_to(centre + np.linspace(-20, 40, 241), (len(PRIOR_DF), 241))
    every = -(-len(variances) // COARSE_UNITS)
    density = _posterior(variances[::every], df, weight * every, coarse)
    density /= density.sum(1, keepdims=True)
    mean = (density * coarse).sum(1)
    spread = np.sqrt((density * (coarse - mean[:, None]) ** 2).sum(1)) + 0.02
    grid = mean[:, None] + spread[:, None] * np.linspace(-6, 10, 97)  # the upper tail is the longer one
    step = spread * 16 / 96
    log_likelihood = _log_likelihood(variances, df, weight, grid)
    weights = np.exp(log_likelihood - log_likelihood.max()) * step[:, None]
    weights /= weights.sum()
    keep = weights > NEGLIGIBLE
    prior_df = np.broadcast_to(PRIOR_DF[:, None], grid.shape)
    return SeedVariance(weights[keep] / weights[keep].sum(), prior_df[keep], np.exp(grid[keep]), df)


def _posterior(variances: Array, df: int, weight: float, log_scale: Array) -> Array:
    log_likelihood = _log_likelihood(variances, df, weight, log_scale)
    return np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))


def _log_likelihood(variances: Array, df: int, weight: float, log_scale: Array) -> Array:
    """Log likelihood `[d0, grid]` of the variances, which given (d0, s0²) are s0² times F distributed.

    For infinite d0 they are s0² times a chi-squared variable over its degrees of freedom.
    """
    total = np.empty(log_scale.shape)
    log_sum, number = np.log(variances).sum(), len(variances)
    for i, prior in enumerate(PRIOR_DF):
        # Most of the time goes into functions of `[units, grid]`, so that there is one only: the logarithm below.
        log_ratios, inverse = log_sum - number * log_scale[i], np.exp(-log_scale[i])  # [grid]
        if np.isinf(prior):
            constant = df / 2 * np.log(df / 2) - gammaln(df / 2)
            rest = df / 2 * variances.sum() * inverse
        else:
            constant = df / 2 * np.log(df / prior) - betaln(df / 2, prior / 2)
            rest = (prior + df) / 2 * np.log1p(np.outer(variances, df / prior * inverse)).sum(0)
        total[i] = weight * (number * constant + df / 2 * log_ratios - rest)
    return total


def pair_variances(values: Array) -> Array:
    """Variance of one run by each pair of starts: `[pairs]`, from values `[starts, seeds]`.

    It is half the sample variance of the pair's difference over the seeds.
    """
    left, right = np.triu_indices(len(values), 1)
    return (values[left] - values[right]).var(axis=1, ddof=1) / 2
