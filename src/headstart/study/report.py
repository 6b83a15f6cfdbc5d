"""`report`: statistics and the page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headstart.score.metrics import CURVE_METRICS
from headstart.study.fields import Count, Settings


class Report(Settings):
    """How results are summarised."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="Coverage of every interval.")
    smallest_effect: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.03,
        description="Smallest relative change of an error rate that matters to you (0.03 is 3 %). Two starts are "
        "called equal if the change between them is surely smaller.",
    )
    metric: Literal[*CURVE_METRICS] = Field(
        "cer",
        description="Error rate by which starts are judged: on test in the answer, on dev for convergence. "
        "The others are shown beside it.",
    )
    samples: Count = Field(4, description="Test utterances whose hypotheses are shown for each target.")
    compared: Count = Field(
        200,
        description="Test utterances of each target and budget on the page that shows two starts side by side: those "
        "in which starts differ most.",
    )
    clips: bool = Field(
        True, description="Whether their audio is put beside the report, so that it can be played; false keeps it out."
    )
