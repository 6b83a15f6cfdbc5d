"""Percentile bootstrap intervals, which are shown beside ours: what most studies of speech recognition report.

A replicate draws test utterances and, independently, seeds with replacement (Bisani & Ney 2004; Owen 2007, the
pigeonhole bootstrap). The same draws are used for both sides of a difference. With two seeds, the interval excludes
zero as soon as both seeds agree in sign, if runs vary much more than utterances do.
"""

from __future__ import annotations

import numpy as np


def false_verdict(errors: np.ndarray, rng: np.random.Generator, replicates: int = 400) -> bool:
    """Whether the 95 % percentile interval of a difference excludes zero.

    Args:
        errors: of two starts, `[2, seeds, utterances]`, over the same reference tokens.
    """
    _, seeds, utterances = errors.shape
    seed_draws = rng.multinomial(seeds, np.full(seeds, 1 / seeds), replicates)
    draws = rng.multinomial(utterances, np.full(utterances, 1 / utterances), replicates)
    totals = np.einsum("asu,ru->ras", errors.astype(np.float64), draws)
    rates = np.einsum("ras,rs->ra", totals, seed_draws)
    low, high = np.quantile(rates[:, 1] - rates[:, 0], [0.025, 0.975], method="weibull")
    return bool(low > 0 or high < 0)
