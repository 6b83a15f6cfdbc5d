"""Readers of corpora with a known layout, of which users name one folder or another as `path`."""

from __future__ import annotations

import logging
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from headstart.audio.suffixes import AUDIO
from headstart.corpora.reader import CorpusError, RecordedReader, Reject, Utterance
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.fields import Split

log = logging.getLogger(__name__)

DEPTH = 3  # folders that the corpus may lie below `path`


class RootedReader(RecordedReader):
    """Base of readers that find the folder of the corpus at `path` or below it.

    Archives unpack into folders of folders, so that `path` may be the folder of the corpus, or one that it was unpacked
    in. A subclass defines `is_root`, and `annotations` and `entries` by `root`.
    """

    contents: ClassVar[str]  # what the folder of the corpus contains, for messages
    # What no transcript holds, such as an id: where one does, a line lost its end, and the next is part of it.
    next_line: ClassVar[re.Pattern[str] | None] = None

    @abstractmethod
    def is_root(self, folder: Path) -> bool:
        """Whether a folder is that of the corpus, by the names of what is in it."""

    @abstractmethod
    def entries(self) -> Iterator[Utterance | Reject]:
        """The utterances in the order of the corpus, with transcripts whether or not the study wants them.

        Raises:
            CorpusError: the corpus cannot be read at all.
        """

    def is_meant(self, folder: Path) -> bool:
        """Whether the study asks for this folder where several corpora lie below `path`, such as one a language."""
        return True

    @cached_property
    def root(self) -> Path:
        """The folder of the corpus.

        Raises:
            CorpusError: there is none at or below `path`, or several.
        """
        self.check_folder()
        level = [self.folder]
        for _ in range(DEPTH + 1):
            if found := [folder for folder in level if self.is_root(folder)]:
                return self._only(found)
            level = [folder for parent in level for folder in folders(parent)]
        for parent in self.folder.absolute().parents[:DEPTH]:
            if self.is_root(parent):
                raise CorpusError(
                    f"{self.folder}: a folder inside the corpus; set `path` of the corpus to {parent}, which contains "
                    f"{self.contents}"
                )
        raise CorpusError(
            f"{self.folder}: no folder here contains {self.contents}; set `path` of the corpus to the one that does, "
            f"or to one that it was unpacked in (`headstart corpora {self.name()}` shows the layout)"
        )

    def _only(self, found: list[Path]) -> Path:
        meant = found if len(found) == 1 else [folder for folder in found if self.is_meant(folder)]
        if len(meant) != 1:
            names = ", ".join(sorted(self.relative(folder) for folder in meant or found))
            raise CorpusError(f"{self.folder}: several folders contain {self.contents}: {names}; set `path` to one")
        return meant[0]

    def utterances(self) -> Iterator[Utterance | Reject]:
        """The utterances, without transcripts where the study says `transcripts: false`."""
        for entry in self.entries():
            if isinstance(entry, Utterance) and self.next_line and (found := self.next_line.search(entry.text or "")):
                entry = Reject(
                    line=entry.line,
                    reason=f"two lines in one: the transcript holds {found[0]!r}",
                    utterance_id=entry.utterance_id,
                    audio=entry.audio,
                    split=entry.split,
                )
            if isinstance(entry, Utterance) and not self.settings.transcripts:
                entry = replace(entry, text=None, tokens=None, token_languages=None)
            yield entry

    def check(self) -> None:
        """Raise `CorpusError` when there is no corpus at or below `path`, or nothing of it is used."""
        self.check_folder()
        if not self.annotations():
            raise CorpusError(f"{self.root}: the study's `splits` uses nothing that is there")

    def inputs(self) -> list[str]:
        """The annotation files; the folder where the corpus is not found, which `check` says."""
        try:
            return super().inputs()
        except CorpusError:
            return [str(self.folder)]

    def used(self, found: Iterable[str]) -> dict[str, Split]:
        """The splits that the study uses, by the corpus's own names.

        Args:
            found: names of the corpus's splits that are there.

        Raises:
            CorpusError: a split is not in the study's `splits`, or one that the study itself names there is missing.
        """
        found = list(found)
        ours = {name: self.split(name, str(self.root)) for name in found}
        if self.settings.splits != type(self.settings).model_fields["splits"].default:
            missing = [name for name, split in self.settings.splits.items() if split and name not in ours]
            if missing:
                raise CorpusError(
                    f"{self.root}: `splits` uses {', '.join(missing)}, but the corpus has only {', '.join(found)} here"
                )
        return {name: split for name, split in ours.items() if split}

    def relative(self, path: Path) -> str:
        """A path below `path` as utterances name audio."""
        return path.relative_to(self.folder).as_posix()


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except PermissionError:
        return []
    return [folder / name for name in sorted(names)]


def audio_by_stem(folder: Path, deep: bool = False) -> dict[str, Path]:
    """The audio files of a folder by their names without suffix, sorted; none where there is no such folder.

    Of files in the same folder whose names differ in the suffix only, the first by `AUDIO` counts.

    Args:
        deep: whether files in folders of it count too.

    Raises:
        CorpusError: two files in different folders have the same name.
    """
    found: dict[str, Path] = {}
    for parent, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if deep and not name.startswith("."))
        split = [(*os.path.splitext(name), name) for name in names if not name.startswith(".")]
        ranks = [(AUDIO.index(suffix.lower()), stem, name) for stem, suffix, name in split if suffix.lower() in AUDIO]
        own: dict[str, Path] = {}
        for _, stem, name in sorted(ranks):
            own.setdefault(stem, Path(parent, name))
        if twice := found.keys() & own.keys():
            stem = min(twice)
            raise CorpusError(
                f"{found[stem]} and {own[stem]} have the same name; which of them has the transcript cannot be told, "
                "so move one of them out of the corpus"
            )
        found |= own
    return dict(sorted(found.items()))


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without blank ones and without spaces around them.

    Raises:
        CorpusError: see `read_text`.
    """
    text = read_text(path)
    says_its_end(path, text)
    if not text.strip():
        log.warning("%s: empty", path)
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.strip():
            yield number, line
