"""The sections of a study file: corpora, text, model, and the settings of each stage, with their defaults."""

from __future__ import annotations

import os
import re
from importlib import resources
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headstart.score.metrics import METRICS
from headstart.study.explain import BUDGET_PATTERN, KEEP_PATTERN, NAME_PATTERN, nearest

SPLITS = ("train", "dev", "test")
Split = Literal["train", "dev", "test"]


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
    files = (resources.files("headstart.corpora.synthetic") / "grammars").iterdir()
    valid = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    if language not in valid:
        raise ValueError(f"there is no grammar {language!r}{nearest(language, valid)}")
    return language


def _normalised(path: str) -> str:
    """The normal form of a path: `~` is expanded, and `./corpus` and `corpus/` become `corpus`."""
    if not path.strip():
        raise ValueError("is empty; name a folder")
    return os.path.normpath(os.path.expanduser(path))


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Folder = Annotated[str, AfterValidator(_normalised)]
Budget = Annotated[str, Field(pattern=BUDGET_PATTERN), AfterValidator(_some_audio)]
GrammarName = Annotated[str, AfterValidator(_grammar)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**30)]
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
    voices: Literal["usual", "other"] = Field(
        "usual", description="Whose voices: `other` ones are of unlike timbre (whisper, creak), for another domain."
    )


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
    phonemes: str | None = Field(
        None, description="Phonemic transcript: phones with spaces between them, and ` | ` between words, if at all."
    )


class FolderCorpus(Settings):
    """Recorded speech: a folder with audio files and a TSV or CSV table."""

    reader: Literal["folder"] = Field(description="`folder`: audio files and a table.")
    path: Folder = Field(description="The folder, absolute or relative to where Snakemake runs.")
    table: Folder = Field("metadata.tsv", description="The table in it; the suffix .csv or .tsv gives the separator.")
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
    outside: bool = Field(
        False, description="Whether the table may name audio outside the folder, by `../` or an absolute path."
    )
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
    keep: str = Field("'", pattern=KEEP_PATTERN, description="Punctuation characters that are part of words and stay.")


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
        if any(kernel < stride for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True)):
            raise ValueError("each conv_kernel must be as long as its conv_stride, or samples are skipped")
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


SAVE_MINUTES = (
    "Minutes between saved states, from which a killed job resumes. The first is saved after a minute at most: a job "
    "whose limit is shorter than this, and not known, would otherwise begin anew at every try."
)


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
    save_minutes: Positive = Field(description=SAVE_MINUTES)
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


class Data2vec(Settings):
    """What data2vec adds to pre-training (Baevski et al. 2022, arXiv 2202.03555)."""

    average_layers: Count = Field(8, description="Transformer layers, from the top, whose outputs the target averages.")
    ema_start: Share = Field(0.99, description="First decay of the teacher's weights, an update (paper: 0.999).")
    ema_end: Share = Field(0.999, description="Last decay of the teacher's weights (paper: 0.9999).")
    ema_anneal: Share = Field(0.1, description="Share of updates in which the decay goes from first to last.")


class BestRq(Settings):
    """What BEST-RQ adds to pre-training (Chiu et al. 2022, arXiv 2202.01855)."""

    codebooks: Count = Field(1, description="Random codebooks, each with an output layer of its own (paper: 1).")
    entries: Count = Field(64, description="Entries in each codebook (paper: 8192).")
    code_size: Count = Field(16, description="Size of an entry, to which log-mel frames are projected (paper: 16).")


