"""`report`: statistics and the page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headstart.score.metrics import METRICS
from headstart.study.fields import Count, Settings


class Report(Settings):
    """How results are summarised."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="Coverage of every interval.")
    bootstrap_replicates: int = Field(2000, ge=20, description="Bootstrap replicates behind every interval.")
    metric: Literal[*METRICS] = Field(
        "cer",
        description="Error rate by which starts are judged: on test in the answer, on dev for convergence. "
        "The others are shown beside it.",
    )
    samples: Count = Field(4, description="Test utterances whose hypotheses are shown for each target.")
