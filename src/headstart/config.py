"""The study configuration: one typed model, from which `reference.py` writes the schema and config/README.md.

A study file is YAML. `load_study` reads it, or raises `StudyError` with one line for each problem: the key,
what is wrong, and the nearest valid key or name.
"""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from headstart.logs import HeadstartError

SPLITS = ("train", "dev", "test")
Split = Literal["train", "dev", "test"]


class StudyError(HeadstartError):
    """A study file that cannot be run. The message has one line for each problem."""


def nearest(word: str, valid: list[str]) -> str:
    """` (nearest valid: 'x')` for a mistyped `word`, or a list of what is valid when nothing is near."""
    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.6)
    if close:
        return f" (nearest valid: {close[0]!r})"
    return f" (valid: {', '.join(sorted(valid))})" if valid else ""


def is_folder(start: str) -> bool:
    """Whether a start is given by its checkpoint folder and not by its name."""
    return "/" in start


def budget_seconds(budget: str) -> float:
    """Seconds of audio that a label budget such as `"90s"`, `"10min"` or `"1h"` asks for."""
    number, unit = re.fullmatch(r"([0-9.]+)(s|min|h)", budget).groups()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def _some_audio(budget: str) -> str:
    if not budget_seconds(budget):
        raise ValueError(f"{budget!r} is no audio at all")
    return budget


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range [{bounds[0]:g}, {bounds[1]:g}] is upside down, write the smaller number first")
    return bounds


def _grammar(language: str) -> str:
    files = (resources.files("headstart") / "grammars").iterdir()
    valid = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    if language not in valid:
        raise ValueError(f"there is no grammar {language!r}{nearest(language, valid)}")
    return language