class Pretrain(Optimisation):
    """Self-supervised pre-training: wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), data2vec or BEST-RQ.

    Where a default is not the paper's, it is what works for a small encoder and hours of audio: see docs/results.md.
    Keys that speak of negatives, codes, Gumbel noise, diversity or the quantiser are wav2vec 2.0's.
    """

    objective: Literal["wav2vec2", "data2vec", "best-rq"] = Field(
        "wav2vec2", description="What masked frames are asked: their code, a teacher's layers, or a random projection."
    )
    updates: Count = Field(1000, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, in seconds (paper: 1.6 h).")
    learning_rate: Positive = Field(3e-3, description="Peak learning rate (paper: 5e-4, for a base model).")
    warmup: Share = Field(0.08, description="Share of updates in which the rate rises (paper: 8 %).")
    hold: Share = Field(0.0, description="Share of updates at the peak.")
    decay_to: Positive = Field(0.02, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="AdamW weight decay (paper: 0.01).")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between learning curve rows.")
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    crop_seconds: float = Field(8.0, ge=1.0, description="Longer utterances are cropped, at a place drawn per epoch.")
    mask_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="Share of frames that masked spans cover, before overlap (paper: 0.65)."
    )
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
    data2vec: Data2vec = Field(Data2vec(), description="Of the objective data2vec.")
    best_rq: BestRq = Field(BestRq(), description="Of the objective best-rq.")


class MaskedOptimisation(Optimisation):
    """What training with CTC sets besides: what of the encoder's input and activations is left out at random."""

    mask_time_share: Share = Field(0.2, description="Share of frames covered by time masks, before overlap.")
    mask_time_length: Count = Field(5, description="Frames in a time mask.")
    mask_feature_share: Share = Field(0.05, description="Share of channels covered by feature masks.")
    mask_feature_length: Count = Field(16, description="Channels in a feature mask.")
    dropout: Share = Field(0.1, description="Dropout in the encoder.")


class Loss(Settings):
    """When a loss of the semi-supervised stage counts, and how much."""

    weight: float = Field(1.0, ge=0.0, description="Its weight; 0 leaves it out.")
    begin: Share = Field(0.0, description="Share of updates before it sets in.")
    ramp: Share = Field(0.0, description="Share of updates in which its weight then rises.")
    end: Share = Field(1.0, description="Share of updates after which it is left out.")

    @model_validator(mode="after")
    def _some_time(self) -> Loss:
        if self.weight and self.begin >= self.end:
            raise ValueError(f"it begins at {self.begin:g} of the updates and ends at {self.end:g}")
        return self

    def at(self, passed: float) -> float:
        """The weight of the loss at an update; `passed` is the share of updates up to and including this one."""
        if not self.begin < passed <= self.end:
            return 0.0
        return self.weight * (min(1.0, (passed - self.begin) / self.ramp) if self.ramp else 1.0)


