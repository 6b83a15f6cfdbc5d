"""Error rates, and bootstrap intervals for a rate and for the difference between two rates.

An error rate here is corpus-level: all errors over all reference tokens, summed over utterances and seeds, so
a long utterance weighs more than a short one. Counts are arrays `[..., seeds, utterances]`: one row per seed
(a training run), one column per test utterance, the same utterances in the same order for every seed.

Intervals are percentile bootstrap intervals. Every replicate draws utterances with replacement and,
independently, seeds with replacement, and computes the error rate of what it drew. Resampling utterances is
the method of Bisani & Ney (2004), "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP; resampling both sides of the crossed table is Owen (2007), "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2). A difference between two systems uses the same draws for both, as in Bisani
& Ney: the difficulty of an utterance that is common to both systems cancels, so the interval of a difference is
usually narrower than the intervals of its two sides suggest.

What an interval covers: another test set of this size and kind, and another set of this many seeds.

What it does not cover:

* Few seeds. Three seeds are a small sample of the variation between runs, and the interval is too narrow where
  that variation matters. With 2 seeds, the interval of a difference can exclude zero as soon as both seeds agree
  in sign, which happens half the time for equal systems (`false_alarm`). With one seed, the interval is over
  utterances only and holds for that one run.
* Variation between pre-trainings. All seeds of a start fine-tune the same pre-trained checkpoint.
* Correlated utterances. Utterances of one speaker or one recording resemble each other, but are drawn
  independently; with few speakers in the test set, the interval is too narrow for new speakers.
* Multiple comparisons. Intervals are not adjusted: out of twenty true null hypotheses at 95 %, one interval is
  expected to exclude zero.
* Bias that all replicates share, such as errors in transcripts or a test set unlike the users' speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RNG_SEED = 20040517  # An arbitrary constant, so that every interval is a pure function of the counts.
CHUNK_CELLS = 4_000_000  # Bounds the memory of one block of utterance draws (32 MB of float64).
Verdict = Literal["lower", "higher", "unclear"]


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its bootstrap interval. Error rates are fractions (0.25 is 25 %)."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """For the interval of a difference: the side of zero on which all of it lies, or `unclear`."""
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "unclear"


def false_alarm(seeds: int, confidence: float) -> float:
    """How often the interval of a difference excludes zero when two systems are equal and only their runs vary.

    The share is simulated with normally distributed differences between runs and without variation over utterances,
    which is the worst case for few seeds. It approaches 1 - `confidence` with many seeds, and is nearly 0.5 with 2.
    """
    rng = np.random.default_rng(RNG_SEED)
    trials, replicates = 10_000, 500
    differences = rng.standard_normal((trials, seeds))
    means = differences @ draw_counts(rng, replicates, seeds).T / seeds  # [trials, replicates]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=1, method="weibull")
    return float(np.mean((low > 0) | (high < 0)))


def error_rate(errors: ArrayLike, reference: ArrayLike) -> float:
    """Corpus-level error rate: the sum of `errors` (S + D + I) over the sum of `reference` (H + S + D).

    Both are counts of the same shape, whatever it is. The rate is a fraction, and insertions can make it exceed 1.

    Raises:
        ValueError: the shapes differ, a count is negative or not finite, or there are no reference tokens.
    """
    errors, reference = _counts(errors, reference)
    return float(errors.sum() / reference.sum())


def bootstrap_rates(
    errors: ArrayLike, reference: ArrayLike, *, replicates: int = 2000, rng_seed: int = RNG_SEED
) -> NDArray[np.float64]:
    """Bootstrap replicates of error rates, `[replicates, ...]`, from counts `[..., seeds, utterances]`.

    The draws depend only on the numbers of seeds and utterances, on `replicates` and on `rng_seed`. Systems that are
    stacked along leading axes, or passed in separate calls, therefore get the same draws, and the differences of
    their rates are paired. A replicate without reference tokens is NaN.

    Raises:
        ValueError: as `error_rate`, or the counts have fewer than two axes.
    """
    errors, reference = _counts(errors, reference)
    if errors.ndim < 2:
        raise ValueError(f"counts have shape [..., seeds, utterances], not {errors.shape}")
    drawn = _resampled_totals(np.stack([errors, reference]), replicates, rng_seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)


def percentile_interval(estimate: float, replicates: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Percentile interval: the middle share `confidence` of `replicates` [n], with `estimate`; ignores NaN.

    Raises:
        ValueError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    # The (n + 1) q-th of n replicates, unbiased also for small n (Davison & Hinkley 1997, section 5.2.1).
    low, high = np.nanquantile(replicates, [tail, 1 - tail], method="weibull")
    return Interval(float(estimate), float(low), float(high))


def check_same_utterances(
    left: Sequence[str], right: Sequence[str], left_name: str = "left", right_name: str = "right"
) -> None:
    """Check that both sides hold the same utterance ids in the same order.

    Raises:
        ValueError: they do not; the message lists ids that are repeated, missing or moved.
    """
    left, right = list(left), list(right)
    if left == right:
        return
    problems = []
    for name, ids in ((left_name, left), (right_name, right)):
        if len(set(ids)) < len(ids):
            seen: set[str] = set()
            repeated = [i for i in ids if i in seen or seen.add(i)]
            problems.append(f"twice in {name}: {_some(repeated)}")
    for name, only in ((left_name, set(left) - set(right)), (right_name, set(right) - set(left))):
        if only:
            problems.append(f"only in {name}: {_some(sorted(only))}")
    if not problems:
        moved = [f"{a} / {b}" for a, b in zip(left, right, strict=True) if a != b]
        problems.append(f"in another order: {_some(moved)}")
    raise ValueError(f"{left_name} and {right_name} were not scored on the same utterances; " + "; ".join(problems))


def _some(items: Sequence[str], limit: int = 5) -> str:
    """The first `limit` items as text, and the number of further ones."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _counts(errors: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both arrays as float64, in which integer counts are exact, after the checks of `error_rate`."""
    errors, reference = np.asarray(errors, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if errors.shape != reference.shape:
        raise ValueError(f"errors {errors.shape} and reference {reference.shape} differ in shape")
    if not (np.isfinite(errors).all() and np.isfinite(reference).all() and errors.min(initial=0) >= 0):
        raise ValueError("counts are finite and not negative")
    if reference.min(initial=0) < 0:
        raise ValueError("counts are finite and not negative")
    if reference.sum() == 0:
        raise ValueError("an error rate needs at least one reference token; these utterances have none")
    return errors, reference


def _resampled_totals(counts: NDArray[np.float64], replicates: int, rng_seed: int) -> NDArray[np.float64]:
    """Totals `[replicates, ...]` of `counts` `[..., seeds, utterances]` over drawn seeds and utterances.

    The total of a replicate is seed_draws @ counts @ utterance_draws, where draws count how often each item was
    drawn. These matrix products avoid a copy of the counts for each replicate.
    """
    *leading, seeds, utterances = counts.shape
    rng = np.random.default_rng(rng_seed)
    seed_draws = draw_counts(rng, replicates, seeds)
    flat = counts.reshape(-1, utterances).T
    per_seed = np.empty((replicates, flat.shape[1]))
    rows = max(1, CHUNK_CELLS // utterances)
    for first in range(0, replicates, rows):
        size = min(rows, replicates - first)
        per_seed[first : first + size] = draw_counts(rng, size, utterances) @ flat
    return np.einsum("r...s,rs->r...", per_seed.reshape(replicates, *leading, seeds), seed_draws)


def draw_counts(rng: np.random.Generator, replicates: int, items: int) -> NDArray[np.float64]:
    """How often each of `items` items is drawn in `items` draws with replacement: `[replicates, items]`, float64."""
    drawn = rng.integers(items, size=(replicates, items)) + items * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * items)
    return counts.reshape(replicates, items).astype(np.float64)
