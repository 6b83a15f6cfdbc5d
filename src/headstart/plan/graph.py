"""The jobs of a study as a graph, with what their time depends on, and the schedule of a given number of cores."""

from __future__ import annotations

import heapq
import json
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.jobs import TrainingJob
from headstart.study.fields import budget_seconds
from headstart.summarise.pretraining_data import compared_languages
from headstart.workflow import Workflow, raw_folder

# Audio of a recorded corpus that has not been read yet is not known: a split counts as this many hours.
UNKNOWN_HOURS = 1.0
DEV = "dev"
# Settings that do not change how long an update takes.
LENGTH = {"updates", "log_every", "save_minutes", "learning_rate", "weight_decay", "gradient_clip", "dev_minutes"}


@dataclass
class Node:
    """One job.

    Attributes:
        name: unique.
        stage: for the table.
        needs: names of jobs whose results it reads.
        done: whether its outputs exist.
        threads: cores that it takes.
        kind: jobs of the same kind cost the same for each unit of work.
        work: updates and seconds of audio, by the name of the unit.
        first: whether it is started before others that could start too.
    """

    name: str
    stage: str
    needs: list[str]
    done: bool
    threads: int = 1
    kind: str = ""
    work: dict[str, float] = field(default_factory=dict)
    first: bool = False


