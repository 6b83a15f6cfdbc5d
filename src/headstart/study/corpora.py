"""`corpora`: recorded and synthetic speech."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.study.fields import Folder, GrammarName, Positive, Range, Seed, Settings, Share, Split


class SplitHours(Settings):
    """Hours of speech to synthesise for each split."""

    train: Positive = Field(0.5, description="Hours in the training split.")
    dev: Positive = Field(0.05, description="Hours in the development split.")
    test: Positive = Field(0.2, description="Hours in the test split.")


class WithText(Settings):
    """What a corpus of any kind may have beside its recordings."""

    text: list[Folder] = Field(
        [],
        description="Text files for the language models of targets, one sentence a line, UTF-8, plain or `.gz`. They "
        "need not be transcripts of anything, but may hold no sentence of the dev or test split.",
    )


class SyntheticCorpus(WithText):
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


class FolderCorpus(WithText):
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
