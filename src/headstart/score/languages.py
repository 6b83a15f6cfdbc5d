"""The language of each word of a reference, from the tags of the corpus's tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from headstart.text.mixed import mixed_units
from headstart.text.tags import NO_LANGUAGE, SEVERAL


@lru_cache(maxsize=1 << 16)
def _units(word: str) -> tuple[str, ...]:
    return tuple(mixed_units(word))


def units_of(words: Sequence[str]) -> list[str]:
    """The mixed units of a text, given its words."""
    if "".join(words).isascii():  # which is quick to see
        return list(words)
    return [unit for word in words for unit in _units(word)]


def tag_words(
    words: Sequence[str], runs: Sequence[tuple[str, str]], neutral: Collection[str] = NO_LANGUAGE
) -> tuple[list[str], list[str]]:
    """The language tags of words, and of their mixed units.

    Args:
        words: of a reference.
        runs: tags, each with a part of a word; together the parts are the words without spaces.
        neutral: tags of no language.

    Returns:
        A tag for each word and a tag for each mixed unit: that of its parts, those of no language aside, or `mul` if
        they have several.

    Raises:
        ValueError: the parts are not the words.
    """
    tags, parts = [tag for tag, _ in runs], [part for _, part in runs]
    if "".join(parts) != "".join(words):
        raise ValueError(f"tagged {' '.join(parts)!r} is not {' '.join(words)!r}")
    of_characters = [tag for tag, part in runs for _ in part]
    word_tags = tags if parts == list(words) else _tags_of(words, of_characters, neutral)
    units = units_of(words)
    return word_tags, word_tags if units == list(words) else _tags_of(units, of_characters, neutral)


def _tags_of(tokens: Iterable[str], tags: Sequence[str], neutral: Collection[str]) -> list[str]:
    """The tag of each token, given one for each of their characters."""
    result, done = [], 0
    for token in tokens:
        own = set(tags[done : done + len(token)])
        own = own.difference(neutral) or own
        result.append(own.pop() if len(own) == 1 else SEVERAL)
        done += len(token)
    return result
