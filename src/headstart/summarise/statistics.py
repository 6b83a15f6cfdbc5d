"""Error rates and bootstrap intervals: how sure can we be of a WER, and of a difference between two?

An error rate here is corpus-level: all errors over all reference tokens, summed over utterances and seeds, so
a long utterance weighs more than a short one. Counts arrive as arrays `[..., seeds, utterances]`: one row a
seed (a training run), one column a test utterance, the same utterances in the same order for every seed.

Intervals are percentile bootstrap intervals. Every replicate draws utterances with replacement and,
independently, seeds with replacement, and computes the error rate of what it drew. Resampling utterances is
the method of Bisani & Ney (2004), "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP; resampling both sides of the crossed table is Owen (2007), "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2). A difference between two systems uses the same draws for both, as in Bisani
& Ney: what makes an utterance hard for both cancels, so the interval of a difference is usually narrower than
those of its two sides suggest.

What an interval covers: another test set of this size and kind, and another set of this many seeds.

What it does not cover:

* Few seeds. Three seeds say little about how runs vary, and an interval over them is too narrow where seeds
  matter: with 2, the interval of a difference excludes zero as soon as both seeds agree, which equal systems do
  half the time (`false_alarm`). With one seed it is an interval over utterances only, for that one run.
* Another pre-training. All seeds of a start fine-tune one checkpoint, and that one's luck is in all of them.
* Correlated utterances. Utterances of one speaker or one recording resemble each other, but are drawn one by
  one; with few speakers in the test set the interval is too narrow for "new speakers".
* Many comparisons. Each interval stands alone; out of twenty true nulls at 95 %, one is expected to exclude
  zero.
* Bias that all replicates share: errors in transcripts, a test set that is not like the users' speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RNG_SEED = 20040517  # Any constant does: it makes every interval a pure function of the counts.
CHUNK_CELLS = 4_000_000  # Bounds the memory of one block of utterance draws (32 MB of float64).
Verdict = Literal["lower", "higher", "unclear"]


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its bootstrap interval, in the estimate's unit (a rate: 0.25 is 25 %)."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies strictly on one side of zero."""
        return self.verdict != "unclear"

    @property
    def verdict(self) -> Verdict:
        """What the interval of a difference says: on which side of zero all of it lies, or that it includes zero."""
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "unclear"


def false_alarm(seeds: int, confidence: float) -> float:
    """How often the interval of a difference excludes zero between equal systems that differ by the luck of their runs.

    Simulated, with normal differences and no test utterances to add to them: the worst that few seeds can do. It is
    1 - `confidence` with many seeds, and nearly one half with 2.
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

    Both are counts of any one shape. The rate is a fraction and may exceed 1, for insertions have no limit.
    Raises `ValueError` when the shapes differ, a count is negative, or there are no reference tokens.
    """
    errors, reference = _counts(errors, reference)
    return float(errors.sum() / reference.sum())


def bootstrap_rates(
    errors: ArrayLike, reference: ArrayLike, *, replicates: int = 2000, rng_seed: int = RNG_SEED
) -> NDArray[np.float64]:
    """Error rates of resampled tests, `[replicates, ...]`, from counts `[..., seeds, utterances]`.

    The draws depend on the numbers of seeds and utterances, on `replicates` and on `rng_seed`, and on nothing
    else. So systems that are stacked along leading axes, or passed in separate calls, meet the same draws,
    and the difference of their rates is a paired one. A replicate without reference tokens is NaN.
    """
    errors, reference = _counts(errors, reference)
    if errors.ndim < 2:
        raise ValueError(f"counts have shape [..., seeds, utterances], not {errors.shape}")
    drawn = _resampled_totals(np.stack([errors, reference]), replicates, rng_seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)


def percentile_interval(estimate: float, replicates: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The middle `confidence` share of `replicates` [n], around `estimate`; NaN replicates are left out."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    # The (n + 1) q-th of n replicates: unbiased also where they are few (Davison & Hinkley 1997, section 5.2.1).
    low, high = np.nanquantile(replicates, [tail, 1 - tail], method="weibull")
    return Interval(float(estimate), float(low), float(high))


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
    same order (see `check_same_utterances`), and both sides meet the same draws: two identical systems differ
    by exactly 0 with interval [0, 0]. Raises `ValueError` when the shapes differ.
    """
    shapes = np.shape(treatment[0]), np.shape(baseline[0])
    if shapes[0] != shapes[1]:
        raise ValueError(f"a paired difference needs the same seeds and utterances; shapes are {shapes}")
    settings = {"replicates": replicates, "rng_seed": rng_seed}
    difference = bootstrap_rates(*treatment, **settings) - bootstrap_rates(*baseline, **settings)
    return percentile_interval(error_rate(*treatment) - error_rate(*baseline), difference, confidence)


def check_same_utterances(
    left: Sequence[str], right: Sequence[str], left_name: str = "left", right_name: str = "right"
) -> None:
    """Raise `ValueError`, naming utterances, unless both sides hold the same ids in the same order."""
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
    """The first few items, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _counts(errors: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both arrays as checked float64, in which integer counts are exact."""
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
    """Totals `[replicates, ...]` of `counts` `[..., seeds, utterances]` over drawn seeds and drawn
    utterances.

    A replicate's total is seed_draws @ counts @ utterance_draws, where draws say how often each item was
    drawn: matrix products, and no copy of the counts for each replicate.
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
    """How often each of `items` comes up when as many are drawn with replacement, `[replicates, items]`."""
    drawn = rng.integers(items, size=(replicates, items)) + items * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * items)
    return counts.reshape(replicates, items).astype(np.float64)