class Graph:
    """All jobs of a study, each after those that it needs.

    Attributes:
        nodes: by name.
        examples: kind of training job -> a job of that kind, from which its cost is measured.
    """

    def __init__(self, workflow: Workflow):
        self.workflow, self.study = workflow, workflow.study
        self.nodes: dict[str, Node] = {}
        self.examples: dict[str, TrainingJob] = {}
        self.to_fetch = set(workflow.to_fetch())
        trained = workflow.ancestors_first()
        self._parents = {workflow.start_folder(name): workflow.parent_folder(name) for name in trained}
        self._downloads()
        self._data()
        self._starts()
        self._runs()

    def hours(self, corpus: str, split: str) -> float:
        """Hours of audio of a split: what a synthetic corpus is asked for, or what the features hold."""
        settings = self.study.corpora[corpus]
        if isinstance(settings, SyntheticCorpus):
            return getattr(settings.hours, split)
        features = Path(self.workflow.split(corpus, split).features)
        if features.is_file():
            import pyarrow.compute as pc
            import pyarrow.parquet as pq

            seconds = pc.sum(pq.read_table(features, columns=["duration_s"])["duration_s"]).as_py()
            return (seconds or 0.0) / 3600
        return UNKNOWN_HOURS

    def _add(self, node: Node) -> None:
        node.needs = [name for name in dict.fromkeys(node.needs) if name in self.nodes]
        self.nodes[node.name] = node

    def _downloads(self) -> None:
        for folder in self.workflow.hub_models():
            self._add(Node(f"download {folder}", "downloads", [], folder not in self.to_fetch, kind="download"))

    def _data(self) -> None:
        splits = self.workflow.splits()
        for corpus in dict.fromkeys(corpus for corpus, _ in splits):
            audio = sum(self.hours(corpus, split) for split in ("train", "dev", "test")) * 3600
            if corpus in self.workflow.synthetic():
                done = Path(raw_folder(corpus), "metadata.tsv").is_file()
                self._add(Node(f"raw {corpus}", "synthesis", [], done, kind="synthesis", work={"audio": audio}))
            done = Path(f"data/manifests/{corpus}/train.parquet").is_file()
            self._add(Node(f"manifest {corpus}", "corpora", [f"raw {corpus}"], done, kind="light"))
        for corpus, split in splits:
            done = Path(self.workflow.split(corpus, split).features).is_file()
            work = {"audio": self.hours(corpus, split) * 3600}
            self._add(
                Node(f"features {corpus} {split}", "features", [f"manifest {corpus}"], done, kind="features", work=work)
            )
        for _, target, budget, seed in self.study.runs():
            path = self.workflow.subset(self.study.targets[target].corpus, budget, seed)
            if path not in self.nodes:
                needs = [f"features {self.study.targets[target].corpus} train"]
                self._add(Node(path, "label budgets", needs, Path(path).is_file(), kind="light"))

    def _starts(self) -> None:
        for instance in self.workflow.ancestors_first():
            job = self.workflow.start_job(instance)
            stage = {"pretrain": "pre-training", "semisup": "refinement"}[job.stage]
            corpora = getattr(job, "corpora", None) or [*job.labelled, *job.unlabelled]
            needs = [f"features {corpus.name} {split}" for corpus in corpora for split in ("train", DEV)]
            for corpus in corpora:
                if corpus.clusters and corpus.clusters not in self.nodes:
                    self._clusters(corpus.clusters, corpus.name)
            needs += [corpus.clusters for corpus in corpora if corpus.clusters]
            labelled = [corpus.name for corpus in getattr(job, "labelled", [])]
            dev = sum(self._dev_seconds(corpus, job.settings.dev_minutes) for corpus in labelled)
            self._training(f"start {instance}", stage, [*needs, f"start {self.workflow.parent(instance)}"], job, dev)

    def _clusters(self, path: str, corpus: str) -> None:
        work = {"audio": self.hours(corpus, "train") * 3600}
        needs = [f"features {corpus} train"]
        self._add(Node(path, "clusters", needs, Path(path).is_file(), kind="clusters", work=work))

    def _runs(self) -> None:
        for target in self.study.targets if self.study.decoding.language_model else ():
            corpus, done = self.study.targets[target].corpus, self.workflow.language_model_files(target).arpa
            needs = [f"features {corpus} train", f"features {corpus} {DEV}"]
            self._add(Node(f"language model {target}", "language models", needs, Path(done).is_file(), kind="light"))
        for start, target, budget, seed in self.study.runs():
            corpus = self.study.targets[target].corpus
            job = self.workflow.finetune_job(start, target, budget, seed)
            run = f"{start} {target} {budget} {seed}"
            needs = [job.subset, f"features {corpus} train", f"features {corpus} {DEV}"]
            needs.append(f"start {self.study.instance(start, seed)}")
            dev = self._dev_seconds(corpus, self.study.finetune.dev_minutes)
            self._training(f"run {run}", "fine-tuning", needs, job, dev)
            scores = self.workflow.score_job(start, target, budget, seed)
            self._add(
                Node(
                    f"scores {run}",
                    "scoring",
                    [f"run {run}", f"features {corpus} test", f"language model {target}"],
                    Path(scores.output).is_file(),
                    self.study.threads,
                    "score " + self.nodes[f"run {run}"].kind,
                    {"audio": self.hours(corpus, "test") * 3600},
                )
            )
        last = [name for name in self.nodes if name.startswith("scores ")]
        for start, target, budget in self.workflow.analysed():
            job = self.workflow.analyse_job(start, target, budget)
            runs = [f"run {start} {target} {budget} {seed}" for seed in self.study.seeds]
            seconds = min(job.settings.minutes * 60, self.hours(self.study.targets[target].corpus, "test") * 3600)
            node = Node(
                f"representation {start} {target} {budget}",
                "analysis",
                runs,
                Path(job.output).is_file(),
                self.study.threads,
                "analyse " + self.nodes[runs[0]].kind,
                {"audio": seconds * (1 + len(runs)), "runs": len(runs)},
            )
            self._add(node)
            last.append(node.name)
        last += self._probes()
        last += self._similarity()
        folder = Path(self.workflow.results)
        self._add(Node("summary", "report", last, (folder / "summary.json").is_file(), kind="light"))
        self._add(Node("report", "report", ["summary"], (folder / "report.html").is_file(), kind="light"))

    def _probes(self) -> list[str]:
        """Add the probes of all starts; returns their names."""
        names = []
        for start, target, budget in self.workflow.probed():
            job, corpus = self.workflow.probe_job(start, target, budget), self.study.targets[target].corpus
            settings, runs = job.settings, [f"run {start} {target} {budget} {seed}" for seed in job.starts]
            audio = min(settings.minutes * 60, budget_seconds(budget)) + self._dev_seconds(corpus, settings.dev_minutes)
            needs = [*job.subsets.values(), f"features {corpus} train", f"features {corpus} {DEV}"]
            needs += [f"start {self.study.instance(start, seed)}" for seed in job.starts]
            node = Node(
                f"probe {start} {target} {budget}",
                "probes",
                needs,
                Path(job.output).is_file(),
                self.study.threads,
                "probe " + self.nodes[runs[0]].kind,
                {"audio": audio * len(runs), "updates": settings.updates * len(runs)},
            )
            self._add(node)
            names.append(node.name)
        return names

    def _similarity(self) -> list[str]:
        """Adds the measurement of how alike languages sound, if there is one, and returns its name."""
        languages = compared_languages(self.study)
        if not languages:
            return []
        job = self.workflow.similarity_job()
        corpora = [name for names in languages.values() for name in names]
        audio = sum(
            min(job.settings.minutes * 60, sum(self.hours(name, "train") for name in names) * 3600)
            for names in languages.values()
        )
        needs = [f"features {name} train" for name in corpora]
        node = Node("similarity", "similarity", needs, Path(job.output).is_file(), self.study.threads, "clusters")
        node.work["audio"] = audio
        if start := job.settings.start:
            node.needs += [f"start {self.study.instance(start, self.study.seeds[0])}", f"download {job.encoder}"]
            runs = (name for name in self.nodes if name.startswith(f"run {start} "))
            node.kind, node.work["runs"] = "analyse " + self.nodes[next(runs)].kind, 0
        self._add(node)
        return [node.name]

    def _dev_seconds(self, corpus: str, minutes: float) -> float:
        return min(minutes * 60, self.hours(corpus, DEV) * 3600)

    def _training(self, name: str, stage: str, needs: list[str], job: TrainingJob, dev: float) -> None:
        kind = f"{job.stage} {self._shape(job)} {json.dumps(_lasting(job), sort_keys=True)}"
        kind += f" {job.attention.model_dump_json()}" if job.attention else ""
        self.examples.setdefault(kind, job)
        evaluations = -(-job.settings.updates // job.settings.log_every)
        self._add(
            Node(
                name,
                stage,
                [*needs, f"download {job.parent}"],
                Path(job.output, "recipe.json").is_file(),
                self.study.threads * self.study.devices,
                kind,
                {"updates": job.settings.updates, "audio": dev * evaluations},
                first=job.stage != "finetune",
            )
        )

    def _shape(self, job: TrainingJob) -> str:
        """The encoder that a job trains: the checkpoint folder that it descends from, or the study's own shape."""
        root = self.root(job)
        if root is None:
            return json.dumps(self.study.model.model_dump(mode="json"), sort_keys=True)
        if root in self.to_fetch:
            return root  # its shape is not known yet
        config = json.loads(Path(root, "config.json").read_text(encoding="utf-8"))
        names = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "conv_dim", "conv_stride")
        return json.dumps({name: config.get(name) for name in names})

    def root(self, job: TrainingJob) -> str | None:
        """The checkpoint folder from outside the study that a job's encoder descends from; None for random weights."""
        folder = job.parent
        while folder in self._parents:
            folder = self._parents[folder]
        return folder


