"""Label budgets: nested subsets of a training split."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headstart.config import budget_seconds
from headstart.features import SAMPLE_RATE
from headstart.logs import HeadstartError
from headstart.manifests import FEATURES, read_table, write_table

log = logging.getLogger(__name__)

SUBSET = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
    ]
)


class BudgetError(HeadstartError):
    """More audio is asked for than the split holds."""


def draw(num_samples: Sequence[int], seconds: float, seed: int, what: str) -> list[int]:
    """Indices of utterances, in a random order of the seed, until they hold `seconds` of audio.

    The order does not depend on `seconds`: a smaller subset is a prefix of a larger one with the same seed.

    Raises:
        BudgetError: the utterances hold less; names `what` asked and what is there.
    """
    order = np.random.default_rng(seed).permutation(len(num_samples))
    held = np.cumsum(np.asarray(num_samples)[order]) / SAMPLE_RATE
    total = float(held[-1]) if len(held) else 0.0
    if seconds > total * 1.005:  # half a per cent of grace: hours in a study file are round numbers
        raise BudgetError(f"{what}: {seconds / 60:.1f} min of audio asked for, the split holds {total / 60:.1f} min")
    needed = min(int(np.searchsorted(held, seconds)) + 1, len(order))
    return sorted(order[:needed].tolist())


def draw_subset(features: str, budget: str, seed: int, output: str) -> None:
    """Write the utterances of a label budget; raises `BudgetError` naming the largest budget possible."""
    rows = [(i, row) for i, row in enumerate(read_table(features, FEATURES)) if row["text"]]
    chosen = draw(
        [row["num_samples"] for _, row in rows], budget_seconds(budget), seed, f"budget {budget!r} of {features}"
    )
    subset = [{"index": rows[i][0], "utterance_id": rows[i][1]["utterance_id"]} for i in chosen]
    seconds = sum(rows[i][1]["num_samples"] for i in chosen) / SAMPLE_RATE
    log.info("%s, seed %d: %d utterances, %.1f min", budget, seed, len(subset), seconds / 60)
    write_table(output, subset, SUBSET)
