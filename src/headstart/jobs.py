"""Jobs: all settings and paths that one job of a stage needs, as one typed object.

`workflow.py` builds jobs from the study. A job goes into the `params` of its rule as plain JSON values (`Job.plain`),
so that Snakemake notices every change of it. The script builds the same job again and passes it to the stage's
function. Paths are relative to Snakemake's working directory.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from headstart.study.analyse import Analyse
from headstart.study.attention import ChunkedAttention
from headstart.study.decoding import LanguageModel, Search
from headstart.study.fields import Settings, is_none
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.probe import Probe
from headstart.study.selection import Select
from headstart.study.semisup import Semisup
from headstart.study.similarity import Acoustic
from headstart.study.text import Text
from headstart.versions import VERSIONS


class SplitFiles(Settings):
    """The two files that the feature stage writes for a split."""

    features: str
    audio: str


class CorpusHours(Settings):
    """Audio of one corpus that a start is trained on.

    Attributes:
        name: of the corpus.
        hours: amount of audio to draw from the training split.
        train: the training split.
        dev: the dev split, where the stage evaluates on it.
        clusters: the file that lists the acoustic clusters of the training split, where audio is selected by them.
    """

    name: str
    hours: float
    train: SplitFiles
    dev: SplitFiles | None = None
    clusters: str | None = Field(None, exclude_if=is_none)


class Job(Settings):
    """Base of the jobs of all stages.

    `version` is the version of the stage's code (see versions.py): when it is raised, the stage's jobs run again.
    """

    stage: ClassVar[str]
    version: int

    def __init_subclass__(cls, stage: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.stage = stage

    @classmethod
    def of(cls, **values: Any) -> Job:
        """A job with the current version of the stage."""
        return cls(version=VERSIONS[cls.stage], **values)

    def plain(self) -> dict[str, Any]:
        """The job as JSON values, from which it can be built again."""
        return self.model_dump(mode="json")


class Normalisation(Settings):
    """Base of the jobs that normalise transcripts.

    `normalisation` is the version of the code that does, which recipes and score files record beside the settings.
    """

    text: Text
    normalisation: int = Field(default_factory=lambda: VERSIONS["normalisation"])


class FetchJob(Job, stage="fetch"):
    """Fetching of one revision of a hub's model into the checkpoint folder `output`."""

    model: str
    revision: str
    output: str


class TrainingJob(Job):
    """Base of the jobs of the training stages."""

    parent: str | None = Field(description="Checkpoint folder that training goes on from; None for random weights.")
    model: Model | None = Field(description="Shape of the encoder with random weights; None with a parent.")
    attention: ChunkedAttention | None = Field(
        None, exclude_if=is_none, description="Chunked attention; None for that of the parent."
    )
    seed: int
    output: str = Field(description="Folder for the checkpoint, curve.parquet and recipe.json.")
    state: str = Field(description="Folder for what a job that was stopped goes on from.")


class PretrainJob(TrainingJob, stage="pretrain"):
    """Pre-training of one start. `select` is None for audio that is drawn at random."""

    corpora: list[CorpusHours]
    select: Select | None = Field(None, exclude_if=is_none)
    settings: Pretrain


class SemisupJob(TrainingJob, Normalisation, stage="semisup"):
    """Refinement of one start by the semi-supervised stage.

    `ssl` has the settings of the self-supervised loss; it is None if that loss is not used. `select` says how
    unlabelled audio is chosen; it is None for audio that is drawn at random.
    """

    labelled: list[CorpusHours]
    unlabelled: list[CorpusHours]
    select: Select | None = Field(None, exclude_if=is_none)
    settings: Semisup
    ssl: Pretrain | None


class FinetuneJob(TrainingJob, Normalisation, stage="finetune"):
    """Fine-tuning of one run. `subset` is the parquet file that lists the label budget's utterances.

    With `adapters`, only adapters and the output layer are trained; `adapter` is the file of their first weights, or
    None for random ones.
    """

    train: SplitFiles
    dev: SplitFiles
    subset: str
    settings: Finetune
    adapters: bool = False
    adapter: str | None = None

    def plain(self) -> dict[str, Any]:
        # Left out where they are not used, so that the params of other jobs are what they were.
        return self.model_dump(mode="json", exclude=set() if self.adapters else {"adapters", "adapter"})


class LanguageModelJob(Job, Normalisation, stage="decode"):
    """Training of the language model of one target.

    `train` and `dev` are feature manifests, `files` text files in `language`. `output` is the ARPA file and `recipe`
    says what it was made from.
    """

    train: str
    dev: str
    files: list[str]
    language: str
    settings: LanguageModel
    output: str
    recipe: str


class LanguageModelFiles(Settings):
    """The two files that a `LanguageModelJob` writes."""

    arpa: str
    recipe: str


class ScoreJob(Job, Normalisation, stage="score"):
    """Scoring of one run on a test split.

    `run` is the run's model folder. `languages` names, for code-switched speech without language tags, its languages
    and a manifest with transcripts in each (see `headstart.text.token_languages`). `language_model` is None for greedy
    decoding only; otherwise the weights of the language model are tuned on `dev`.
    """

    run: str
    test: SplitFiles
    languages: dict[str, str | None] = {}
    dev: SplitFiles | None = None
    language_model: LanguageModelFiles | None = None
    search: Search = Search()
    output: str


class AnalyseJob(Job, stage="analyse"):
    """Comparison of the representations of a start and of its fine-tuned runs on a test split.

    `start` is the start's checkpoint folder, or with `per_seed` the folder of each seed's instance, and `attention` how
    far its frames look when fine-tuning begins. `runs` has the model folders of the runs by seed.
    """

    start: str | dict[int, str]
    attention: ChunkedAttention | None = Field(None, exclude_if=is_none)
    runs: dict[int, str]
    test: SplitFiles
    settings: Analyse
    output: str

    @property
    def starts(self) -> dict[str, dict[int, str]]:
        """The start's checkpoint folders, each with the model folders by seed of the runs that began with it."""
        if isinstance(self.start, str):
            return {self.start: self.runs}
        return {folder: {seed: self.runs[seed]} for seed, folder in self.start.items()}


class ProbeJob(Job, Normalisation, stage="probe"):
    """Probing of one start on one target and label budget.

    Attributes:
        starts: by seed, the checkpoint folder; None for random weights, of the shape `model`.
        model: None with checkpoints.
        attention: chunked attention; None for that of the checkpoint.
        seed_offset: of the start, added to the seed for random weights.
        subsets: by seed, the parquet file that lists the label budget's utterances.
    """

    starts: dict[int, str | None]
    model: Model | None
    attention: ChunkedAttention | None = Field(None, exclude_if=is_none)
    seed_offset: int
    train: SplitFiles
    dev: SplitFiles
    subsets: dict[int, str]
    settings: Probe
    output: str


class SimilarityJob(Job, stage="similarity"):
    """Measurement of how alike languages sound.

    `languages` has training splits in each language; `encoder` is the checkpoint folder whose frames are compared, or
    None for cepstral coefficients.
    """

    languages: dict[str, list[SplitFiles]]
    encoder: str | None
    settings: Acoustic
    output: str


TRAINING = {kind.stage: kind for kind in (PretrainJob, SemisupJob, FinetuneJob)}
