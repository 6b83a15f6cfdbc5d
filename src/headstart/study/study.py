"""The study: one typed model of the whole file."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from headstart.corpora.registry import Corpus
from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.score.metrics import metric_named
from headstart.study.analyse import Analyse
from headstart.study.attention import ChunkedAttention
from headstart.study.claims import QUANTITIES, Claim, TargetKind
from headstart.study.convergence import Convergence
from headstart.study.corpora import RecordedCorpus
from headstart.study.decoding import Decoding
from headstart.study.explain import explain, nearest
from headstart.study.fields import Budget, Count, Name, Seed, Settings, budget_seconds, is_none
from headstart.study.finetune import Finetune
from headstart.study.model import Model
from headstart.study.pretrain import Pretrain
from headstart.study.probe import Probe
from headstart.study.report import Report
from headstart.study.semisup import Semisup
from headstart.study.similarity import Similarity
from headstart.study.starts import ScratchStart, SemisupStart, SslStart, Start
from headstart.study.text import Language, Text
from headstart.text.scripts import shared_script


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` overridden by `changes`; where both have a section under a key, its keys are merged likewise."""
    both = {
        key: merged(values[key], change) if isinstance(change, dict) and isinstance(values.get(key), dict) else change
        for key, change in changes.items()
    }
    return {**values, **both}


class Target(Settings):
    """What is fine-tuned and scored."""

    corpus: Name = Field(description="Corpus whose train, dev and test splits are used.")
    kind: TargetKind = Field(
        description="How the target relates to what the starts were trained on; shown in the report."
    )
    languages: dict[Language, Name | None] = Field(
        {},
        description="For code-switched speech whose tokens have no language tags: its languages, each with a corpus "
        "whose training transcripts are in that language alone, or null where scripts tell the languages apart; "
        "docs/text.md.",
    )


class Contrast(Settings):
    """A paired difference that the report shows, besides each start against `baseline`."""

    treatment: Name = Field(description="Start whose error rate is on the left of the difference.")
    baseline: Name = Field(description="Start whose error rate is subtracted.")


