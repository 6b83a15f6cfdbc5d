"""Label budgets: nested subsets of a training split."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from headstart.corpora.manifests import FEATURES, read_columns, write_table
from headstart.errors import HeadstartError
from headstart.features.audio import SAMPLE_RATE
from headstart.study.sections import budget_seconds

log = logging.getLogger(__name__)

SUBSET = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
    ]
)


class BudgetError(HeadstartError):
    """More audio is asked for than the split holds."""


def draw(num_samples: ArrayLike, seconds: float, seed: int, what: str) -> np.ndarray:
    """Choose utterances, in a random order of the seed, until they hold `seconds` of audio.

    The order does not depend on `seconds`: a larger subset with the same seed holds all of a smaller one.

    Args:
        num_samples: samples of each utterance, at 16 kHz.

    Returns:
        Indices of the chosen utterances, ascending.

    Raises:
        BudgetError: the utterances hold less; names `what` asked and what is there.
    """
    order = np.random.default_rng(seed).permutation(len(num_samples))
    held = np.cumsum(np.asarray(num_samples)[order]) / SAMPLE_RATE
    total = float(held[-1]) if len(held) else 0.0
    if seconds > total * 1.005:  # half a per cent of grace: hours in a study file are round numbers
        raise BudgetError(f"{what}: {seconds / 60:.1f} min of audio asked for, the split holds {total / 60:.1f} min")
    needed = min(int(np.searchsorted(held, seconds)) + 1, len(order))
    return np.sort(order[:needed])


def draw_subset(features: str, budget: str, seed: int, output: str) -> None:
    """Write the utterances of a label budget; raises `BudgetError` naming the largest budget possible."""
    table = read_columns(features, FEATURES, ["utterance_id", "text", "num_samples"])
    labelled = np.flatnonzero(pc.fill_null(pc.not_equal(table["text"], ""), False))
    lengths = table["num_samples"].to_numpy()[labelled]
    chosen = draw(lengths, budget_seconds(budget), seed, f"budget {budget!r} of {features}")
    indices = labelled[chosen]
    seconds = lengths[chosen].sum() / SAMPLE_RATE
    log.info("%s, seed %d: %d utterances, %.1f min", budget, seed, len(indices), seconds / 60)
    names = table["utterance_id"].take(pa.array(indices)).to_pylist()
    rows = ({"index": index, "utterance_id": name} for index, name in zip(indices, names, strict=True))
    write_table(output, rows, SUBSET)
