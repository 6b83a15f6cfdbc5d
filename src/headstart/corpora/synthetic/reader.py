"""The reader of synthetic corpora, which `synthesis.py` writes as a folder with a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from headstart.corpora.columns import Columns
from headstart.corpora.reader import Description
from headstart.corpora.readers.table import FolderCorpus, TableReader
from headstart.study.corpora import WithText
from headstart.study.fields import GrammarName, Positive, Range, Seed, Settings, is_none

COLUMNS = Columns(
    speaker="speaker",
    language="language",
    split="split",
    tokens="tokens",
    token_languages="token_languages",
    phonemes="phonemes",
)


class SplitHours(Settings):
    """Hours of speech to synthesise for each split."""

    train: Positive = Field(0.5, description="Hours in the training split.")
    dev: Positive = Field(0.05, description="Hours in the development split.")
    test: Positive = Field(0.2, description="Hours in the test split.")


class SyntheticCorpus(WithText):
    """A corpus synthesised with eSpeak NG from a grammar of the package; a pure function of its settings."""

    reader: Literal["synthetic"] = Field(description="`synthetic`: speech made by eSpeak NG.")
    language: GrammarName = Field(
        description="Name of a file in `src/headstart/corpora/synthetic/grammars/`: `sw`, or `en-es` (code-switched)."
    )
    hours: SplitHours = Field(SplitHours(), description="Hours of speech for each split.")
    seed: Seed = Field(0, description="Seed of the sentences, the speakers and the noise.")
    snr_db: Range = Field((5.0, 25.0), description="Range of signal-to-noise ratios, in dB, drawn per utterance.")
    words_per_minute: Range = Field((120.0, 220.0), description="Range of the speakers' base speaking rates.")
    pitch: Range = Field((20.0, 80.0), description="Range of the speakers' base pitches (eSpeak scale, 0 to 99).")
    voices: Literal["usual", "other"] = Field(
        "usual", description="Whose voices: `other` ones are of unlike timbre (whisper, creak), for another domain."
    )

    bandwidth_hz: Range | None = Field(
        None,
        exclude_if=is_none,
        description="Frequencies that are left of speech and noise, for another domain: [300, 3400] is a "
        "telephone's or a radio's; null for all.",
    )

    @field_validator("bandwidth_hz")
    @classmethod
    def _some_band(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        from headstart.features.audio import SAMPLE_RATE

        if band and not 0 < band[0] < band[1] <= SAMPLE_RATE / 2:
            raise ValueError(f"is [{band[0]:g}, {band[1]:g}] Hz; it lies between 0 and {SAMPLE_RATE / 2:g} Hz")
        return band

    @property
    def synthesis(self) -> dict[str, Any]:
        """The arguments of `synthesise_corpus`: the keys that the recordings depend on."""
        return self.model_dump(exclude={"reader", *WithText.model_fields})


class SyntheticReader(TableReader):
    """Reads a corpus folder that the synthesiser wrote."""

    section = SyntheticCorpus
    description = Description(
        title="Speech that the workflow makes itself",
        layout="nothing: eSpeak NG speaks sentences of a grammar in src/headstart/corpora/synthetic/grammars/",
        example="language: sw, hours: {train: 0.5, dev: 0.05, test: 0.2}",
    )

    def __init__(self, settings: SyntheticCorpus, raw: str | Path):
        language = settings.language.split("-")[0]
        super().__init__(FolderCorpus(reader="folder", path=str(raw), columns=COLUMNS, language=language))

    def check(self) -> None:
        """Check nothing: the corpus does not exist before the workflow runs, because the workflow makes it."""

    def audio_files(self) -> None:
        """None: the synthesiser writes the table and the audio together."""
