"""The files that the summary is made from: where they lie, and their columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.corpora.manifests import read_columns
from headstart.errors import HeadstartError
from headstart.score.metrics import counts_by_metric
from headstart.score.score_table import ALIGNMENT_COLUMNS, LANGUAGE_COLUMNS, ScoreTable

Row = dict[str, Any]


def blocks_of(speakers: Sequence[str | None]) -> tuple[str, np.ndarray]:
    """What a test set is a sample of, "speakers" or "utterances", and the number of each utterance's block.

    It is a sample of speakers where those of all utterances are known, and there are two at least.
    """
    if None in speakers or len(set(speakers)) < 2:
        return "utterances", np.arange(len(speakers))
    return "speakers", np.unique(np.array(speakers, str), return_inverse=True)[1]


@dataclass(frozen=True)
class Counts:
    """Error counts of one run, in the order of utterance ids: arrays `[utterances]` for each metric that applies to it.

    `speakers` has a speaker for each utterance, or is None where the corpus does not know them all.
    """

    utterance_ids: list[str]
    errors: dict[str, np.ndarray]
    reference: dict[str, np.ndarray]
    speakers: list[str] | None

    @property
    def blocks(self) -> tuple[str, np.ndarray]:
        """What the test set is a sample of, "speakers" or "utterances", and the number of each utterance's block."""
        return blocks_of(self.speakers or [None] * len(self.utterance_ids))


def read_counts(path: Path) -> Counts:
    """Read the counts of a score file.

    Raises:
        HeadstartError: the file does not exist, or lacks the alignments of a metric.
        ValueError: it has no utterances, or contains one of them twice.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no score file; run the scoring of this run first")
    table = read_columns(path, None, ["utterance_id", "speaker", *ALIGNMENT_COLUMNS, *LANGUAGE_COLUMNS])
    if missing := [name for name in ALIGNMENT_COLUMNS if name not in table.column_names]:
        raise HeadstartError(
            f"{path}: no column {missing[0]!r}; delete the file and run again, which scores the run anew"
        )
    table = table.sort_by("utterance_id")
    ids = table["utterance_id"].to_pylist()
    if not ids:
        raise ValueError(f"{path}: no scored utterances")
    if len(set(ids)) < len(ids):
        repeated = sorted({a for a, b in zip(ids, ids[1:], strict=False) if a == b})
        raise ValueError(f"{path}: scored more than once: {', '.join(repeated[:5])}")
    counts = counts_by_metric(ScoreTable({name: table[name].to_pylist() for name in table.column_names}))
    speakers = table["speaker"].to_pylist() if "speaker" in table.column_names else [None]
    return Counts(
        ids,
        {name: own.errors for name, own in counts.items()},
        {name: own.reference for name, own in counts.items()},
        None if None in speakers else speakers,
    )


def score_path(results: Path, study: str, run: tuple[str, str, str, int]) -> Path:
    """Path of the score file of a (start, target, budget, seed)."""
    start, target, budget, seed = run
    return Path(results) / study / "scores" / start / target / budget / f"seed{seed}.parquet"


def run_folder(results: Path, study: str, run: tuple[str, str, str, int]) -> Path:
    """Folder of the model, recipe and learning curve of a (start, target, budget, seed)."""
    start, target, budget, seed = run
    return Path(results) / study / "runs" / start / target / budget / f"seed{seed}"


def representation_path(results: Path, study: str, start: str, target: str, budget: str) -> Path:
    """Path of the similarities of a start and its fine-tuned runs, of all seeds together."""
    return Path(results) / study / "representation" / start / target / f"{budget}.parquet"


def probe_path(results: Path, study: str, start: str, target: str, budget: str) -> Path:
    """Path of the error rates of the probes of a start."""
    return Path(results) / study / "probes" / start / target / f"{budget}.parquet"


def finite(value: float) -> float | None:
    """`value` as a plain float, or None when it is NaN or infinite, which JSON cannot express."""
    return float(value) if math.isfinite(value) else None
