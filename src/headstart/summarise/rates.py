"""Error rates from counts, and the check that runs were scored on the same utterances.

An error rate is corpus-level: all errors over all reference tokens, summed over utterances, so that a long utterance
weighs more than a short one. `headstart.summarise.design` has the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def error_rate(errors: ArrayLike, reference: ArrayLike) -> float:
    """Corpus-level error rate: the sum of `errors` (S + D + I) over the sum of `reference` (H + S + D).

    Both are counts of the same shape, whatever it is. The rate is a fraction, and insertions can make it exceed 1.

    Raises:
        ValueError: the shapes differ, a count is negative or not finite, or there are no reference tokens.
    """
    errors, reference = _counts(errors, reference)
    return float(errors.sum() / reference.sum())


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
