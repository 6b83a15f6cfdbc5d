"""The language of each word of a reference, from the tags of the corpus's tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from headstart.text.mixed import mixed_units

SEVERAL = "mul"  # BCP 47: several languages; the tag of a word whose parts have different ones


@lru_cache(maxsize=1 << 16)
def _units(word: str) -> tuple[str, ...]:
    return tuple(mixed_units(word))


def units_of(words: Iterable[str]) -> list[str]:
    """The mixed units of a text, given its words."""
    return [unit for word in words for unit in _units(word)]


def tag_words(
    words: Sequence[str], tokens: Sequence[str], tags: Sequence[str]
) -> tuple[list[str] | None, list[str] | None]:
    """The language tags of words, and of their mixed units.

    Tokens need not be words: in Chinese they often are characters or words that no space separates. What must agree are
    the mixed units of both, in order.

    Args:
        words: of a normalised reference.
        tokens: of the same text, normalised as it is; one without words may be empty, one with a hyphen may have two.
        tags: one for each token.

    Returns:
        A tag for each word, `mul` where its parts have different ones; and a tag for each mixed unit. Both are None
        where the tokens are not those of the reference.
    """
    units, unit_tags = [], []
    for token, tag in zip(tokens, tags, strict=True):
        own = units_of(token.split())
        units += own
        unit_tags += [tag] * len(own)
    if units != units_of(words):
        return None, None
    word_tags, done = [], 0
    for word in words:
        end = done + len(_units(word))
        kinds = set(unit_tags[done:end])
        word_tags.append(kinds.pop() if len(kinds) == 1 else SEVERAL)
        done = end
    return word_tags, unit_tags
