"""`corpora`: the keys that corpora of several kinds share. Those of one kind are beside its reader."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from headstart.study.fields import Channels, Folder, Positive, Settings, Share, Split


class WithText(Settings):
    """What a corpus of any kind has beside its recordings: its manifests do not depend on these keys."""

    text: list[Folder] = Field(
        [],
        description="Text files for the language models of targets, one sentence a line, UTF-8, plain or `.gz`. They "
        "need not be transcripts of anything, but may hold no sentence of the dev or test split.",
    )
    budget_draw: Literal["random", "speakers"] = Field(
        "random",
        description="How label budgets are drawn from the train split: at random, so that who speaks much has much of "
        "a budget, or from speakers in turn, so that all have about as much, as long as theirs lasts.",
    )
    licence: str | None = Field(
        None,
        description="Licence of the recordings, such as `cc-by-4.0`, for the model cards of what is trained on them.",
    )


class RecordedCorpus(WithText):
    """The keys of every recorded corpus, whatever its reader."""

    path: Folder = Field(description="The folder, absolute or relative to where Snakemake runs.")
    language: str = Field(description="BCP 47 language, where the corpus does not name one for each utterance.")
    splits: dict[str, Split | None] = Field(
        {
            "train": "train",
            "training": "train",
            "dev": "dev",
            "valid": "dev",
            "validation": "dev",
            "test": "test",
        },
        description="The corpus's names of its splits -> ours; null leaves a split out.",
    )
    dev_share: Share = Field(
        0.1, description="Share of training speakers (or sentences) drawn for dev, where the corpus has no dev split."
    )
    test_share: Share = Field(0.1, description="Share of training speakers (or sentences) drawn for test, likewise.")
    transcripts: bool = Field(
        True,
        description="Whether there are transcripts; with false, the corpus is audio for `ssl` and `semisup` starts.",
    )
    outside: bool = Field(
        False,
        description="Whether audio may lie outside the folder, where `../`, an absolute path or a link leads to it.",
    )
    min_seconds: Positive = Field(0.2, description="Shorter clips go to the rejects file.")
    max_seconds: Positive = Field(30.0, description="Longer clips go to the rejects file.")
    channels: Channels = Field(
        "mix",
        description="What is taken of recordings with several channels: `mix`, their mean; a number, that channel, "
        "counted from 0; `each`, an utterance for every channel, with `-ch0`, `-ch1` and so on added to its id. It "
        "does not apply where the corpus itself names a channel.",
    )
    shards: int = Field(
        1,
        ge=1,
        le=1000,
        description="Jobs among which the features of the training split are divided, which may run on different "
        "machines. The results are the same.",
    )

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is more than max_seconds {self.max_seconds:g}")
        if self.dev_share + self.test_share >= 1:
            raise ValueError("dev_share and test_share together leave nothing to train on")
        return self

    @property
    def without_transcripts(self) -> str | None:
        """Why the corpus has no transcripts, by its keys; None where it has some."""
        return None if self.transcripts else "its transcripts is false"
