"""Profiles: the settings by which transcripts in one language are normalised, prepared for use."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import regex

from headstart.study.text import Text
from headstart.text.apostrophes import apostrophes_folded

# Languages whose capital of ı is I.
DOTLESS = ("tr", "tur", "az", "aze", "crh", "gag", "kk-latn", "tt-latn")
MOST_PROFILES = 64  # objects of settings that are remembered


class Profile(NamedTuple):
    """How transcripts in one language are normalised.

    Attributes:
        keep: marks that are spelt.
        lowercase: whether letters become lower case.
        dotless: whether I becomes ı then, and İ becomes i.
        drops_tags: whether non-speech tags are dropped.
        replace: makes the replacements of `text.map`; None without any.
    """

    keep: frozenset[str]
    lowercase: bool
    dotless: bool
    drops_tags: bool
    replace: Callable[[str], str] | None


_PROFILES: dict[int, tuple[Text, dict[str, Profile]]] = {}


def profile_of(settings: Text, language: str) -> Profile:
    """The settings of a language, prepared once for each object of settings, which does not change."""
    if id(settings) not in _PROFILES:
        if len(_PROFILES) >= MOST_PROFILES:
            _PROFILES.clear()
        _PROFILES[id(settings)] = settings, {}  # held, so that no other object gets this id
    _, profiles = _PROFILES[id(settings)]
    if language not in profiles:
        own = settings.of(language)
        table = {apostrophes_folded(unicodedata.normalize("NFC", key)): value for key, value in own.map.items()}
        longest_first = regex.compile("|".join(map(regex.escape, sorted(table, key=len, reverse=True))))
        profiles[language] = Profile(
            keep=frozenset(apostrophes_folded(own.keep)),
            lowercase=own.lowercase,
            dotless=f"{language.lower().replace('_', '-')}-".startswith(tuple(f"{tag}-" for tag in DOTLESS)),
            drops_tags=own.tags == "drop",
            replace=(lambda text: longest_first.sub(lambda match: table[match[0]], text)) if table else None,
        )
    return profiles[language]
