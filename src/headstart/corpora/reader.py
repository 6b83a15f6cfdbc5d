"""The contract of a corpus reader: it names the files that it reads, and yields utterances.

A new kind of corpus takes three additions:

1. A settings section in `study/corpora.py`, with `reader: Literal["NAME"]` and the keys of `CommonSettings`. It joins
   the `Corpus` union there and the list in `study/reference.py`; `headstart docs` then writes the key reference and the
   schema anew.
2. A module in this package with a subclass of `Reader`.
3. A line in `READERS` in `corpora/reading.py`.

What every corpus needs is shared code and no concern of a reader: `reading.py` opens the header of each audio file,
checks lengths and duplicate ids, and writes manifests and rejects; `splits.py` draws the splits that a corpus lacks
and looks for sentences that they share; `overview.py` describes the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from headstart.errors import HeadstartError
from headstart.study.fields import Split


class CorpusError(HeadstartError):
    """A corpus that cannot be read at all. Rows that cannot be used are rejected instead, with a reason."""


class AudioReference(NamedTuple):
    """Where the audio of an utterance is: a whole file, or a stretch of one.

    The manifest has these fields as `audio_path`, `offset_s` and `duration_s`; `manifests.py` says how a row of a
    container will be written into the path.
    """

    path: str  # relative to the reader's folder, or absolute
    offset_s: float = 0.0
    duration_s: float | None = None  # None: to the end of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What a corpus says of one utterance. Empty ids, texts and audio are rejected by the shared code."""

    line: int  # line or row of the corpus's own files, for messages and the rejects file
    utterance_id: str | None
    audio: AudioReference | None
    language: str  # BCP 47
    text: str | None = None  # as transcribed; None in an unlabelled corpus, empty where a transcript is missing
    speaker: str | None = None
    split: Split | None = None  # None: the corpus does not say, and the split is drawn
    tokens: list[str] | None = None
    token_languages: list[str] | None = None  # BCP 47, one for each token
    phonemes: str | None = None

    @property
    def draw_key(self) -> str:
        """Utterances with the same key are drawn into the same split: those of a speaker, or with the same text."""
        return (self.speaker or self.text or (self.audio.path if self.audio else "")).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row of a corpus that cannot be used, and what is known of it."""

    line: int
    reason: str
    utterance_id: str | None = None
    audio: AudioReference | None = None
    split: Split | None = None  # None: not known, and taken to be that of the row before it
    draw_key: str = ""  # see `Utterance.draw_key`


class CommonSettings(Protocol):
    """The keys that the settings of every reader have."""

    dev_share: float
    test_share: float
    min_seconds: float
    max_seconds: float


class Reader(ABC):
    """Base of the readers. The constructor opens no file.

    Args:
        settings: the corpus's section of the study.
        raw: folder of a corpus that the workflow makes itself. Recorded corpora name theirs in the settings.
    """

    settings: CommonSettings
    folder: Path  # audio paths are relative to it
    source: Path  # the file or folder that messages about the whole corpus name
    drawn_units = "speakers or sentences"  # what splits are drawn by, in a message
    split_advice: tuple[str, ...] = ()  # what a user can do, beside changing a share, where a drawn split stays empty

    @abstractmethod
    def __init__(self, settings: CommonSettings, raw: str | Path): ...

    @abstractmethod
    def check(self) -> None:
        """Raise `CorpusError` when the corpus is not where the settings say. Called before the workflow runs."""

    @abstractmethod
    def inputs(self) -> list[str]:
        """The files that are inputs of the job: when one of them changes, the corpus is read again."""

    @abstractmethod
    def audio_files(self) -> Iterable[str] | None:
        """The audio files that the corpus names, relative to `folder`; None where they change only with the inputs.

        Their sizes and times are looked up whenever the workflow is planned, so no audio is opened for it.

        Raises:
            CorpusError, OSError: the corpus cannot be read. The job that reads it will say so.
        """

    @abstractmethod
    def utterances(self) -> Iterator[Utterance | Reject]:
        """The utterances in the order of the corpus, without those that the study leaves out.

        Raises:
            CorpusError: the corpus cannot be read at all.
        """