# Names become folder names and Snakemake wildcards, so they hold neither slashes nor dots.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"
BUDGET_PATTERN = r"^[0-9]+(\.[0-9]+)?(s|min|h)$"
PATTERNS = {
    NAME_PATTERN: "letters, digits, _, + and -, a letter or digit first",
    BUDGET_PATTERN: "a number and a unit, such as 90s, 10min or 1h",
}

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Budget = Annotated[str, Field(pattern=BUDGET_PATTERN), AfterValidator(_some_audio)]
GrammarName = Annotated[str, AfterValidator(_grammar)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Layers = Annotated[tuple[Count, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Base of every section: immutable, unknown keys are errors, and a dump is valid as input again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


# ---------------------------------------------------------------------------------------------------- corpora


class SplitHours(Settings):
    """Hours of speech to synthesise for each split."""

    train: Positive = Field(0.5, description="Hours in the training split.")
    dev: Positive = Field(0.05, description="Hours in the development split.")
    test: Positive = Field(0.2, description="Hours in the test split.")


class SyntheticCorpus(Settings):
    """A corpus synthesised with eSpeak NG from a grammar of the package; a pure function of its settings."""

    reader: Literal["synthetic"] = Field(description="`synthetic`: speech made by eSpeak NG.")
    language: GrammarName = Field(
        description="Name of a file in `src/headstart/grammars/`: `sw`, say, or `en-es` (code-switched)."
    )
    hours: SplitHours = Field(SplitHours(), description="Hours of speech for each split.")
    seed: Seed = Field(0, description="Seed of the sentences, the speakers and the noise.")
    snr_db: Range = Field((5.0, 25.0), description="Range of signal-to-noise ratios, in dB, drawn per utterance.")
    words_per_minute: Range = Field((120.0, 220.0), description="Range of the speakers' base speaking rates.")
    pitch: Range = Field((20.0, 80.0), description="Range of the speakers' base pitches (eSpeak scale, 0 to 99).")


class Columns(Settings):
    """Which column of a corpus table holds what. `null` marks what the table does not have."""

    audio: str = Field("path", description="Path of the audio file, relative to the corpus folder.")
    utterance_id: str | None = Field("id", description="Unique id; the audio file's name without suffix if null.")
    text: str | None = Field("text", description="Transcript; null for an unlabelled corpus.")
    speaker: str | None = Field(None, description="Speaker label.")
    language: str | None = Field(None, description="BCP 47 language of the utterance.")
    split: str | None = Field(None, description="Split; if null, drawn by speaker (or sentence).")
    tokens: str | None = Field(None, description="Space-separated tokens, for tagged code-switched text.")
    token_languages: str | None = Field(None, description="Space-separated language tags, one for each token.")
    phonemes: str | None = Field(None, description="Phonemic transcript.")


class FolderCorpus(Settings):
    """Recorded speech: a folder with audio files and a TSV or CSV table."""

    reader: Literal["folder"] = Field(description="`folder`: audio files and a table.")
    path: str = Field(description="The folder, absolute or relative to where Snakemake runs.")
    table: str = Field("metadata.tsv", description="The table in it; the suffix .csv or .tsv gives the separator.")
    columns: Columns = Field(Columns(), description="Mapping from our fields to the table's columns.")
    language: str = Field(description="BCP 47 language where the table has no language column.")
    splits: dict[str, Split | None] = Field(
        {"train": "train", "dev": "dev", "test": "test"},
        description="The table's split names -> ours; null leaves a split out.",
    )
    dev_share: Share = Field(
        0.1, description="Share of training speakers (or sentences) drawn for dev, where the table has no dev rows."
    )
    test_share: Share = Field(0.1, description="Share of training speakers (or sentences) drawn for test, likewise.")
    token_tags: dict[str, str] = Field({}, description="The table's token language tags -> BCP 47 tags.")
    min_seconds: Positive = Field(0.2, description="Shorter clips go to the rejects file.")
    max_seconds: Positive = Field(30.0, description="Longer clips go to the rejects file.")

    @model_validator(mode="after")
    def _something_left(self) -> FolderCorpus:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is more than max_seconds {self.max_seconds:g}")
        if self.dev_share + self.test_share >= 1:
            raise ValueError("dev_share and test_share together leave nothing to train on")
        return self


Corpus = Annotated[SyntheticCorpus | FolderCorpus, Field(discriminator="reader")]


class Text(Settings):
    """Text normalisation, the same for references and hypotheses. Combining marks are always kept."""

    lowercase: bool = Field(True, description="Lower-case, by the utterance's language (Turkish dotless i).")
    keep: str = Field("'", pattern=r"^[^|<>]*$", description="Punctuation characters that are part of words and stay.")


# ------------------------------------------------------------------------------------------- model and stages


class Model(Settings):
    """Shape of encoders that start from random weights: transformers' wav2vec 2.0 (layer-norm variant)."""

    hidden_size: Count = Field(192, description="Width of the Transformer.")
    layers: Count = Field(4, description="Transformer layers.")
    heads: Count = Field(3, description="Attention heads.")
    intermediate_size: Count = Field(768, description="Width of the feed-forward layers.")
    conv_dim: Layers = Field((160, 192), description="Channels of the convolutional front-end.")
    conv_kernel: Layers = Field(
        (400, 4), description="Kernels of the front-end. A first one of 200 samples or more begins as mel filters."
    )
    conv_stride: Layers = Field((160, 2), description="Strides of the front-end; 320 samples = 20 ms in all.")
    position_kernel: Count = Field(32, description="Kernel of the convolutional position embedding, in frames.")
    position_groups: Count = Field(16, description="Groups of the convolutional position embedding.")
    codebooks: Count = Field(2, description="Groups of the product quantiser.")
    codebook_entries: Count = Field(128, description="Entries in each codebook.")
    codevector_size: Count = Field(128, description="Size of a quantised vector.")
    projection_size: Count = Field(128, description="Size in which context and quantised vectors are compared.")

    @model_validator(mode="after")
    def _shape(self) -> Model:
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride must have one entry for each layer")
        if len(self.conv_dim) < 2:
            raise ValueError("the front-end needs two layers or more")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.hidden_size % self.position_groups:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of position_groups {self.position_groups}"
            )
        if self.codevector_size % self.codebooks:
            raise ValueError(f"codevector_size {self.codevector_size} is not a multiple of codebooks {self.codebooks}")
        return self


class Optimisation(Settings):
    """What every training stage sets: length, batches, optimiser and schedule."""

    updates: Count = Field(description="Optimiser updates.")
    batch_seconds: Positive = Field(description="Audio in a batch, padding included, in seconds.")
    learning_rate: Positive = Field(description="Peak learning rate.")
    warmup: Share = Field(description="Share of updates in which the rate rises to its peak.")
    hold: Share = Field(description="Share of updates at the peak; the rest decays.")
    decay_to: Positive = Field(description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(ge=0.0, description="AdamW weight decay, on matrices only.")
    gradient_clip: Positive = Field(description="Largest gradient norm.")
    log_every: Count = Field(description="Updates between learning curve rows.")
    save_minutes: Positive = Field(description="Minutes between saved states, from which a killed job resumes.")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Type that the network computes in, behind float32 weights; `auto` is bfloat16 where it is fast.",
    )
    accumulate: Count = Field(
        1,
        description="Parts that a batch is computed in, one after another, where memory is short. The gradient is that "
        "of the whole batch.",
    )

    @model_validator(mode="after")
    def _schedule(self) -> Optimisation:
        if self.warmup + self.hold > 1:
            raise ValueError(f"warmup {self.warmup} and hold {self.hold} are together more than all updates")
        return self


class Pretrain(Optimisation):
    """Self-supervised pre-training: wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477).

    Where a default is not the paper's, it is what works for a small encoder and hours of audio: see docs/results.md.
    """

    updates: Count = Field(1000, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds (paper: 1.6 h).")
    learning_rate: Positive = Field(3e-3, description="Peak learning rate (paper: 5e-4, for a base model).")
    warmup: Share = Field(0.08, description="Share of updates in which the rate rises (paper: 8 %).")
    hold: Share = Field(0.0, description="Share of updates at the peak.")
    decay_to: Positive = Field(0.02, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="AdamW weight decay (paper: 0.01).")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between learning curve rows.")
    save_minutes: Positive = Field(5.0, description="Minutes between saved states.")
    crop_seconds: float = Field(8.0, ge=1.0, description="Longer utterances are cropped, at a place drawn per epoch.")
    mask_share: Share = Field(0.5, description="Share of frames that masked spans cover, before overlap (paper: 0.65).")
    mask_length: Count = Field(8, description="Frames in a masked span (paper: 10 = 200 ms).")
    negatives: Count = Field(100, description="Distractors for each masked frame, from its own utterance.")
    contrastive_temperature: Positive = Field(0.1, description="Temperature of the similarities (paper: 0.1).")
    gumbel_start: Positive = Field(2.0, description="First Gumbel-softmax temperature (paper: 2).")
    gumbel_end: Positive = Field(0.5, description="Last Gumbel-softmax temperature (paper: 0.5).")
    gumbel_decay: Positive = Field(0.999, lt=1.0, description="Factor on it, each update (paper: 0.999995).")
    diversity_weight: float = Field(0.1, ge=0.0, description="Weight of the diversity loss (paper: 0.1).")
    freeze_front_end: bool = Field(
        True,
        description="Keep the front-end as it is: a new encoder's mel filters, or the parent's. wav2vec 2.0 trains "
        "it (false), which takes far more updates. A new encoder without mel filters always trains its front-end.",
    )
    freeze_quantiser: Share = Field(
        1.0,
        description="Share of updates, at first, that leave the quantiser as it is: k-means clusters (paper: 0).",
    )
    dropout: Share = Field(0.0, description="Dropout in the encoder.")
    patience: Count = Field(
        2000,
        description="Updates after which a run stops that has learnt nothing: loss at chance, targets all alike, or "
        "codes all the same, at every row of the learning curve over so many updates.",
    )


class Finetune(Optimisation):
    """Fine-tuning with connectionist temporal classification (CTC) on characters."""

    updates: Count = Field(600, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds.")
    learning_rate: Positive = Field(1e-3, description="Peak learning rate.")
    warmup: Share = Field(0.1, description="Tri-stage schedule: share of updates in which the rate rises.")
    hold: Share = Field(0.4, description="Tri-stage schedule: share of updates at the peak.")
    decay_to: Positive = Field(0.05, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="AdamW weight decay.")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between dev evaluations, each a learning curve row.")
    save_minutes: Positive = Field(5.0, description="Minutes between saved states.")
    freeze_front_end: bool = Field(
        True,
        description="Keep the front-end as it is: the start's, or the mel filters of random weights. Random weights "
        "without mel filters always train their front-end.",
    )
    freeze_encoder: Share = Field(0.0, description="Share of updates, at first, that train the output layer only.")
    mask_time_share: Share = Field(0.2, description="Share of frames covered by time masks, before overlap.")
    mask_time_length: Count = Field(5, description="Frames in a time mask.")
    mask_feature_share: Share = Field(0.05, description="Share of channels covered by feature masks.")
    mask_feature_length: Count = Field(16, description="Channels in a feature mask.")
    dropout: Share = Field(0.1, description="Dropout in the encoder.")
    dev_minutes: Positive = Field(5.0, description="Minutes of the dev split, from its start, that are evaluated.")


# -------------------------------------------------------------------------------------------------- the study


class ScratchStart(Settings):
    """Random weights: the baseline."""

    kind: Literal["scratch"] = Field(description="`scratch`: random weights, drawn from the run's seed.")


class HubStart(Settings):
    """A checkpoint in Hugging Face format, in a local folder."""

    kind: Literal["hub"] = Field(description="`hub`: a local checkpoint folder in Hugging Face format.")
    path: str = Field(description="The folder, absolute or relative to where Snakemake runs.")


class SslStart(Settings):
    """An encoder that the study pre-trains with wav2vec 2.0."""

    kind: Literal["ssl"] = Field(description="`ssl`: wav2vec 2.0 pre-training on unlabelled audio.")
    from_: str | None = Field(
        None,
        alias="from",
        description="Parent: another start's name, or the folder of a local checkpoint (a path with a slash in it). "
        "Random weights if null.",
    )
    corpora: dict[Name, Positive] = Field(min_length=1, description="Corpus -> hours of its training split.")
    settings: dict[str, Any] = Field({}, description="Keys of `pretrain` that differ for this start.")
    seed: Seed = Field(0, description="Seed of weights, batches, masks and negatives.")


Start = Annotated[ScratchStart | HubStart | SslStart, Field(discriminator="kind")]


class Target(Settings):
    """What is fine-tuned and scored."""

    corpus: Name = Field(description="Corpus whose train, dev and test splits are used.")
    kind: Literal["in-domain", "cross-domain", "cross-lingual", "code-switched"] = Field(
        description="How the target relates to what the starts were trained on; shown in the report."
    )


class Contrast(Settings):
    """A paired difference that the report shows, besides each start against `baseline`."""

    treatment: Name = Field(description="Start whose error rate is on the left of the difference.")
    baseline: Name = Field(description="Start whose error rate is subtracted.")


class Report(Settings):
    """How results are summarised."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="Coverage of every interval.")
    bootstrap_replicates: Count = Field(2000, description="Bootstrap replicates behind every interval.")
    metric: Literal["wer", "cer"] = Field(
        "cer",
        description="Error rate by which starts are judged: on test in the answer, on dev for convergence. "
        "The other is shown beside it.",
    )
    samples: Count = Field(4, description="Test utterances whose hypotheses are shown for each target.")


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
    threads: Count = Field(1, description="CPU threads of a training process; Snakemake runs jobs side by side.")
    devices: Count = Field(
        1, description="Processes that share the batches of a training job, one a GPU; results stay the same."
    )
    text: Text = Field(Text(), description="Text normalisation.")
    model: Model = Field(Model(), description="Shape of encoders that start from random weights.")
    pretrain: Pretrain = Field(Pretrain(), description="Self-supervised pre-training.")
    finetune: Finetune = Field(Finetune(), description="CTC fine-tuning.")
    report: Report = Field(Report(), description="Statistics and report.")

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        problems = [
            *self._dangling_names(),
            *self._cycles(),
            *self._impossible_hours(),
            *self._unlabelled_targets(),
            *self._start_settings(),
        ]
        for i, contrast in enumerate(self.contrasts):
            if contrast.treatment == contrast.baseline:
                problems.append(f"contrasts.{i}: {contrast.baseline!r} is compared with itself")
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
        corpora, starts = list(self.corpora), list(self.starts)
        references = [(f"targets.{name}.corpus", target.corpus, corpora) for name, target in self.targets.items()]
        references.append(("baseline", self.baseline, starts))
        for i, contrast in enumerate(self.contrasts):
            references.append((f"contrasts.{i}.treatment", contrast.treatment, starts))
            references.append((f"contrasts.{i}.baseline", contrast.baseline, starts))
        for name, start in self.starts.items():
            if isinstance(start, SslStart):
                references += [(f"starts.{name}.corpora", corpus, corpora) for corpus in start.corpora]
                if start.from_ is not None and not is_folder(start.from_):
                    references.append((f"starts.{name}.from", start.from_, starts))
        return [
            f"{key}: there is no {'start' if valid is starts else 'corpus'} {value!r}{nearest(value, valid)}"
            for key, value, valid in references
            if value not in valid
        ]

    def _cycles(self) -> list[str]:
        problems, seen = [], set()
        for name in self.starts:
            chain, parent = [name], self._parent(name)
            while parent is not None and parent not in chain:
                chain.append(parent)
                parent = self._parent(parent)
            if parent == name and name not in seen:  # each cycle once, at its first start
                problems.append(f"starts.{name}.from: a cycle, {' from '.join([*chain, name])}")
                seen.update(chain)
        return problems

    def _parent(self, name: str) -> str | None:
        return getattr(self.starts.get(name), "from_", None)

    def _impossible_hours(self) -> list[str]:
        """Budgets and pre-training hours beyond what a synthetic corpus holds (folders: when read)."""
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
                if wanted > hours.get(corpus, float("inf")):
                    problems.append(
                        f"starts.{name}.corpora.{corpus}: {wanted:g} h is more than "
                        f"corpora.{corpus}.hours.train holds (at most {hours[corpus]:g})"
                    )
        return problems

    def _unlabelled_targets(self) -> list[str]:
        return [
            f"targets.{name}.corpus: corpus {target.corpus!r} has no transcripts (its columns.text is null)"
            for name, target in self.targets.items()
            if isinstance(corpus := self.corpora.get(target.corpus), FolderCorpus) and corpus.columns.text is None
        ]

    def _start_settings(self) -> list[str]:
        problems = []
        for name, start in self.starts.items():
            if isinstance(start, SslStart):
                try:
                    self.pretrain_of(name)
                except ValidationError as error:
                    problems += explain(error, Pretrain, f"starts.{name}.settings")
        return problems

    def pretrain_of(self, start: str) -> Pretrain:
        """Pre-training settings of an `ssl` start: the study's, with the start's own on top."""
        return Pretrain.model_validate({**self.pretrain.model_dump(), **self.starts[start].settings})

    def runs(self) -> list[tuple[str, str, str, int]]:
        """Every (start, target, budget, seed), in the order of the study file."""
        return [
            (start, target, budget, seed)
            for start in self.starts
            for target in self.targets
            for budget in self.budgets
            for seed in self.seeds
        ]

    def comparisons(self) -> list[tuple[str, str]]:
        """(treatment, baseline) pairs: each start against the baseline, then the study's own contrasts."""
        pairs = [(start, self.baseline) for start in self.starts if start != self.baseline]
        return pairs + [pair for c in self.contrasts if (pair := (c.treatment, c.baseline)) not in pairs]


# ------------------------------------------------------------------------------------- reading and explaining


class _Loader(yaml.SafeLoader):
    """YAML in which a key written twice is an error; by itself, YAML would silently keep the last one."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} is written twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


def explain(error: ValidationError, model: type[Settings] = Study, prefix: str = "") -> list[str]:
    """One line for each problem that pydantic found in a `model`: the dotted key, then what is wrong."""
    lines = []
    for problem in error.errors():
        keys, message = _explain_one(problem, model)
        key = ".".join([prefix, *keys] if prefix else keys)
        lines += [f"{key}: {line}" if key else line for line in message.split("\n")]
    return lines


def _explain_one(problem: dict[str, Any], model: type[Settings]) -> tuple[list[str], str]:
    """(keys that lead to the problem, message) of one of pydantic's errors."""
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    keys, section = _locate(model, location)
    got = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."

    if kind == "missing":
        return keys, "this key is required"
    if kind == "extra_forbidden":
        _, section = _locate(model, location[:-1])
        return keys, f"unknown key{nearest(location[-1], list(section['properties']))}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag, valid = section["discriminator"]["propertyName"], list(section["discriminator"]["mapping"])
        if kind == "union_tag_not_found":
            return [*keys, tag], f"this key is required{nearest('', valid)}"
        return [*keys, tag], f"there is no {tag} {value[tag]!r}{nearest(value[tag], valid)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        empty = "this section is empty: give it keys, or remove it"
        return keys, empty if value is None else f"should have keys (got {got})"
    if location[-1:] == ("[key]",):
        keys, _ = _locate(model, location[:-2])
        return keys, f"{value!r} is no valid name, which is {PATTERNS[NAME_PATTERN]}"
    if kind == "string_pattern_mismatch":
        return keys, f"should be {PATTERNS[problem['ctx']['pattern']]} (got {got})"
    if kind == "string_type" and isinstance(value, bool):
        return keys, f"should be text (got {got}; YAML reads no, off, yes and on so, unless quoted)"
    if kind == "too_short":
        return keys, "is empty"
    if kind == "value_error":
        return keys, problem["msg"].removeprefix("Value error, ")
    return keys, f"{problem['msg'].removeprefix('Input ')} (got {got})"


def _locate(model: type[Settings], location: tuple[str | int, ...]) -> tuple[list[str], dict[str, Any]]:
    """The keys on the way to one of pydantic's errors, and the JSON Schema of what stands there.

    Where the schema is a union (of readers, of kinds of starts), pydantic's location holds the tag of the
    chosen one, which is no key of the study file.
    """
    root = model.model_json_schema()
    keys, node = [], root
    for part in location:
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(part, "")}
        else:
            keys.append(str(part))
            names = list(node.get("patternProperties", {}).values())  # a mapping with names as keys
            node = node.get("properties", {}).get(part) or node.get("items") or (names or [{}])[0]
        if "$ref" in node:
            node = root["$defs"].get(node["$ref"].rpartition("/")[2], {})
    return keys, node


def parse_study(data: dict[str, Any], source: str = "study") -> Study:
    """The typed study of a plain dict; raises `StudyError` naming `source` and every problem in it."""
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        lines = explain(error)
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        raise StudyError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_study(path: str | Path) -> Study:
    """Read a study file; raises `StudyError` when it is missing, no YAML, or not a valid study."""
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such study file")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StudyError(f"{path}, line {line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys, see config/README.md")
    return parse_study(data, str(path))
