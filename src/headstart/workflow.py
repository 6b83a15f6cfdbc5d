"""The jobs of a study, their settings, and the files that they read and write.

The rule files ask this module, which knows nothing of Snakemake. A method `*_settings` returns all that a job's result
depends on apart from its input files, and goes into the rule's `params`; a method `*_input` returns the input files.
Nothing here imports torch or transformers, so that planning is quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headstart.changes import CorpusFiles
from headstart.corpora.reader import CorpusError, Reader
from headstart.corpora.registry import open_reader
from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.encoder.checkpoint_files import CheckpointError, check_checkpoint, checkpoint_files
from headstart.encoder.hub_folder import FILES, SOURCE, adapter_file, model_folder, source_of
from headstart.jobs import (
    AnalyseJob,
    CorpusHours,
    FetchJob,
    FinetuneJob,
    LanguageModelFiles,
    LanguageModelJob,
    PretrainJob,
    ProbeJob,
    ScoreJob,
    SemisupJob,
    SimilarityJob,
    SplitFiles,
)
from headstart.readings import clash
from headstart.study.analyse import Analyse
from headstart.study.corpora import WithText
from headstart.study.decoding import Search
from headstart.study.facts import Facts, facts_of
from headstart.study.fields import SPLITS, Split
from headstart.study.reading import StudyError
from headstart.study.selection import Select
from headstart.study.similarity import ACOUSTIC_FILE
from headstart.study.starts import HubStart, SemisupStart, SslStart, Start
from headstart.study.study import Study
from headstart.summarise.pretraining_data import compared_languages
from headstart.versions import VERSIONS

Files = dict[str, str | list[str]]
ONLY_SPEED = ("threads", "devices", "nodes")  # keys of a study that no result depends on
ONLY_SHOWN = ("samples", "compared", "clips")  # keys of `report` that no number depends on
CHECKPOINT = ("model.safetensors", "config.json", "preprocessor_config.json", "recipe.json")
BRACES = "Snakemake takes braces in the path of an input for wildcards; rename it"


class Workflow:
    """The jobs of one study. Paths are relative to Snakemake's working directory."""

    def __init__(self, study: Study):
        self.study = study
        self.results = f"results/{study.study}"

    # ---------------------------------------------------------------------------------------------- on disk

    def problems(self) -> list[str]:
        """Problems with files on disk that keep the study from running, one line for each."""
        found = []
        for name in self.study.corpora:
            try:
                self.reader(name).check()
            except CorpusError as error:
                found.append(f"corpora.{name}: {error}")
            else:
                found += [f"corpora.{name}: {path}: {BRACES}" for path in self.corpus_inputs(name) if _has_braces(path)]
            if another := clash(self, name):
                found.append(f"corpora.{name}: {another}")
        for name, corpus in self.study.corpora.items():
            missing = [path for path in corpus.text if not Path(path).is_file()]
            found += [f"corpora.{name}.text: {path}: no such file" for path in missing]
            found += [f"corpora.{name}.text: {path}: {BRACES}" for path in corpus.text if _has_braces(path)]
        for name, path in self.study.similarity.tables.items():
            if not Path(path).is_file():
                found.append(f"similarity.tables.{name}: {path}: no such file")
            elif _has_braces(path):
                found.append(f"similarity.tables.{name}: {path}: {BRACES}")
        for name, start in self.study.starts.items():
            try:
                # A hub's model that is not there yet is checked when it is fetched: nothing here asks the network.
                if (folder := outside_folder(start)) and folder not in self.to_fetch():
                    if _has_braces(folder):
                        raise CheckpointError(f"{folder}: {BRACES}")
                    check_checkpoint(folder)
                if (adapter := self.adapter(name)) and getattr(start, "path", None) and not Path(adapter).is_file():
                    raise CheckpointError(f"{adapter}: no such file; `adapter` names the language of a file here")
            except CheckpointError as error:
                found.append(f"starts.{name}: {error}")
        return found

    def check(self, source: str) -> None:
        """Raise `StudyError` with all lines of `problems`, if there are any; `source` is the study file's name."""
        if found := self.problems():
            count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
            raise StudyError("\n".join([f"{source}: {count}", *(f"  {line}" for line in found)]))

    # ---------------------------------------------------------------------------------------------- corpora

    def synthetic(self) -> list[str]:
        """Names of the synthetic corpora, which the workflow makes itself."""
        return [name for name, corpus in self.study.corpora.items() if isinstance(corpus, SyntheticCorpus)]

    def reader(self, corpus: str) -> Reader:
        """The reader of a corpus."""
        return open_reader(self.study.corpora[corpus], raw_folder(corpus))

    def corpus_settings(self, corpus: str) -> dict[str, Any]:
        """Settings of the job that reads a corpus into manifests."""
        return {"version": VERSIONS["corpora"], "corpus": self.recordings(corpus)}

    def recordings(self, corpus: str) -> dict[str, Any]:
        """The settings of a corpus without those that its recordings and transcripts do not depend on."""
        settings = _plain(self.study.corpora[corpus])
        return {key: value for key, value in settings.items() if key not in {*WithText.model_fields, "shards"}}

    def corpus_files(self, corpus: str) -> dict[Split, CorpusFiles]:
        """The manifests of a corpus, and the feature manifests that repeat their transcripts."""
        shards = tuple(self.shards(corpus)["features"])
        return {
            split: CorpusFiles(
                manifest=f"data/manifests/{corpus}/{split}.parquet",
                rejects=f"data/manifests/{corpus}/{split}.rejects.parquet",
                features=self.split(corpus, split).features,
                shards=shards if split == "train" else (),
            )
            for split in SPLITS
        }

    def synthesis_settings(self, corpus: str) -> dict[str, Any]:
        """Settings of the job that makes a synthetic corpus."""
        return {"version": VERSIONS["synthesis"], "corpus": self.recordings(corpus)}

    def corpus_inputs(self, corpus: str) -> list[str]:
        """The input files of the job that reads a corpus (see `Reader.inputs`), without separate audio files."""
        return self.reader(corpus).inputs()

    def split(self, corpus: str, split: str) -> SplitFiles:
        """The files that the feature stage writes for a split."""
        folder = f"data/features/{corpus}"
        return SplitFiles(features=f"{folder}/{split}.parquet", audio=f"{folder}/{split}.arrow")

    def sharded(self) -> dict[str, int]:
        """The corpora whose training split is extracted in several jobs, with the number of jobs."""
        shards = {name: getattr(corpus, "shards", 1) for name, corpus in self.study.corpora.items()}
        return {name: count for name, count in shards.items() if count > 1}

    def shards(self, corpus: str) -> Files:
        """The files of the shards of a corpus's training split, in their order."""
        count = self.sharded().get(corpus, 0)
        stems = [f"data/features/{corpus}/shards/train/{number}-of-{count}" for number in range(count)]
        suffixes = {"features": ".parquet", "audio": ".arrow", "rejects": ".rejects.parquet"}
        return {kind: [stem + suffix for stem in stems] for kind, suffix in suffixes.items()}

    def _shards_of(self, splits: Iterable[SplitFiles]) -> list[str]:
        """The files of shards that are opened with some splits."""
        wanted = {split.audio for split in splits}
        found = [self.shards(name) for name in self.sharded() if self.split(name, "train").audio in wanted]
        return [path for files in found for path in (*files["features"], *files["audio"])]

    def subset(self, corpus: str, budget: str, seed: int) -> str:
        """The file that lists the utterances of a label budget."""
        return f"data/subsets/{corpus}/{budget}/seed{seed}.parquet"

    def clusters(self, corpus: str, clusters: int) -> str:
        """The file that lists the acoustic clusters of a corpus's training split."""
        return f"data/clusters/{corpus}/{clusters}.parquet"

    def features_settings(self) -> dict[str, Any]:
        """Settings of the feature stage's job. Audio that was replaced shows in the manifest, its input."""
        return {"version": VERSIONS["features"]}

    def subset_settings(self, corpus: str, budget: str, seed: int) -> dict[str, Any]:
        """Settings of the job that draws the utterances of a label budget."""
        drawn = self.study.corpora[corpus].budget_draw
        settings = {"version": VERSIONS["subsets"], "budget": budget, "seed": seed}
        return settings if drawn == "random" else {**settings, "by": drawn}

    def clusters_input(self, corpus: str) -> Files:
        """The files that clustering the utterances of a training split opens; transcripts are not read."""
        split = self.split(corpus, "train")
        return {"untranscribed": split.features, "audio": split.audio, "shards": self._shards_of([split])}

    def clusters_settings(self, clusters: int) -> dict[str, Any]:
        """Settings of the job that clusters the utterances of a training split."""
        return {"version": VERSIONS["clusters"], "clusters": clusters}

    def splits(self) -> list[tuple[str, str]]:
        """(corpus, split) of every split that the study uses."""
        used = {(target.corpus, split) for target in self.study.targets.values() for split in ("train", "dev", "test")}
        for target in self.study.targets.values():
            used |= {(corpus, "train") for corpus in target.languages.values() if corpus}
        for start in self.study.starts.values():
            used |= {(corpus, "train") for corpus in getattr(start, "corpora", {})}
            used |= {(corpus, "dev") for corpus in getattr(start, "labelled", {})}
        return sorted(used)

    # ---------------------------------------------------------------------------------------------- starts
    # A start that is trained once for each seed has one instance a seed, named NAME/seedN. Any other has one instance,
    # with its own name. Everything below takes the names of instances.

    def pretrained(self) -> list[str]:
        """Instances of the starts that the study pre-trains."""
        return self._instances(SslStart)

    def refined(self) -> list[str]:
        """Instances of the starts that the study refines with the semi-supervised stage."""
        return self._instances(SemisupStart)

    def _instances(self, kind: type) -> list[str]:
        starts = [name for name, start in self.study.starts.items() if isinstance(start, kind)]
        return [instance for name in starts for instance in self.study.instances(name).values()]

    def _start(self, instance: str) -> Start:
        return self.study.starts[instance.split("/")[0]]

    def is_trained(self, instance: str) -> bool:
        """Whether the study pre-trains or refines a start."""
        return isinstance(self._start(instance), SslStart | SemisupStart)

    def start_folder(self, instance: str) -> str | None:
        """Checkpoint folder of a start; None for random weights."""
        if self.is_trained(instance):
            return f"{self.results}/starts/{instance}"
        return outside_folder(self._start(instance))

    def parent(self, instance: str) -> str | None:
        """The instance of another start of this study that a start is trained from; None if there is none."""
        name, _, seed = instance.partition("/seed")
        parent = getattr(self.study.starts[name], "from_", None)
        return parent if parent is None or not seed else self.study.instance(parent, int(seed))

    def parent_folder(self, instance: str) -> str | None:
        """Checkpoint folder that a start is trained from; None for random weights."""
        parent = self.parent(instance)
        return outside_folder(self._start(instance)) if parent is None else self.start_folder(parent)

    def hub_models(self) -> dict[str, tuple[str, str]]:
        """The models of a hub that the study uses: folder -> name and revision."""
        models = filter(None, (getattr(start, "hub_model", None) for start in self.study.starts.values()))
        return {model_folder(*model): model for model in models}

    def to_fetch(self) -> list[str]:
        """The folders of the hub's models that are not there yet."""
        return [folder for folder in self.hub_models() if not all(Path(folder, name).is_file() for name in FILES)]

    def adapter(self, name: str) -> str | None:
        """The file of the adapter that fine-tuning from a start begins with; None if there is none."""
        start = self.study.starts[name]
        language = getattr(start, "adapter", None)
        return adapter_file(outside_folder(start), language) if language else None

    def facts(self, name: str) -> Facts:
        """What is known of the checkpoint from outside that a start is or descends from; nothing if there is none."""
        start = self.study.starts[name]
        while parent := getattr(start, "from_", None):
            start = self.study.starts[parent]
        folder = outside_folder(start)
        return facts_of(start, source_of(folder) if folder else None)

    def fetch_job(self, folder: str) -> FetchJob:
        """The job that fetches a hub's model."""
        model, revision = self.hub_models()[folder]
        return FetchJob.of(model=model, revision=revision, output=folder)

    def checkpoint_input(self, folder: str | None) -> list[str]:
        """The files of a checkpoint folder that a job opens to train from it; none for random weights."""
        if folder is None:
            return []
        if folder in map(self.start_folder, self.ancestors_first()):
            return [f"{folder}/{name}" for name in CHECKPOINT]
        if folder in self.hub_models():
            return [f"{folder}/{name}" for name in FILES]
        recipe = Path(folder) / "recipe.json"
        return [str(path) for path in (*checkpoint_files(folder), *([recipe] if recipe.is_file() else []))]

    def ancestors_first(self) -> list[str]:
        """Instances of the starts that the study trains, each after its parent."""
        order: list[str] = []

        def add(name: str) -> None:
            parent = getattr(self.study.starts[name], "from_", None)
            if parent in self.study.starts:
                add(parent)
            if self.is_trained(name):
                order.extend(self.study.instances(name).values())

        for name in self.study.starts:
            add(name)
        return list(dict.fromkeys(order))

    # ---------------------------------------------------------------------------------------------- jobs

    def node_resources(self) -> dict[str, int | str]:
        """Resources by which Snakemake's executor for Slurm asks for the nodes of a training job."""
        nodes = self.study.nodes
        if nodes == 1:
            return {"nodes": 1}
        # One task on each node, however many GPUs it has. The executor starts an MPI job outside of a step, which could
        # only be on one node; the job starts a step on all of them itself.
        return {"nodes": nodes, "tasks": nodes, "tasks_per_gpu": 0, "mpi": "srun"}

    def start_job(self, instance: str) -> PretrainJob | SemisupJob:
        """The job that pre-trains or refines a start."""
        name, _, seed = instance.partition("/seed")
        start, settings = self.study.starts[name], self.study.settings_of(name)
        parent = self.parent_folder(instance)
        common = {
            "settings": settings,
            "parent": parent,
            # A parent has its own shape.
            "model": None if parent else self.study.model,
            "attention": self.study.attention_of(name),
            "seed": start.seed + int(seed or 0),
            "output": f"{self.results}/starts/{instance}",
            "state": f"{self.results}/.state/starts/{instance}",
        }
        if isinstance(start, SslStart):
            corpora = [self._hours(*corpus, select=start.select) for corpus in start.corpora.items()]
            return PretrainJob.of(corpora=corpora, select=start.select, **common)
        return SemisupJob.of(
            labelled=[self._hours(*corpus, dev=True) for corpus in start.labelled.items()],
            unlabelled=[self._hours(*corpus, select=start.select) for corpus in start.unlabelled.items()],
            select=start.select,
            ssl=self.study.pretrain_of(name) if settings.ssl.weight else None,
            text=self.study.text,
            **common,
        )

    def _hours(self, corpus: str, hours: float, dev: bool = False, select: Select | None = None) -> CorpusHours:
        return CorpusHours(
            name=corpus,
            hours=hours,
            train=self.split(corpus, "train"),
            dev=self.split(corpus, "dev") if dev else None,
            clusters=self.clusters(corpus, select.clusters) if select and select.by == "clusters" else None,
        )

    def start_input(self, instance: str) -> Files:
        """The files that the job of a start opens; of feature manifests that are `untranscribed`, no transcripts."""
        job = self.start_job(instance)
        labelled, unlabelled = ([], job.corpora) if isinstance(job, PretrainJob) else (job.labelled, job.unlabelled)
        corpora = [*labelled, *unlabelled]
        splits = [split for corpus in corpora for split in (corpus.train, corpus.dev) if split]
        read = dict.fromkeys(split.features for corpus in labelled for split in (corpus.train, corpus.dev) if split)
        return {
            "features": list(read),
            "untranscribed": [f for f in dict.fromkeys(split.features for split in splits) if f not in read],
            "audio": [*dict.fromkeys(split.audio for split in splits), *self._shards_of(splits)],
            "clusters": [corpus.clusters for corpus in corpora if corpus.clusters],
            "parent": self.checkpoint_input(job.parent),
        }

    def finetune_job(self, start: str, target: str, budget: str, seed: int) -> FinetuneJob:
        """The job that fine-tunes a run."""
        corpus, parent = self.study.targets[target].corpus, self.start_folder(self.study.instance(start, seed))
        run = f"{start}/{target}/{budget}/seed{seed}"
        return FinetuneJob.of(
            train=self.split(corpus, "train"),
            dev=self.split(corpus, "dev"),
            subset=self.subset(corpus, budget, seed),
            settings=self.study.finetune,
            text=self.study.text,
            parent=parent,
            model=None if parent else self.study.model,
            attention=self.study.attention_of(start),
            seed=seed + self.study.starts[start].seed_offset,
            adapters=getattr(self.study.starts[start], "adapters", None) == "train",
            adapter=self.adapter(start),
            output=f"{self.results}/runs/{run}",
            state=f"{self.results}/.state/runs/{run}",
        )

    def finetune_input(self, start: str, target: str, budget: str, seed: int) -> Files:
        """The files that fine-tuning a run opens."""
        job = self.finetune_job(start, target, budget, seed)
        return {
            "features": [job.train.features, job.dev.features],
            "audio": [job.train.audio, job.dev.audio, *self._shards_of([job.train])],
            "subset": job.subset,
            "parent": [*self.checkpoint_input(job.parent), *([job.adapter] if job.adapter else [])],
        }

    def language_model_files(self, target: str) -> LanguageModelFiles | None:
        """The language model of a target; None where the study decodes greedily only."""
        if self.study.decoding.language_model is None:
            return None
        stem = f"{self.results}/language_models/{target}"
        return LanguageModelFiles(arpa=f"{stem}.arpa", recipe=f"{stem}.json")

    def language_model_job(self, target: str) -> LanguageModelJob:
        """The job that trains the language model of a target, in a study that has them."""
        name, files = self.study.targets[target].corpus, self.language_model_files(target)
        corpus = self.study.corpora[name]
        return LanguageModelJob.of(
            train=self.split(name, "train").features,
            dev=self.split(name, "dev").features,
            files=corpus.text,
            language=corpus.language,
            text=self.study.text,
            settings=self.study.decoding.language_model,
            output=files.arpa,
            recipe=files.recipe,
        )

    def language_model_input(self, target: str) -> Files:
        """The files that training a language model opens."""
        job = self.language_model_job(target)
        return {"features": [job.train, job.dev], "text": job.files}

    def score_job(self, start: str, target: str, budget: str, seed: int) -> ScoreJob:
        """The job that scores a run."""
        run, corpus = f"{start}/{target}/{budget}/seed{seed}", self.study.targets[target].corpus
        language_model = self.language_model_files(target)
        return ScoreJob.of(
            run=f"{self.results}/runs/{run}",
            test=self.split(corpus, "test"),
            languages=self.taught_languages(target),
            dev=self.split(corpus, "dev") if language_model else None,
            language_model=language_model,
            search=Search(**self.study.decoding.model_dump(exclude={"language_model"})),
            text=self.study.text,
            output=f"{self.results}/scores/{run}.parquet",
        )

    def score_input(self, start: str, target: str, budget: str, seed: int) -> Files:
        """The files that scoring a run opens."""
        job = self.score_job(start, target, budget, seed)
        names = (*CHECKPOINT, "vocab.json")
        files = {
            "model": [f"{job.run}/{name}" for name in names],
            **job.test.model_dump(),
            "languages": list(filter(None, job.languages.values())),
        }
        if job.language_model:
            files |= {"dev": list(job.dev.model_dump().values()), **job.language_model.model_dump()}
        return files

    def inferred_languages(self) -> tuple[dict[str, dict[str, str | None]], dict[str, str]]:
        """By target, the languages that `taught_languages` returns, and the manifest of the test split."""
        targets = self.study.targets.items()
        tests = {name: self.split(target.corpus, "test").features for name, target in targets}
        return {name: self.taught_languages(name) for name, _ in targets}, tests

    def taught_languages(self, target: str) -> dict[str, str | None]:
        """The languages of a target whose tokens have no tags, each with the manifest that teaches its words."""
        languages = self.study.targets[target].languages
        return {tag: corpus and self.split(corpus, "train").features for tag, corpus in languages.items()}

    def analyse_job(self, start: str, target: str, budget: str) -> AnalyseJob:
        """The job that compares the representations of a start and of its fine-tuned runs with all seeds."""
        # All measures of similarity are computed; only the summary depends on which one is the gap's.
        settings = Analyse(**self.study.analyse.model_dump(exclude={"measure"}))
        runs = {seed: f"{self.results}/runs/{start}/{target}/{budget}/seed{seed}" for seed in self.study.seeds}
        folders = {seed: self.start_folder(instance) for seed, instance in self.study.instances(start).items()}
        return AnalyseJob.of(
            start=folders.get(None, folders),
            attention=self.study.attention_of(start),
            runs=runs,
            test=self.split(self.study.targets[target].corpus, "test"),
            settings=settings,
            output=f"{self.results}/representation/{start}/{target}/{budget}.parquet",
        )

    def analyse_input(self, start: str, target: str, budget: str) -> Files:
        """The files that the job of `analyse_job` opens; transcripts are not read."""
        job = self.analyse_job(start, target, budget)
        models = [f"{run}/{name}" for run in job.runs.values() for name in CHECKPOINT]
        starts = [path for folder in job.starts for path in self.checkpoint_input(folder)]
        return {"start": starts, "models": models, "untranscribed": job.test.features, "audio": job.test.audio}

    def probe_job(self, start: str, target: str, budget: str) -> ProbeJob:
        """The job that probes a start on a target and label budget."""
        corpus, seeds = self.study.targets[target].corpus, self.study.probed_seeds()
        folders = {seed: self.start_folder(self.study.instance(start, seed)) for seed in seeds}
        return ProbeJob.of(
            starts=folders,
            model=self.study.model if None in folders.values() else None,
            attention=self.study.attention_of(start),
            seed_offset=self.study.starts[start].seed_offset,
            train=self.split(corpus, "train"),
            dev=self.split(corpus, "dev"),
            subsets={seed: self.subset(corpus, budget, seed) for seed in seeds},
            settings=self.study.probe,
            text=self.study.text,
            output=f"{self.results}/probes/{start}/{target}/{budget}.parquet",
        )

    def probe_input(self, start: str, target: str, budget: str) -> Files:
        """The files that probing a start opens."""
        job = self.probe_job(start, target, budget)
        folders = dict.fromkeys(job.starts.values())
        return {
            "features": [job.train.features, job.dev.features],
            "audio": [job.train.audio, job.dev.audio, *self._shards_of([job.train])],
            "subsets": list(job.subsets.values()),
            "start": [path for folder in folders for path in self.checkpoint_input(folder)],
        }

    def similarity_job(self) -> SimilarityJob:
        """The job that measures how alike languages sound, in a study with `compared_languages`."""
        options = self.study.similarity.acoustic
        # A start that is trained for each seed has as many encoders; any of them will do.
        instance = options.start and self.study.instance(options.start, self.study.seeds[0])
        return SimilarityJob.of(
            languages={
                tag: [self.split(name, "train") for name in names]
                for tag, names in compared_languages(self.study).items()
            },
            encoder=instance and self.start_folder(instance),
            settings=options,
            output=f"{self.results}/{ACOUSTIC_FILE}",
        )

    def similarity_input(self) -> Files:
        """The files that the job of `similarity_job` opens."""
        job = self.similarity_job()
        splits = [split for group in job.languages.values() for split in group]
        return {
            "features": [split.features for split in splits],
            "audio": [*(split.audio for split in splits), *self._shards_of(splits)],
            "encoder": self.checkpoint_input(job.encoder),
        }

    # ---------------------------------------------------------------------------------------------- summary

    def probed(self) -> list[tuple[str, str, str]]:
        """(start, target, budget) of every probe."""
        if self.study.probe is None:
            return []
        return [(s, t, b) for s in self.study.starts for t in self.study.targets for b in self.study.budgets]

    def analysed(self) -> Iterator[tuple[str, str, str]]:
        """(start, target, budget) of every comparison of representations."""
        return (
            (start, target, budget)
            for start in self.study.analysed()
            for target in self.study.targets
            for budget in self.study.budgets
        )

    def summary_settings(self) -> dict[str, Any]:
        """Settings of the summary: the study without what only the page shows, or only says how fast jobs run."""
        study = _plain(self.study)
        shown = {key: value for key, value in study["report"].items() if key not in ONLY_SHOWN}
        left_out = {*ONLY_SPEED, "title", "question"}
        study = {key: value for key, value in study.items() if key not in left_out} | {"report": shown}
        return {"version": VERSIONS["report"], "study": study}

    def report_settings(self) -> dict[str, Any]:
        """Settings of the report: the study without what only says how fast jobs run."""
        study = {key: value for key, value in _plain(self.study).items() if key not in ONLY_SPEED}
        return {"version": VERSIONS["report"], "study": study}

    def outputs(self) -> list[str]:
        """The study's results apart from the summary and the report, which it is asked for: models and tables."""
        starts = [f"{self.results}/starts/{name}" for name in self.ancestors_first()]
        runs = [f"{self.results}/runs/{s}/{t}/{b}/seed{n}" for s, t, b, n in self.study.runs()]
        files = [f"{folder}/model.safetensors" for folder in starts + runs]
        files += [self.score_job(*run).output for run in self.study.runs()]
        files += [self.analyse_job(*cell).output for cell in self.analysed()]
        files += [self.probe_job(*cell).output for cell in self.probed()] if self.study.probe else []
        files += [self.similarity_job().output] if compared_languages(self.study) else []
        models = [self.language_model_files(target) for target in self.study.targets]
        return files + [model.arpa for model in models if model]

    def summary_input(self) -> Files:
        """The files that the summary is made from."""
        runs = [f"{self.results}/runs/{s}/{t}/{b}/seed{n}" for s, t, b, n in self.study.runs()]
        starts = [f"{self.results}/starts/{name}" for name in self.ancestors_first()]
        return {
            "scores": [self.score_job(*run).output for run in self.study.runs()],
            "representations": [self.analyse_job(*cell).output for cell in self.analysed()],
            **({"probes": [self.probe_job(*cell).output for cell in self.probed()]} if self.study.probe else {}),
            "similarities": [
                *([self.similarity_job().output] if compared_languages(self.study) else []),
                *self.study.similarity.tables.values(),
            ],
            "curves": [f"{folder}/curve.parquet" for folder in runs + starts],
            "recipes": [f"{folder}/recipe.json" for folder in runs + starts],
        }

    def cards(self) -> list[str]:
        """The model cards of all runs, relative to the study's folder."""
        return [f"runs/{s}/{t}/{b}/seed{n}/README.md" for s, t, b, n in self.study.runs()]

    def played(self) -> dict[str, SplitFiles]:
        """The test splits of targets whose clips are put beside the report."""
        targets = self.study.targets.items() if self.study.report.clips else ()
        return {name: self.split(target.corpus, "test") for name, target in targets}

    def report_input(self) -> Files:
        """The files that the report is made from."""
        files = self.summary_input()
        outside = [outside_folder(start) for start in self.study.starts.values() if isinstance(start, HubStart)]
        parents = [recipe for folder in outside if (recipe := Path(folder) / "recipe.json").is_file()]
        parents += [f"{folder}/{SOURCE}" for folder in self.hub_models()]
        splits = self.splits()
        return {
            "summary": f"{self.results}/summary.json",
            "scores": files["scores"],
            "curves": files["curves"],
            "recipes": [*files["recipes"], *map(str, parents)],
            "configs": [f"{self.results}/runs/{s}/{t}/{b}/seed{n}/config.json" for s, t, b, n in self.study.runs()],
            "manifests": [self.split(corpus, split).features for corpus, split in splits],
            "clips": sorted({test.audio for test in self.played().values()}),
            "rejects": [
                f"data/{stage}/{corpus}/{split}.rejects.parquet"
                for corpus, split in splits
                for stage in ("manifests", "features")
            ],
        }


def outside_folder(start: Start) -> str | None:
    """The folder of the checkpoint from outside the study that a start is or goes on from; None if there is none."""
    hub_model = getattr(start, "hub_model", None)
    return model_folder(*hub_model) if hub_model else getattr(start, "path", None)


def raw_folder(corpus: str) -> str:
    """The folder of a synthetic corpus."""
    return f"data/raw/{corpus}"


def _has_braces(path: str) -> bool:
    return "{" in path or "}" in path


def _plain(section: Any) -> dict[str, Any]:
    return section.model_dump(mode="json", by_alias=True)
