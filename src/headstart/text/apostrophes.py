"""Apostrophes: one character for all their spellings, and none where the mark is a quotation mark."""

from __future__ import annotations

import regex

# Characters that are apostrophes in some texts and single quotation marks in others, by keyboard and habit: the typed
# one, U+2018, U+2019, U+201B, the grave and acute accents, and the fullwidth one.
_EITHER = "'‘’‛`´＇"
_ONLY_QUOTE = "‚"  # U+201A, which U+2018 closes in German
# Letters and signs that people write for an apostrophe, or an apostrophe for them: U+02B9, U+02BB (Uzbek, Hawaiian),
# U+02BC, U+02BD, the saltillo of Mexico, the Armenian apostrophe, the Hebrew geresh, primes, the Greek koronis and
# smooth breathing as characters of their own. They never quote.
_ONLY_APOSTROPHES = "ʹʻʼʽꞋꞌ՚׳′‵᾽᾿"
_MARKS = f"[{_EITHER}{_ONLY_QUOTE}{_ONLY_APOSTROPHES}]"
_MARK = regex.compile(_MARKS)
_WORD = r"[\p{L}\p{M}\p{N}]"
# Other punctuation may stand between a quotation mark and its word: '¿qué?'
_BETWEEN = rf"[^\p{{L}}\p{{M}}\p{{N}}\s{_EITHER}]*"
_OPENING = regex.compile(rf"(?<!{_WORD}{_MARKS}*)[{_EITHER}{_ONLY_QUOTE}](?={_BETWEEN}{_WORD})")
_CLOSING = regex.compile(rf"(?<={_WORD}{_BETWEEN})[{_EITHER}](?!{_MARKS}*{_WORD})")
_SPELT = str.maketrans(dict.fromkeys(_EITHER + _ONLY_APOSTROPHES, "'") | {_ONLY_QUOTE: " "})


def fold_apostrophes(text: str) -> str:
    """The text with `'` for every apostrophe, and spaces for single quotation marks. Its length stays the same.

    A mark inside a word is an apostrophe. A mark at the beginning of a word and a later one at the end of a word are a
    pair of quotation marks, as brackets would be; alone, either is an apostrophe (`'tis`, `dogs'`).
    """
    if not _MARK.search(text):
        return text
    opened, quotes = [], []
    for match in _MARK.finditer(text):
        place = match.start()
        if opened and _CLOSING.match(text, place):
            quotes += [opened.pop(), place]
        elif _OPENING.match(text, place):
            opened.append(place)
    characters = list(text.translate(_SPELT))
    for place in quotes:
        characters[place] = " "
    return "".join(characters)


def apostrophes_folded(characters: str) -> str:
    """A list of characters in which every spelling of the apostrophe is `'`."""
    return characters.translate(_SPELT)
