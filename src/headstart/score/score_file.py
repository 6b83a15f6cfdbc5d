"""The score file of a run: a table with one row for each test utterance, from which all rates are computed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from headstart.score.metrics import METRICS


def score_schema() -> pa.Schema:
    """The columns of a score file: facts of the utterance, both normalised texts, and the counts of each metric."""
    return pa.schema(
        [
            pa.field("utterance_id", pa.string(), nullable=False),
            pa.field("speaker", pa.string()),
            pa.field("language", pa.string(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("reference", pa.string(), nullable=False),
            pa.field("hypothesis", pa.string(), nullable=False),
            *(pa.field(column, pa.int64(), nullable=False) for metric in METRICS.values() for column in metric.columns),
        ]
    )


def score_columns(reference: str, hypothesis: str) -> dict[str, Any]:
    """What a score file says of a normalised reference and hypothesis: both, and the counts of each metric."""
    columns: dict[str, Any] = {"reference": reference, "hypothesis": hypothesis}
    for metric in METRICS.values():
        columns |= zip(metric.columns, metric.count(reference, hypothesis), strict=True)
    return columns
