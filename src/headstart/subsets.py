"""Label budgets: nested subsets of a training split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from headstart.corpora.manifests import FEATURES, read_columns, write_table
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.study.fields import budget_seconds

log = logging.getLogger(__name__)

SUBSET = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
    ]
)


class BudgetError(DataError):
    """A split holds less audio than is asked for."""


def draw(
    num_samples: ArrayLike, seconds: float, seed: int, what: str, speakers: Sequence[str | None] | None = None
) -> np.ndarray:
    """Choose utterances in random order until they hold `seconds` of audio.

    The order depends on the seed but not on `seconds`. Subsets with the same seed are therefore nested: a larger one
    contains all smaller ones.

    Args:
        num_samples: samples of each utterance, at 16 kHz.
        what: what the audio is for, as the subject of the error message.
        speakers: of each utterance, to take the next utterance from the speaker with least audio so far; utterances
            without a speaker count as those of one.

    Returns:
        Indices of the chosen utterances, ascending.

    Raises:
        BudgetError: the utterances hold over 0.5 % less audio than `seconds`.
    """
    order = np.random.default_rng(seed).permutation(len(num_samples))
    if speakers is not None:
        order = order[_turns(np.asarray(num_samples)[order], [speakers[i] for i in order])]
    return take_first(order, num_samples, seconds, what)


def take_first(order: np.ndarray, num_samples: ArrayLike, seconds: float, what: str) -> np.ndarray:
    """The first utterances in an order, until they hold `seconds` of audio; `draw` says what is returned and raised."""
    held = np.cumsum(np.asarray(num_samples)[order]) / SAMPLE_RATE
    total = float(held[-1]) if len(held) else 0.0
    if seconds > total * 1.005:  # 0.5 % tolerance, because hours in a study file are rounded
        raise BudgetError(f"{what}: {seconds / 60:.1f} min of audio asked for, the split holds {total / 60:.1f} min")
    needed = min(int(np.searchsorted(held, seconds)) + 1, len(order))
    return np.sort(order[:needed])


def _turns(num_samples: np.ndarray, speakers: Sequence[str | None]) -> np.ndarray:
    """The order in which speakers take turns: utterances by how much audio of their speaker comes before them."""
    held: dict[str | None, int] = {}
    before = []
    for speaker, length in zip(speakers, num_samples.tolist(), strict=True):
        before.append(held.get(speaker, 0))
        held[speaker] = before[-1] + length
    return np.argsort(before, kind="stable")


def draw_subset(
    features: str, budget: str, seed: int, output: str, by: Literal["random", "speakers"] = "random"
) -> None:
    """Choose the utterances of a label budget, among those with a transcript, and write them as a parquet file.

    Args:
        features: feature manifest of the training split.
        budget: amount of audio, such as `10min` or `1h`.
        output: file to write, with the columns of `SUBSET`.
        by: whether utterances are drawn at random, or speakers take turns, so that a budget has as much of each.

    Raises:
        BudgetError: the transcribed utterances hold less audio.
    """
    table = read_columns(features, FEATURES, ["utterance_id", "text", "num_samples", "speaker"])
    labelled = np.flatnonzero(pc.fill_null(pc.not_equal(table["text"], ""), False))
    lengths = table["num_samples"].to_numpy()[labelled]
    speakers = table["speaker"].take(pa.array(labelled)).to_pylist()
    if by == "speakers" and not any(speakers):
        log.warning("%s names no speakers, so the budget is drawn at random", features)
    what = f"budget {budget!r} of {features}"
    chosen = draw(lengths, budget_seconds(budget), seed, what, speakers if by == "speakers" else None)
    indices = labelled[chosen]
    seconds = lengths[chosen].sum() / SAMPLE_RATE
    log.info("%s, seed %d: %d utterances, %.1f min", budget, seed, len(indices), seconds / 60)
    names = table["utterance_id"].take(pa.array(indices)).to_pylist()
    rows = ({"index": index, "utterance_id": name} for index, name in zip(indices, names, strict=True))
    write_table(output, rows, SUBSET)
