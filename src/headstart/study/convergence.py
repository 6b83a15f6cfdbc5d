"""`convergence`: the level of error that the speed of starts is compared at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from headstart.study.fields import Positive, Settings


class Convergence(Settings):
    """The level of dev error whose first crossing is timed; without keys, where the baseline start ends."""

    level: Annotated[float, Field(gt=0.0, lt=2.0)] | None = Field(
        None, description="The level as an error rate, such as 0.3 for 30 %."
    )
    share: Positive | None = Field(
        None,
        description="The level as a share of the baseline start's final dev error with the same target, budget and "
        "seed; 1 if `level` is not given either.",
    )

    smallest_effect: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1,
        description="Smallest relative change of the time to the level that matters to you. Two starts are called "
        "equally fast if the change between them is surely smaller.",
    )

    @model_validator(mode="after")
    def _one_level(self) -> Convergence:
        if self.level is not None and self.share is not None:
            raise ValueError("level and share are both given, but there is one level; keep one of them")
        return self
