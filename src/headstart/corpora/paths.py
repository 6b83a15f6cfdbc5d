"""Where the audio of a corpus lies on disk: names in other Unicode forms are found, paths out of it refused."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from headstart.corpora.reader import CorpusError, Reader, Reject, Utterance


def located(reader: Reader) -> Iterator[Utterance | Reject]:
    """The utterances of a corpus, each with the path of its audio as it is written on disk.

    Raises:
        CorpusError: the corpus cannot be read, or names audio outside its folder where the study does not allow it.
    """
    folder = Folder(reader)
    for entry in reader.utterances():
        if isinstance(entry, Utterance) and (lost := DAMAGED.search(entry.text or "")):
            entry = _rejected(entry, f"damaged transcript: it holds U+{ord(lost[0]):04X}, the mark of a lost character")
        if entry.audio is not None:
            path = folder.on_disk(entry.audio.path)
            if isinstance(entry, Utterance):
                folder.check_inside(path, entry.line)
            if path != entry.audio.path:
                entry = replace(entry, audio=entry.audio._replace(path=path))
        yield entry


# What a transcript cannot hold unless characters were lost: zeros and other control characters, and U+FFFD, which
# stands for bytes that could not be decoded.
DAMAGED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ufffd]")


def _rejected(entry: Utterance, reason: str) -> Reject:
    known = {key: getattr(entry, key) for key in ("line", "utterance_id", "audio", "split", "draw_key")}
    return Reject(**known, reason=reason)


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
        """`path` as it is written on disk, where it differs in Unicode form, in case, or in the sign between folders.

        A corpus that was copied from a Mac has decomposed names (NFD), while its table may have composed ones (NFC), or
        the reverse; one that was made on Windows may have `CLIP.WAV` for `clip.wav`, and backslashes. A path that names
        nothing in any form is returned as it is.
        """
        if os.path.lexists(os.path.join(self.root, path)):
            return path
        name, sign, row = path.partition("#")
        for plain in dict.fromkeys((path, path.replace("\\", "/"))):
            if (found := self._found(plain)) is not None:
                return found
        if sign and (found := self._found(name)) is not None:  # a row of a container
            return found + sign + row
        return path

    def _found(self, path: str) -> str | None:
        found = "/" if os.path.isabs(path) else ""
        for part in filter(None, path.split("/")):
            if part not in (".", "..") and not os.path.lexists(os.path.join(self.root, found, part)):
                names = self._names(os.path.join(self.root, found))
                composed = unicodedata.normalize("NFC", part)
                part = names.get(composed) or names.get(composed.casefold())
                if part is None:
                    return None
            found = os.path.join(found, part)
        return found if os.path.lexists(os.path.join(self.root, found)) else None

    def check_inside(self, path: str, line: int) -> None:
        """Raise `CorpusError` when a path leads out of the folder, itself or by a link, unless the study allows it."""
        if self.outside or "\0" in path:  # no file can have that name
            return
        full = os.path.abspath(os.path.join(self.root, path))
        if "#" in path and not os.path.lexists(full):  # a row of a container
            full = full.rpartition("#")[0]
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
    """Forms of each name in a folder -> the name as it is on disk: composed, and in lower case if no two agree."""
    try:
        composed = {unicodedata.normalize("NFC", name): name for name in os.listdir(folder)}
    except (OSError, ValueError):
        return {}
    counts = Counter(name.casefold() for name in composed)
    lower = {name.casefold(): own for name, own in composed.items() if counts[name.casefold()] == 1}
    return {**lower, **composed}


def files_under(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Paths, relative to a folder, of the files in it and its subfolders whose names end in one of `suffixes`.

    Suffixes are compared in lower case. Links are followed, each folder once. Files and folders whose names begin with
    a dot are left out: Macs write files such as `._clip.wav` that hold no audio.
    """
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        inside = os.path.relpath(root, folder)
        for name in names:
            if name[0] != "." and os.path.splitext(name)[1].lower() in suffixes:
                found.append(os.path.normpath(os.path.join(inside, name)))
    return sorted(found)


def without_suffix(path: str) -> str:
    """A path without the suffix of its file: what two files of one recording have in common."""
    return os.path.splitext(path)[0]


def utterance_id(path: str, begin: float | None = None, end: float | None = None) -> str:
    """The id of an utterance that has none of its own: the path of its audio in the corpus without the suffix.

    A stretch of a recording also has its begin and end, in milliseconds.
    """
    name = unicodedata.normalize("NFC", without_suffix(os.path.normpath(path))) if path else ""
    times = [time for time in (begin, end) if time is not None]
    return "-".join([name, *(f"{round(1000 * time):07d}" for time in times if math.isfinite(time))])
