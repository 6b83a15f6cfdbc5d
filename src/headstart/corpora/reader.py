"""The contract of a corpus reader: it names the files that it reads, and yields utterances.

A new kind of corpus takes one file and one line:

1. A module in `corpora/readers/` with a settings section and a `Reader` class. The section is a subclass of
   `RecordedCorpus` (`study/corpora.py`) with `reader: Literal["NAME"]` and the keys of its own; it may override the
   defaults of shared ones, such as `language` and `splits`. The reader is a subclass of `RecordedReader` that sets
   `section` and `description`, and defines `annotations` and `utterances`. `readers/kaldi.py` is an example.
2. The class in the list of `corpora/registry.py`. `make docs` then writes the key reference, the schema and
   docs/corpora.md anew, and `headstart corpora` shows what the reader expects on disk.

Every study imports every reader's module. Libraries that take long to import are imported in the methods that use them.

What every corpus needs is shared code and no concern of a reader: `paths.py` finds audio files whose names are written
in another Unicode form, and refuses those outside the corpus; `reading.py` opens the header of each audio file, checks
lengths and duplicate ids, and writes manifests and rejects; `splits.py` draws the splits that a corpus lacks and looks
for sentences that they share; `overview.py` describes the result.

A test of a reader builds a miniature of the corpus's real layout, its quirks included: see `tests/miniature.py`.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, get_args

from headstart.errors import HeadstartError
from headstart.study.corpora import RecordedCorpus, WithText
from headstart.study.explain import nearest
from headstart.study.fields import Split


class CorpusError(HeadstartError):
    """A corpus that cannot be read at all. Rows that cannot be used are rejected instead, with a reason."""

    permanent = True


class CorpusFileError(CorpusError):
    """A file or folder of a corpus that is not there or cannot be read now, or that changed while it was read."""

    permanent = False


class AudioReference(NamedTuple):
    """Where the audio of an utterance is: a whole file, a stretch of one, or a row of a container; all of its channels
    or one of them.

    The manifest has these fields as `audio_path`, `offset_s`, `duration_s` and `channel`; `manifests.py` says how a row
    of a container is written into the path.
    """

    path: str  # relative to the reader's folder, or absolute
    offset_s: float = 0.0
    duration_s: float | None = None  # None: to the end of the file
    channel: int | None = None  # counted from 0; None: as the study says of recordings with several


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What a corpus says of one utterance. Empty ids, texts and audio are rejected by the shared code."""

    line: int  # line or row of the corpus's own file, or place among its utterances, counted from 1; for messages
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a reader expects, for `headstart corpora` and docs/corpora.md."""

    title: str  # what the corpus is, a few words without a full stop
    layout: str  # its files, as a small tree; indented as the code is
    example: str  # the keys of an entry of `corpora` beside `reader`, in YAML's flow style, without the braces
    source: str = ""  # where the corpus, or the description of its format, is found
    licence: str = ""
    notes: tuple[str, ...] = ()  # what the reader makes of the corpus's quirks, a sentence or more each

    @property
    def tree(self) -> str:
        """The layout without the indentation of the code."""
        return inspect.cleandoc(self.layout)


class Reader(ABC):
    """Base of the readers. The constructor opens no file.

    Args:
        settings: the corpus's section of the study.
        raw: folder of a corpus that the workflow makes itself. Recorded corpora name theirs in the settings.
    """

    section: ClassVar[type[WithText]]  # the model of the settings; its field `reader` holds the reader's name
    description: ClassVar[Description]
    settings: CommonSettings
    folder: Path  # audio paths are relative to it
    source: Path  # the file or folder that messages about the whole corpus name
    drawn_units = "speakers or sentences"  # what splits are drawn by, in a message
    split_advice: tuple[str, ...] = ()  # what a user can do, beside changing a share, where a drawn split stays empty

    @abstractmethod
    def __init__(self, settings: CommonSettings, raw: str | Path): ...

    @classmethod
    def name(cls) -> str:
        """The name by which a study asks for the reader."""
        return get_args(cls.section.model_fields["reader"].annotation)[0]

    @abstractmethod
    def check(self) -> None:
        """Raise `CorpusError` when the corpus is not where the settings say. Called before the workflow runs."""

    @abstractmethod
    def inputs(self) -> list[str]:
        """The files that are inputs of the job: when one of them changes, the corpus is read again."""

    @abstractmethod
    def audio_files(self) -> Iterable[str] | None:
        """The audio files that the corpus names, relative to `folder`; None where they change only with the inputs.

        Their sizes and times are looked up whenever the workflow is planned, so no audio is opened for it. A reader of
        more annotation files than a job should have inputs names them here instead.

        Raises:
            CorpusError, OSError: the corpus cannot be read. The job that reads it will say so.
        """

    @abstractmethod
    def utterances(self) -> Iterator[Utterance | Reject]:
        """The utterances in the order of the corpus, without those that the study leaves out.

        Raises:
            CorpusError: the corpus cannot be read at all.
        """


class RecordedReader(Reader):
    """Base of the readers of recorded corpora, which lie in a folder. A subclass defines what is abstract."""

    settings: RecordedCorpus
    annotations_advice = "set `path` of the corpus to the folder of this layout"  # where there are no annotations

    def __init__(self, settings: RecordedCorpus, raw: str | Path = ""):
        self.settings = settings
        self.folder = self.source = Path(settings.path)

    def annotations(self) -> list[Path]:
        """The files that hold transcripts, sorted, of all splits that the study uses. The folder exists."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `CorpusError` when the folder is missing or holds no annotation file."""
        self.check_folder()
        if not self.annotations():
            raise CorpusError(
                f"{self.folder}: no annotation file of a corpus for `reader: {self.name()}` was found in this folder; "
                f"{self.annotations_advice} (`headstart corpora {self.name()}` shows it)"
            )

    def check_folder(self) -> None:
        """Raise `CorpusError` when the folder is missing."""
        if not self.folder.is_dir():
            raise CorpusFileError(f"{self.folder}: no such corpus folder; set `path` of the corpus to where audio is")

    def inputs(self) -> list[str]:
        """The annotation files; the folder itself where it is missing."""
        found = self.annotations() if self.folder.is_dir() else []
        return [str(path) for path in found] or [str(self.folder)]

    def audio_files(self) -> Iterable[str]:
        """The audio of all utterances, each file once. A reader overrides this where a list of files is cheaper."""
        paths = (entry.audio.path.partition("#")[0] for entry in self.utterances() if entry.audio)
        return dict.fromkeys(paths)

    def split_of_file(self, name: str, where: str) -> Split | None:
        """Our split for a file whose name holds that of a split, such as `train_manifest` or `cuts_dev-clean`.

        The longest name in `splits` that stands alone in the file's counts; see `split`.
        """
        splits = self.settings.splits
        held = [own for own in splits if re.search(rf"(?<![A-Za-z0-9]){re.escape(own)}(?![A-Za-z0-9])", name)]
        return self.split(max(held, key=len, default=name), where)

    def split(self, name: str, where: str) -> Split | None:
        """Our split for the corpus's name of one; None where the study leaves it out.

        Args:
            where: file, with the line if it has lines, that names the split.

        Raises:
            CorpusError: the study's `splits` has no such name.
        """
        splits = self.settings.splits
        if name not in splits:
            raise CorpusError(
                f"{where}: split {name!r} is not in the corpus's `splits` mapping{nearest(name, list(splits))}; map it "
                "to train, dev, test or null"
            )
        return splits[name]
