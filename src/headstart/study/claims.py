"""`claims`: statements that the study tests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from headstart.errors import HeadstartError
from headstart.score.metrics import metric_named
from headstart.study.fields import Budget, Name, Settings

TargetKind = Literal["in-domain", "cross-domain", "cross-lingual", "code-switched"]
QUANTITIES = ("updates", "gap", "seconds", "time")  # what claims can be about beside error rates


def _comparable(name: str) -> str:
    if name not in QUANTITIES:
        try:
            metric_named(name)
        except HeadstartError as error:
            raise ValueError(f"{error}; and beside error rates, {', '.join(QUANTITIES)}") from None
    return name


ClaimMetric = Annotated[str, AfterValidator(_comparable)]


class Claim(Settings):
    """A statement that compares starts, and that the study's runs support, contradict or leave open."""

    claim: str = Field(min_length=1, description="The statement in words, a whole sentence.")
    source: str = Field("", description="Who says so, such as `arXiv 2110.04484`.")
    treatment: list[Name] = Field(
        min_length=1, description="Start that the statement is about; or several, whose mean is compared."
    )
    baseline: list[Name] = Field(min_length=1, description="Start that it is compared with; or one for each treatment.")
    targets: list[Name] | None = Field(None, description="Targets that it is about; all if left out.")
    kinds: list[TargetKind] | None = Field(
        None, description="Kinds of targets that it is about. Without such a target, the claim is not tested."
    )
    budgets: list[Budget] | None = Field(None, description="Label budgets that it is about; all if left out.")
    metric: ClaimMetric | None = Field(
        None,
        description="What is compared: an error rate on test, by default `report.metric` (docs/scoring.md lists them: "
        "`wer`, `cer`, `pier`, `wer[es]` and more; with `_lm`, such as `wer_lm`, that of the decoding with a language "
        "model); `updates` to the level of "
        "`convergence`; `gap`, how far fine-tuning moves the representation; `seconds`, the training time of starts "
        "that are trained for each seed (`per_seed`); or `time`, the training time of the treatment as a "
        "share of all pre-training before it.",
    )
    expect: Literal["lower", "higher", "equal"] = Field(
        "lower", description="What the treatment's value is, in comparison with the baseline's, if the statement holds."
    )
    size: Annotated[float, Field(gt=-1.0)] | None = Field(
        None,
        description="Relative change that the source reports (-0.245 is 24.5 % less). It is shown beside the study's "
        "own and does not decide the verdict. For `time`, the largest share that still agrees with the statement.",
    )
    smallest_effect: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="Smallest relative change that matters; `report.smallest_effect` if left out."
    )

    @field_validator("treatment", "baseline", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _pairs(self) -> Claim:
        if len(self.baseline) not in (1, len(self.treatment)):
            raise ValueError(
                f"{len(self.treatment)} treatments have {len(self.baseline)} baselines; "
                "give one baseline for all, or one for each"
            )
        if self.targets is not None and self.kinds is not None:
            raise ValueError("targets and kinds are both given; say which targets the claim is about in one way")
        if self.metric == "time" and self.size is None:
            raise ValueError("size is required with metric time: the largest share that still agrees with the claim")
        return self

    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of a treatment and its baseline."""
        baselines = self.baseline * len(self.treatment) if len(self.baseline) == 1 else self.baseline
        return list(zip(self.treatment, baselines, strict=True))
