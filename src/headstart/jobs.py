"""Jobs: everything that one job of a stage needs, as one typed object.

`workflow.py` builds a job from the study. Its plain form goes into the `params` of the job's rule, so that Snakemake
sees every change of it, and the stage's function takes the job as it is. Paths are relative to where Snakemake runs.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from headstart.score.metrics import METRICS
from headstart.study.sections import Analyse, Finetune, Model, Pretrain, Semisup, Settings, Text
from headstart.versions import VERSIONS


class SplitFiles(Settings):
    """The two files that the feature stage writes for a split."""

    features: str
    audio: str


class CorpusHours(Settings):
    """What a start is trained on: hours of a corpus's training split, and the dev split where the stage looks at it."""

    name: str
    hours: float
    train: SplitFiles
    dev: SplitFiles | None = None


class Job(Settings):
    """What the jobs of all stages have in common.

    `version` is the stage's, so that a raised one changes the job.
    """

    stage: ClassVar[str]
    version: int

    def __init_subclass__(cls, stage: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.stage = stage

    @classmethod
    def of(cls, **values: Any) -> Job:
        """A job of this library's version of the stage."""
        return cls(version=VERSIONS[cls.stage], **values)

    def plain(self) -> dict[str, Any]:
        """JSON values from which the same job can be built again."""
        return self.model_dump(mode="json")


class TrainingJob(Job):
    """What the training stages have in common."""

    parent: str | None = Field(description="Checkpoint folder that training goes on from; None for random weights.")
    model: Model | None = Field(description="Shape of the encoder with random weights; None with a parent.")
    seed: int
    output: str = Field(description="Folder for the checkpoint, curve.parquet and recipe.json.")
    state: str = Field(description="Folder for what a job that was stopped goes on from.")


class PretrainJob(TrainingJob, stage="pretrain"):
    """Pre-training of one start."""

    corpora: list[CorpusHours]
    settings: Pretrain


class SemisupJob(TrainingJob, stage="semisup"):
    """Refinement of one start. `ssl` holds the settings of the self-supervised loss, None without one."""

    labelled: list[CorpusHours]
    unlabelled: list[CorpusHours]
    settings: Semisup
    ssl: Pretrain | None
    text: Text


class FinetuneJob(TrainingJob, stage="finetune"):
    """Fine-tuning of one run. `subset` is the parquet file of the label budget's utterances."""

    train: SplitFiles
    dev: SplitFiles
    subset: str
    settings: Finetune
    text: Text


class ScoreJob(Job, stage="score"):
    """Scoring of one run, a model folder, on a test split.

    `metrics` are all that there are: a new one changes the job, because the score file gets its columns.
    """

    run: str
    test: SplitFiles
    text: Text
    metrics: list[str] = Field(default_factory=lambda: list(METRICS))
    output: str


class AnalyseJob(Job, stage="analyse"):
    """Comparison of a start with its fine-tuned runs, model folders by seed, on a test split."""

    start: str
    runs: dict[int, str]
    test: SplitFiles
    settings: Analyse
    output: str


TRAINING = {kind.stage: kind for kind in (PretrainJob, SemisupJob, FinetuneJob)}