class Semisup(MaskedOptimisation):
    """The semi-supervised stage between pre-training and fine-tuning: wav2vec-S (Zhu et al. 2022, arXiv 2110.04484).

    The paper has published no code. Which losses, which teacher, when and how much is our interpretation, and every
    part of it is a setting: see docs/semisup.md.
    """

    updates: Count = Field(300, description="Optimiser updates.")
    batch_seconds: Positive = Field(24.0, description="Audio in a batch, labelled and not, in seconds.")
    labelled_share: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5,
        description="Share of a batch's audio that is labelled. Batches are all labelled as long as no loss takes "
        "other audio, and where the start has none.",
    )
    learning_rate: Positive = Field(1e-3, description="Peak learning rate.")
    head_rate: Positive = Field(1.0, description="Learning rate of the CTC output layer, as a multiple.")
    warmup: Share = Field(0.1, description="Share of updates in which the rate rises.")
    hold: Share = Field(0.4, description="Share of updates at the peak.")
    decay_to: Positive = Field(0.05, description="Final learning rate as a share of the peak.")
    weight_decay: float = Field(0.01, ge=0.0, description="AdamW weight decay.")
    gradient_clip: Positive = Field(1.0, description="Largest gradient norm.")
    log_every: Count = Field(50, description="Updates between learning curve rows, with dev evaluations.")
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    supervised: Loss = Field(Loss(), description="CTC on transcripts of the labelled audio.")
    pseudo: Loss = Field(
        Loss(begin=0.6, ramp=0.1),
        description="CTC on pseudo-labels of the unlabelled audio, made on the fly. By "
        "default it sets in late (`begin` 0.6), when the supervised part has settled, and rises (`ramp` 0.1).",
    )
    ssl: Loss = Field(
        Loss(weight=0.0),
        description="The self-supervised loss of the start that it refines, on the unlabelled audio (on the labelled "
        "where there is none), with that start's settings. Left out by default (`weight` 0).",
    )
    units: Literal["characters", "phones", "subwords"] = Field(
        "characters", description="What transcripts are spelt in: one inventory for all languages."
    )
    subwords: Count = Field(200, description="Entries of the vocabulary of subwords (byte-pair encoding).")
    phones: Literal["espeak", "corpus"] = Field(
        "espeak", description="Where phones come from: eSpeak NG, or the corpora's `columns.phonemes`."
    )
    teacher: Literal["ema", "self"] = Field(
        "ema",
        description="Who makes pseudo-labels: an exponential moving average of the weights (momentum "
        "pseudo-labelling), or the model as it is (slimIPL).",
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.98, description="Decay of the teacher's weights, an update."
    )
    min_confidence: Share = Field(
        0.8,
        description="Pseudo-labels whose mean probability, over the frames that speak, is less are not learnt from.",
    )
    cache_updates: int = Field(
        0, ge=0, description="Updates for which a clip's pseudo-labels are kept and used again; 0 makes them anew."
    )
    guard_every: Count = Field(
        20, description="Pseudo-labelled updates between checks for collapsed labels and a diverged teacher."
    )
    pause: Share = Field(0.05, description="Share of updates without pseudo-labels after they have collapsed.")
    freeze_front_end: bool = Field(True, description="Keep the front-end as it is, as in `finetune`.")
    freeze_encoder: Share = Field(0.0, description="Share of updates, at first, that train the output layers only.")
    freeze_layers: int = Field(0, ge=0, description="Transformer layers, from the bottom, that stay as they are.")
    dev_minutes: float = Field(1.0, ge=0.0, description="Minutes of each labelled corpus's dev split to evaluate.")
    keep_head: bool = Field(
        False,
        description="Keep the output layer, so that the start is itself a recogniser of its source. Fine-tuning always "
        "begins with a new one.",
    )
    reset_layers: int = Field(
        0, ge=0, description="Transformer layers, from the top, that get new random weights at the end."
    )

    @model_validator(mode="after")
    def _some_loss(self) -> Semisup:
        if not (self.supervised.weight or self.pseudo.weight or self.ssl.weight):
            raise ValueError("supervised, pseudo and ssl all have weight 0: nothing is left to learn from")
        covered = 0.0
        for loss in sorted((self.supervised, self.pseudo, self.ssl), key=lambda loss: loss.begin):
            if loss.weight and loss.begin <= covered:
                covered = max(covered, loss.end)
        if covered < 1.0:
            raise ValueError(f"nothing is learnt after {covered:g} of the updates: supervised, pseudo and ssl all rest")
        return self


class Finetune(MaskedOptimisation):
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
    save_minutes: Positive = Field(5.0, description=SAVE_MINUTES)
    freeze_front_end: bool = Field(
        True,
        description="Keep the front-end as it is: the start's, or the mel filters of random weights. Random weights "
        "without mel filters always train their front-end.",
    )
    freeze_encoder: Share = Field(0.0, description="Share of updates, at first, that train the output layer only.")
    dev_minutes: Positive = Field(5.0, description="Minutes of the dev split, from its start, that are evaluated.")


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


class Report(Settings):
    """How results are summarised."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="Coverage of every interval.")
    bootstrap_replicates: int = Field(2000, ge=20, description="Bootstrap replicates behind every interval.")
    metric: Literal[*METRICS] = Field(
        "cer",
        description="Error rate by which starts are judged: on test in the answer, on dev for convergence. "
        "The others are shown beside it.",
    )
    samples: Count = Field(4, description="Test utterances whose hypotheses are shown for each target.")