def _lasting(job: TrainingJob) -> dict[str, Any]:
    """The settings of a job that decide how long an update takes."""
    settings = job.settings.model_dump(mode="json")
    return {key: value for key, value in settings.items() if key not in LENGTH}


def schedule(nodes: dict[str, Node], seconds: Callable[[Node], float], cores: int) -> float:
    """Seconds until all jobs that are not done have ended.

    A job starts as soon as what it needs is there and enough cores are free. Of jobs that could start, those marked
    `first` do, then the longest. A job takes no more threads than there are cores.
    """
    waiting = {name: {need for need in node.needs if not nodes[need].done} for name, node in nodes.items()}
    after: dict[str, list[str]] = {}
    for name, needs in waiting.items():
        for need in needs:
            after.setdefault(need, []).append(name)
    now, free = 0.0, cores
    ready: list[tuple[bool, float, str]] = []  # sorted by what goes first
    running: list[tuple[float, str]] = []

    def open_job(name: str) -> None:
        if not nodes[name].done:
            insort(ready, (not nodes[name].first, -seconds(nodes[name]), name))

    for name, needs in waiting.items():
        if not needs:
            open_job(name)
    while ready or running:
        place = 0
        while free and place < len(ready):
            *_, name = ready[place]
            threads = min(nodes[name].threads, cores)
            if threads > free:
                place += 1
                continue
            del ready[place]
            free -= threads
            heapq.heappush(running, (now + seconds(nodes[name]), name))
        now, name = heapq.heappop(running)
        free += min(nodes[name].threads, cores)
        for other in after.get(name, ()):
            waiting[other].discard(name)
            if not waiting[other]:
                open_job(other)
    return now
