"""An estimate with what is known of its error: intervals, p values, equivalence, and what survives many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

ROUNDING = 1e-12  # standard errors of logarithms below this are rounding errors
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, such as a difference of log error rates, whose error has a mixture of t distributions.

    Attributes:
        value: the estimate.
        weights: of the mixture's parts `[k]`; they sum to 1.
        variances: squared standard error in each part.
        df: degrees of freedom in each part; may be infinite.
    """

    value: float
    weights: Array
    variances: Array
    df: Array

    @property
    def exact(self) -> bool:
        """Whether there is no error beyond that of rounding, as between identical runs."""
        return float(self.variances.max()) < ROUNDING**2

    def below(self, value: float) -> float:
        """Probability that the true value is below `value`: the one-sided p value against values of at least that."""
        if self.exact:
            return 0.5 if value == self.value else float(value > self.value)
        with np.errstate(divide="ignore"):
            scaled = (value - self.value) / np.sqrt(self.variances)
        return float(self.weights @ stdtr(self.df, scaled))

    @property
    def p(self) -> float:
        """Two-sided p value of the hypothesis that the true value is 0."""
        return min(1.0, 2 * min(self.below(0.0), 1 - self.below(0.0)))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The central interval that contains the true value with probability `confidence`."""
        tail = (1 - confidence) / 2
        half = self._quantile(1 - tail)
        return self.value - half, self.value + half

    def _quantile(self, probability: float) -> float:
        """Distance from the value that the error stays below with `probability`, which is above 0.5."""
        if self.exact:
            return 0.0
        nearly_normal = np.minimum(self.df, 1e9)  # `stdtrit` has no infinite degrees of freedom
        farthest = 1.001 * (np.sqrt(self.variances) * stdtrit(nearly_normal, probability)).max()
        return float(brentq(lambda half: self.below(self.value + half) - probability, 0.0, farthest, xtol=1e-12))

    def p_equal(self, margin: float) -> float:
        """P value of two one-sided tests (Schuirmann 1987): small if the value is within `margin` of 0 on both sides.

        It is the larger p value of the hypotheses that the value is at most -margin and that it is at least +margin.
        """
        return max(self.below(-margin), 1 - self.below(margin))

    @property
    def degrees_of_freedom(self) -> float:
        """The degrees of freedom of the t distribution whose 95 % interval is as wide, with the mixture's variance.

        It describes the mixture in one familiar number and is not used in any computation.
        """
        if self.exact:
            return float("inf")
        variance = 1 / float(self.weights @ (1 / self.variances))
        factor = self._quantile(0.975) / np.sqrt(variance)
        if factor <= stdtrit(1e6, 0.975):
            return float("inf")
        return float(brentq(lambda df: stdtrit(df, 0.975) - factor, 0.05, 1e6))


def satterthwaite(variances: Sequence[Array | float], df: Sequence[Array | float]) -> Array:
    """Degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946): (Σ V)² / Σ (V² / df).

    An estimate with infinite degrees of freedom adds nothing to the sum below.
    """
    total = sum(np.asarray(v, np.float64) for v in variances)
    below = sum(np.square(v) / np.asarray(d, np.float64) for v, d in zip(variances, df, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, total**2 / below, np.inf)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for many comparisons by Holm's method (1979), in the order given.

    Declaring those below 5 % keeps the probability of any false declaration at 5 %.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted.tolist()
