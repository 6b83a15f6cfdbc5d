"""`analyse`: the comparison of representations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headstart.study.fields import Positive, Settings


class Analyse(Settings):
    """Similarity, layer by layer, of each pre-trained start and what fine-tuning makes of it, on test audio."""

    minutes: Positive = Field(10.0, description="Minutes of each target's test split, from its start.")
    measure: Literal["pwcca", "svcca", "cka"] = Field(
        "pwcca",
        description="Measure of the representation gap: projection-weighted CCA (Morcos et al. 2018), singular vector "
        "CCA (Raghu et al. 2017), or linear centred kernel alignment (Kornblith et al. 2019). All are shown.",
    )
    variance: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.99, description="Share of the variance that SVCCA keeps of each side."
    )
    bootstrap_replicates: int = Field(100, ge=20, description="Bootstrap replicates behind every interval.")
