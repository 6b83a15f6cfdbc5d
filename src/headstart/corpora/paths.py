"""Where the audio of a corpus lies on disk: names in other Unicode forms are found, paths out of it refused."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from headstart.corpora.reader import CorpusError, Reader, Reject, Utterance


def located(reader: Reader) -> Iterator[Utterance | Reject]:
    """The utterances of a corpus, each with the path of its audio as it is written on disk.

    Raises:
        CorpusError: the corpus cannot be read, or names audio outside its folder where the study does not allow it.
    """
    folder = Folder(reader)
    for entry in reader.utterances():
        if entry.audio is not None:
            path = folder.on_disk(entry.audio.path)
            if isinstance(entry, Utterance):
                folder.check_inside(path, entry.line)
            if path != entry.audio.path:
                entry = replace(entry, audio=entry.audio._replace(path=path))
        yield entry


class Folder:
    """The folder of a corpus, as its reader names files in it."""

    def __init__(self, reader: Reader):
        self.reader = reader
        self.root = os.path.abspath(reader.folder)
        self.real = os.path.realpath(self.root)
        self.outside = getattr(reader.settings, "outside", True)
        self._names = lru_cache(maxsize=256)(_names)
        self._inside = lru_cache(maxsize=4096)(lambda folder: _within(os.path.realpath(folder), self.real))

    def on_disk(self, path: str) -> str:
        """`path` in the Unicode form in which the file's name is written on disk.

        A corpus that was copied from a Mac has decomposed names (NFD), while its table may have composed ones (NFC),
        or the reverse. A path that names nothing in any form is returned as it is, and so is one in plain ASCII.
        """
        name, sign, row = path.partition("#")
        if path.isascii() or os.path.lexists(os.path.join(self.root, path)):
            return path
        if not os.path.lexists(os.path.join(self.root, name)):
            name, sign, row = path, "", ""
        found = "/" if os.path.isabs(name) else ""
        for part in filter(None, name.split("/")):
            if part not in (".", "..") and not os.path.lexists(os.path.join(self.root, found, part)):
                folder = os.path.join(self.root, found)
                part = self._names(folder).get(unicodedata.normalize("NFC", part), part)
            found = os.path.join(found, part)
        return found + sign + row if os.path.lexists(os.path.join(self.root, found)) else path

    def check_inside(self, path: str, line: int) -> None:
        """Raise `CorpusError` when a path leads out of the folder, itself or by a link, unless the study allows it."""
        if self.outside or "\0" in path:  # no file can have that name
            return
        full = os.path.abspath(os.path.join(self.root, path))
        if not _within(full, self.root):
            problem = "lies outside the corpus folder"
        elif not self._leads_inside(full):
            problem = f"is reached by a link that leads out of the corpus folder, to {os.path.realpath(full)}"
        else:
            return
        raise CorpusError(
            f"{self.reader.source}, line {line}: {path!r} {problem}. Put the audio into the folder, or set "
            "`outside: true` of the corpus if it may be read from elsewhere"
        )

    def _leads_inside(self, path: str) -> bool:
        """Whether no link leads out. Folders are looked up once for all their files."""
        if not self._inside(os.path.dirname(path)):
            return False
        return not os.path.islink(path) or _within(os.path.realpath(path), self.real)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _names(folder: str) -> dict[str, str]:
    """The composed form (NFC) of each name in a folder -> the name as it is on disk."""
    try:
        return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder)}
    except (OSError, ValueError):
        return {}