class Study(Settings):
    """One study: corpora, starts, targets, budgets, seeds and the settings of each stage."""

    study: Name = Field(description="Name of the study; results go to `results/<study>/`.")
    title: str = Field("", description="Title of the report.")
    question: str = Field("", description="The question that the report answers, in a sentence.")
    corpora: dict[Name, Corpus] = Field(min_length=1, description="Corpora by name.")
    starts: dict[Name, Start] = Field(min_length=1, description="Starts by name; `from` makes them a tree.")
    targets: dict[Name, Target] = Field(min_length=1, description="Targets by name.")
    budgets: list[Budget] = Field(min_length=1, description="Label budgets, such as `3min` or `1h`; nested.")
    seeds: list[Seed] = Field([1, 2, 3], min_length=1, description="One run of each cell for each seed.")
    baseline: Name = Field("scratch", description="Start that the others are compared with.")
    contrasts: list[Contrast] = Field([], description="More pairs of starts to compare.")
    claims: list[Claim] = Field([], description="Statements that the study tests; each gets a verdict in the report.")
    threads: Count = Field(1, description="CPU threads of a training process; Snakemake runs jobs side by side.")
    devices: Count = Field(
        1, description="Processes that share the batches of a training job, one a GPU; results stay the same."
    )
    nodes: Count = Field(
        1,
        exclude_if=lambda nodes: nodes == 1,  # so that studies without it stay what they were
        description="Nodes of a Slurm cluster that share the batches of a training job, each with `devices` processes; "
        "results stay the same; docs/cluster.md.",
    )
    text: Text = Field(Text(), description="Text normalisation.")
    model: Model = Field(Model(), description="Shape of encoders that start from random weights.")
    pretrain: Pretrain = Field(Pretrain(), description="Self-supervised pre-training.")
    semisup: Semisup = Field(Semisup(), description="The semi-supervised stage.")
    finetune: Finetune = Field(Finetune(), description="CTC fine-tuning.")
    decoding: Decoding = Field(Decoding(), description="Decoding with a language model, beside greedy decoding.")
    analyse: Analyse | None = Field(None, description="Similarity of starts and what fine-tuning makes of them.")
    probe: Probe | None = Field(
        None, exclude_if=is_none, description="Linear CTC layers on frozen layers, to pick a start before fine-tuning."
    )
    similarity: Similarity = Field(
        Similarity(), description="How alike languages are, for what makes a start transfer."
    )
    convergence: Convergence = Field(Convergence(), description="The level of error that speed is compared at.")
    report: Report = Field(Report(), description="Statistics and report.")

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        problems = [
            *self._dangling_names(),
            *self._cycles(),
            *self._impossible_hours(),
            *self._unlabelled_targets(),
            *self._unknown_speakers(),
            *self._mingled_languages(),
            *self._undecoded_claims(),
            *self._start_settings(),
            *self._shared_parents(),
            *self._random_frames(),
        ]
        if self.probe and self.probe.seeds > len(self.seeds):
            problems.append(f"probe.seeds: {self.probe.seeds} is more than the {len(self.seeds)} that `seeds` lists")
        for i, contrast in enumerate(self.contrasts):
            if contrast.treatment == contrast.baseline:
                problems.append(f"contrasts.{i}: {contrast.baseline!r} is compared with itself")
        for i, claim in enumerate(self.claims):
            if claim.metric == "time":
                continue
            for treatment, baseline in claim.comparisons():
                if treatment == baseline:
                    problems.append(f"claims.{i}: {baseline!r} is compared with itself")
        for i, seed in enumerate(self.seeds):
            if seed in self.seeds[:i]:
                problems.append(f"seeds: {seed} is listed twice")
        for i, budget in enumerate(self.budgets):
            same = [b for b in self.budgets[:i] if budget_seconds(b) == budget_seconds(budget)]
            if same:
                problems.append(f"budgets: {budget!r} is as much audio as {same[0]!r}, list it once")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _dangling_names(self) -> list[str]:
        names = {
            "corpus": list(self.corpora),
            "start": list(self.starts),
            "target": list(self.targets),
            "budget": self.budgets,
        }
        references = [(f"targets.{name}.corpus", target.corpus, "corpus") for name, target in self.targets.items()]
        for name, target in self.targets.items():
            taught = target.languages.items()
            references += [(f"targets.{name}.languages.{tag}", corpus, "corpus") for tag, corpus in taught if corpus]
        references.append(("baseline", self.baseline, "start"))
        for i, contrast in enumerate(self.contrasts):
            references.append((f"contrasts.{i}.treatment", contrast.treatment, "start"))
            references.append((f"contrasts.{i}.baseline", contrast.baseline, "start"))
        for i, claim in enumerate(self.claims):
            references += [(f"claims.{i}.treatment", start, "start") for start in claim.treatment]
            references += [(f"claims.{i}.baseline", start, "start") for start in claim.baseline]
            references += [(f"claims.{i}.targets", target, "target") for target in claim.targets or ()]
            references += [(f"claims.{i}.budgets", budget, "budget") for budget in claim.budgets or ()]
        if self.similarity.acoustic and self.similarity.acoustic.start is not None:
            references.append(("similarity.acoustic.start", self.similarity.acoustic.start, "start"))
        for name, start in self.starts.items():
            if isinstance(start, SslStart):
                references += [(f"starts.{name}.corpora", corpus, "corpus") for corpus in start.corpora]
            if isinstance(start, SemisupStart):
                references += [(f"starts.{name}.labelled", corpus, "corpus") for corpus in start.labelled]
                references += [(f"starts.{name}.unlabelled", corpus, "corpus") for corpus in start.unlabelled]
            if (parent := self._parent(name)) is not None:
                references.append((f"starts.{name}.from", parent, "start"))
        return [
            f"{key}: there is no {kind} {value!r}{nearest(value, names[kind])}"
            + ("; a folder is named by `path`" if key.endswith(".from") and "/" in value else "")
            for key, value, kind in references
            if value not in names[kind]
        ]

    def _cycles(self) -> list[str]:
        problems, seen = [], set()
        for name in self.starts:
            chain, parent = [name], self._parent(name)
            while parent is not None and parent not in chain:
                chain.append(parent)
                parent = self._parent(parent)
            if parent == name and name not in seen:  # report each cycle once
                problems.append(f"starts.{name}.from: a cycle, {' from '.join([*chain, name])}")
                seen.update(chain)
        return problems

    def _parent(self, name: str) -> str | None:
        return getattr(self.starts.get(name), "from_", None)

    def _impossible_hours(self) -> list[str]:
        """Problems with budgets and hours that exceed a synthetic corpus; recorded corpora are checked when read."""
        hours = {name: c.hours.train for name, c in self.corpora.items() if isinstance(c, SyntheticCorpus)}
        problems = []
        for name, target in self.targets.items():
            held = hours.get(target.corpus, float("inf"))
            for budget in self.budgets:
                if budget_seconds(budget) > held * 3600:
                    problems.append(
                        f"budgets: {budget!r} is more than corpora.{target.corpus}.hours.train holds "
                        f"(target {name!r}; at most '{held * 60:g}min')"
                    )
        for name, start in self.starts.items():
            for corpus, wanted in getattr(start, "corpora", {}).items():
                if wanted > 1.000001 * hours.get(corpus, float("inf")):  # tolerates rounding in sums of hours
                    kinds = ("corpora", "labelled", "unlabelled")
                    keys = [f"starts.{name}.{kind}.{corpus}" for kind in kinds if corpus in vars(start).get(kind, {})]
                    problems.append(
                        f"{' and '.join(keys)}: {wanted:g} h is more than "
                        f"corpora.{corpus}.hours.train holds (at most {hours[corpus]:g})"
                    )
        return problems

    def _unlabelled_targets(self) -> list[str]:
        wanted = [(f"targets.{name}.corpus", target.corpus) for name, target in self.targets.items()]
        for name, start in self.starts.items():
            wanted += [(f"starts.{name}.labelled", corpus) for corpus in getattr(start, "labelled", {})]
        for name, target in self.targets.items():
            taught = target.languages.items()
            wanted += [(f"targets.{name}.languages.{tag}", corpus) for tag, corpus in taught if corpus]
        return [
            f"{key}: corpus {name!r} has no transcripts ({reason})"
            for key, name in wanted
            if isinstance(corpus := self.corpora.get(name), RecordedCorpus) and (reason := corpus.without_transcripts)
        ]

    def _unknown_speakers(self) -> list[str]:
        kinds = {"corpora": SslStart, "unlabelled": SemisupStart}
        return [
            f"starts.{name}.select.by: corpus {corpus!r} has no speakers (its columns.speaker is null); name the "
            "column that has them, or select by clusters"
            for name, start in self.starts.items()
            for key, kind in kinds.items()
            if isinstance(start, kind) and start.select and start.select.by == "speaker"
            for corpus in getattr(start, key)
            if (columns := getattr(self.corpora.get(corpus), "columns", None)) and columns.speaker is None
        ]

    def _mingled_languages(self) -> list[str]:
        problems = []
        for name, target in self.targets.items():
            if len(target.languages) == 1:
                problems.append(f"targets.{name}.languages: names one language; code-switched speech has two at least")
            shared = shared_script(target.languages)
            untaught = [language for language, corpus in target.languages.items() if corpus is None]
            if shared and untaught:
                one, other, script = shared
                problems.append(
                    f"targets.{name}.languages.{untaught[0]}: {one} and {other} are both in {script} script, so words "
                    "have to be known to tell them apart; name a corpus with transcripts in that language alone"
                )
        return problems

    def _undecoded_claims(self) -> list[str]:
        if self.decoding.language_model is not None:
            return []
        return [
            f"claims.{i}.metric: {claim.metric} needs a language model, but decoding.language_model is null"
            for i, claim in enumerate(self.claims)
            if claim.metric and claim.metric not in QUANTITIES and metric_named(claim.metric).decoding
        ]

    def _start_settings(self) -> list[str]:
        problems = []
        for name, start in self.starts.items():
            if not isinstance(start, SslStart | SemisupStart):
                continue
            try:
                settings = self.settings_of(name)
            except ValidationError as error:
                problems += explain(error, type(self._stage(start)), f"starts.{name}.settings")
                continue
            if isinstance(start, SemisupStart) and settings.pseudo.weight and not start.unlabelled:
                problems.append(
                    f"starts.{name}.unlabelled: pseudo-labels need unlabelled audio; name a corpus, or set "
                    "semisup.pseudo.weight to 0"
                )
        return problems

    def _shared_parents(self) -> list[str]:
        return [
            f"starts.{name}.per_seed: {parent!r}, which it is trained from, is per_seed, so that there is one for each "
            "seed; set per_seed: true here too"
            for name in self.starts
            if (parent := self._parent(name)) in self.starts and self.per_seed(parent) and not self.per_seed(name)
        ]

    def _random_frames(self) -> list[str]:
        name = self.similarity.acoustic and self.similarity.acoustic.start
        if not isinstance(self.starts.get(name), ScratchStart):
            return []
        return [f"similarity.acoustic.start: {name!r} is not pre-trained; name another start, or null for none"]

    def per_seed(self, start: str) -> bool:
        """Whether each seed trains its own instance of a start."""
        return getattr(self.starts[start], "per_seed", False)

    def attention_of(self, start: str) -> ChunkedAttention | None:
        """The chunked attention of a start: its own, or that of the start of this study that it goes on from."""
        name: str | None = start
        while (own := getattr(self.starts.get(name), "attention", None)) is None and name in self.starts:
            name = self._parent(name)
        return own

    def instances(self, start: str) -> dict[int | None, str]:
        """The instances of a start by seed: `NAME/seedN` with `per_seed`, otherwise only `NAME`, under None."""
        if self.per_seed(start):
            return {seed: f"{start}/seed{seed}" for seed in self.seeds}
        return {None: start}

    def instance(self, start: str, seed: int) -> str:
        """The instance of a start that the runs of a seed begin with."""
        return f"{start}/seed{seed}" if self.per_seed(start) else start

    def _stage(self, start: SslStart | SemisupStart) -> Pretrain | Semisup:
        return self.pretrain if isinstance(start, SslStart) else self.semisup

    def settings_of(self, start: str) -> Pretrain | Semisup:
        """Settings of an `ssl` or `semisup` start: those of the study, overridden by the start's own."""
        stage = self._stage(self.starts[start])
        return type(stage).model_validate(merged(stage.model_dump(), self.starts[start].settings))

    def pretrain_of(self, start: str) -> Pretrain:
        """Pre-training settings of the nearest `ssl` start among a start and its ancestors, else the study's."""
        name: str | None = start
        while name in self.starts:
            if isinstance(self.starts[name], SslStart):
                return self.settings_of(name)
            name = self._parent(name)
        return self.pretrain

    def runs(self) -> list[tuple[str, str, str, int]]:
        """Every (start, target, budget, seed), in the order of the study file."""
        return [
            (start, target, budget, seed)
            for start in self.starts
            for target in self.targets
            for budget in self.budgets
            for seed in self.seeds
        ]

    def analysed(self) -> list[str]:
        """Starts that are compared with their fine-tuned runs: all but `scratch` ones; none without `analyse`."""
        return [name for name, start in self.starts.items() if self.analyse and not isinstance(start, ScratchStart)]

    def probed_seeds(self) -> list[int]:
        """The seeds with which starts are probed; none without `probe`."""
        return self.seeds[: self.probe.seeds] if self.probe else []

    def transcribed(self, name: str) -> dict[str, float]:
        """Hours of transcripts, by corpus, on which this study trains a start and its ancestors."""
        hours: dict[str, float] = {}
        while (start := self.starts.get(name)) is not None:
            for corpus, amount in getattr(start, "labelled", {}).items():
                hours[corpus] = max(amount, hours.get(corpus, 0.0))
            name = self._parent(name)
        return hours

    def comparisons(self) -> list[tuple[str, str]]:
        """(treatment, baseline) pairs, each once.

        They are: every start against the baseline, every `semisup` start against its parent in this study, and
        `contrasts`.
        """
        pairs = [(start, self.baseline) for start in self.starts if start != self.baseline]
        refined = [(name, self._parent(name)) for name, start in self.starts.items() if isinstance(start, SemisupStart)]
        pairs += [pair for pair in refined if pair[1] in self.starts]
        pairs += [(contrast.treatment, contrast.baseline) for contrast in self.contrasts]
        return list(dict.fromkeys(pairs))
