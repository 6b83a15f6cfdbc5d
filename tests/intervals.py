"""Intervals of an error rate and of a difference, as `summarise/contrasts.py` puts them together, for two systems."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from headstart.summarise.statistics import RNG_SEED, Interval, bootstrap_rates, error_rate, percentile_interval


def bootstrap_interval(
    errors: ArrayLike,
    reference: ArrayLike,
    *,
    confidence: float = 0.95,
    replicates: int = 2000,
    rng_seed: int = RNG_SEED,
) -> Interval:
    """Error rate with its interval, from counts `[seeds, utterances]`."""
    rates = bootstrap_rates(errors, reference, replicates=replicates, rng_seed=rng_seed)
    return percentile_interval(error_rate(errors, reference), rates, confidence)


def paired_difference(
    treatment: tuple[ArrayLike, ArrayLike],
    baseline: tuple[ArrayLike, ArrayLike],
    *,
    confidence: float = 0.95,
    replicates: int = 2000,
    rng_seed: int = RNG_SEED,
) -> Interval:
    """Error rate of `treatment` minus that of `baseline`, with its interval; negative is better.

    Each side is (errors, reference), counts `[seeds, utterances]` over the same seeds and utterances in the
    same order (see `check_same_utterances`). Both sides get the same draws, so two identical systems differ
    by exactly 0 with interval [0, 0].

    Raises:
        ValueError: the shapes differ, or a side's counts are invalid (see `error_rate`).
    """
    shapes = np.shape(treatment[0]), np.shape(baseline[0])
    if shapes[0] != shapes[1]:
        raise ValueError(f"a paired difference needs the same seeds and utterances; shapes are {shapes}")
    settings = {"replicates": replicates, "rng_seed": rng_seed}
    difference = bootstrap_rates(*treatment, **settings) - bootstrap_rates(*baseline, **settings)
    return percentile_interval(error_rate(*treatment) - error_rate(*baseline), difference, confidence)
