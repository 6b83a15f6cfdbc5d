"""`starts`: what fine-tuning begins with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headstart.study.attention import ChunkedAttention
from headstart.study.explain import ADAPTER_PATTERN, HUB_PATTERN, REVISION_PATTERN
from headstart.study.facts import Facts
from headstart.study.fields import Folder, Name, Positive, Seed, Settings, is_none
from headstart.study.selection import Select

HubName = Annotated[str, Field(pattern=HUB_PATTERN)]
Revision = Annotated[str, Field(pattern=REVISION_PATTERN)]
AdapterName = Annotated[str, Field(pattern=ADAPTER_PATTERN)]
DEFAULT_REVISION = "main"


class AnyStart(Settings):
    """What every start has."""

    seed_offset: Seed = Field(
        0,
        description="Added to the seed of each of the start's runs, for all that is random in fine-tuning but the draw "
        "of the label budget. Two starts with one checkpoint and different offsets differ by chance alone.",
    )
    attention: ChunkedAttention | None = Field(
        None,
        exclude_if=is_none,
        description="Limits how far a frame looks, as streaming needs it, from this start on; without, it is as in the "
        "start or the checkpoint that this one goes on from, in the end full attention.",
    )


class ScratchStart(AnyStart):
    """Random weights: the baseline."""

    kind: Literal["scratch"] = Field(description="`scratch`: random weights, drawn from the run's seed.")


class Checkpoint(AnyStart):
    """A checkpoint in Hugging Face format from outside the study: a local folder, or a model of a hub."""

    path: Folder | None = Field(
        None, description="A checkpoint folder in Hugging Face format, absolute or relative to where Snakemake runs."
    )
    model: HubName | None = Field(None, description="A model of a hub, such as `facebook/wav2vec2-base`.")
    revision: Revision | None = Field(
        None,
        description="Commit, tag or branch of `model`; `main` without it. A branch or tag stands for the commit that "
        "it was when the model was first fetched.",
    )
    facts: Facts | None = Field(
        None, description="What is known of the checkpoint, for the report: hours, languages, families, licence."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Checkpoint:
        names = [key for key in ("from_", "path", "model") if getattr(self, key, None) is not None]
        if len(names) > 1:
            given = " and ".join(name.rstrip("_") for name in names)
            raise ValueError(f"{given} are given, but a start goes on from one checkpoint; keep one of them")
        if self.revision is not None and self.model is None:
            raise ValueError("revision is given without model; it says which version of a hub's model to take")
        if self.facts is not None and self.path is None and self.model is None:
            raise ValueError("facts are given without path or model; they are about a checkpoint from outside")
        return self

    @property
    def hub_model(self) -> tuple[str, str] | None:
        """Name and revision of the model of a hub that the start is or goes on from; None if there is none."""
        return None if self.model is None else (self.model, self.revision or DEFAULT_REVISION)


class HubStart(Checkpoint):
    """A checkpoint in Hugging Face format as it is, from a local folder or a hub."""

    kind: Literal["hub"] = Field(description="`hub`: a checkpoint in Hugging Face format, named by `path` or `model`.")
    adapters: Literal["drop", "train"] = Field(
        "drop",
        description="Adapters are small layers for one language, as MMS has them. `drop`: the encoder is fine-tuned "
        "without any. `train`: they are the only weights that are fine-tuned, besides the output layer; an encoder "
        "without adapters gets new ones.",
    )
    adapter: AdapterName | None = Field(
        None,
        description="Language whose adapter `train` begins with: `swh` is the file `adapter.swh.safetensors` of the "
        "checkpoint. Without, adapters begin with random weights.",
    )

    @model_validator(mode="after")
    def _some_source(self) -> HubStart:
        if self.path is None and self.model is None:
            raise ValueError("path or model is required: name the folder of a checkpoint, or a model of a hub")
        if self.adapter is not None and self.adapters != "train":
            raise ValueError("adapter is given, but adapters are dropped; set `adapters: train`")
        return self


PER_SEED = (
    "Train the start anew for each seed of the study, with all that is random in it drawn from `seed` plus that seed. "
    "Comparisons then contain the luck of its training. Otherwise it is trained once, and a verdict is about this one "
    "checkpoint."
)


class SslStart(Checkpoint):
    """An encoder that the study pre-trains with wav2vec 2.0."""

    kind: Literal["ssl"] = Field(description="`ssl`: wav2vec 2.0 pre-training on unlabelled audio.")
    from_: str | None = Field(
        None,
        alias="from",
        description="Name of another start to continue from. Or give `path` or `model`; without, weights are random.",
    )
    corpora: dict[Name, Positive] = Field(min_length=1, description="Corpus -> hours of its training split.")
    select: Select | None = Field(
        None, exclude_if=is_none, description="How these hours are chosen; at random if left out."
    )
    settings: dict[str, Any] = Field({}, description="Keys of `pretrain` that differ for this start.")
    seed: Seed = Field(0, description="Seed of weights, batches, masks and negatives.")
    per_seed: bool = Field(False, description=PER_SEED)


class SemisupStart(Checkpoint):
    """An encoder that the study refines with wav2vec-S: semi-supervised training on labelled and unlabelled audio."""

    kind: Literal["semisup"] = Field(description="`semisup`: the semi-supervised stage of wav2vec-S.")
    from_: str | None = Field(
        None, alias="from", description="Name of another start to continue from; or give `path` or `model`."
    )
    labelled: dict[Name, Positive] = Field(
        min_length=1, description="Corpus -> hours of its training split, with transcripts."
    )
    unlabelled: dict[Name, Positive] = Field(
        {}, description="Corpus -> hours of its training split without transcripts; never the same utterances."
    )
    select: Select | None = Field(
        None,
        exclude_if=is_none,
        description="How the hours of `unlabelled` are chosen; at random if left out. Those of `labelled` always are.",
    )
    settings: dict[str, Any] = Field({}, description="Keys of `semisup` that differ for this start.")
    seed: Seed = Field(0, description="Seed of the output layer, batches and masks.")
    per_seed: bool = Field(False, description=PER_SEED)

    @model_validator(mode="after")
    def _some_parent(self) -> SemisupStart:
        if self.from_ is None and self.path is None and self.model is None:
            raise ValueError("from, path or model is required: name the start or the checkpoint that is refined")
        return self

    @model_validator(mode="after")
    def _something_to_select(self) -> SemisupStart:
        if self.select is not None and not self.unlabelled:
            raise ValueError("select is given, but it is about unlabelled audio, of which there is none")
        return self

    @property
    def corpora(self) -> dict[str, float]:
        """Hours of each corpus, labelled and not."""
        names = dict.fromkeys([*self.labelled, *self.unlabelled])
        return {name: self.labelled.get(name, 0.0) + self.unlabelled.get(name, 0.0) for name in names}


Start = Annotated[ScratchStart | HubStart | SslStart | SemisupStart, Field(discriminator="kind")]
