"""The language of each word of a reference, from the tags of the corpus's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.text.mixed import mixed_units

SEVERAL = "mul"  # BCP 47: several languages; the tag of a word whose parts have different ones


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
        own = mixed_units(token)
        units += own
        unit_tags += [tag] * len(own)
    by_word = [mixed_units(word) for word in words]
    if units != [unit for own in by_word for unit in own]:
        return None, None
    word_tags, done = [], 0
    for own in by_word:
        kinds = set(unit_tags[done : done + len(own)])
        word_tags.append(kinds.pop() if len(kinds) == 1 else SEVERAL)
        done += len(own)
    return word_tags, unit_tags
