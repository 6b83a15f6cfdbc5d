"""Recordings of a corpus whose files of labels do not say, or not reliably, which recording they belong to."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

from headstart.audio.suffixes import AUDIO
from headstart.corpora.paths import without_suffix


class Recordings:
    """Finds the recording of a file of labels.

    Args:
        names: paths of recordings, relative to the corpus folder. Of a recording in several formats, only the best is
            used.
        audio: the folder in which recordings lie, relative to that of the corpus, if they are not beside their labels.
    """

    def __init__(self, names: list[str], audio: str | None = None):
        self.names, self.audio = names, audio
        rank = {suffix: place for place, suffix in enumerate(AUDIO)}
        best = sorted(names, key=lambda name: rank[os.path.splitext(name)[1].lower()], reverse=True)
        self.by_path = {_plain(without_suffix(name)): name for name in best}
        self.by_name: dict[str, list[str]] = {}
        for name in self.by_path.values():
            self.by_name.setdefault(_plain(without_suffix(os.path.basename(name))), []).append(name)

    def beside(self, stem: str) -> str | None:
        """The recording with this path, but for its suffix, its case and its Unicode form."""
        return self.by_path.get(_plain(stem))

    def of(self, path: str, media: Sequence[str] = ()) -> str | None:
        """Path of the recording of a file of labels, relative to the corpus folder.

        It is the one with the same name beside it or in the folder of recordings; else one that the file names; else
        the only one of that name anywhere. None where none is found, or several may be meant.

        Args:
            path: the file of labels, relative to the corpus folder.
            media: names of recordings in the file of labels, in order of preference.
        """
        stem = without_suffix(path)
        if self.audio is not None:
            within = os.path.normpath(os.path.join(self.audio, stem))
            beside = os.path.normpath(os.path.join(self.audio, os.path.basename(stem)))
            for place in (within, beside):
                if found := self.beside(place):
                    return found
        if found := self.beside(stem):
            return found
        candidates = []
        for name in media:
            name = os.path.basename(name.replace("\\", "/"))
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if found := self.beside(without_suffix(beside)):
                return found
            candidates += self.by_name.get(_plain(without_suffix(name)), [])
        candidates = candidates or self.by_name.get(_plain(os.path.basename(stem)), [])
        return candidates[0] if len(set(candidates)) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
