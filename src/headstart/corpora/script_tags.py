"""Tokens of code-switched text, tagged by the script of their letters: for languages that share no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import regex

from headstart.text.scripts import scripts_of
from headstart.text.tags import NO_SPEECH, UNDETERMINED

_WORD = regex.compile(r"\[[^\[\]]*\]|<[^<>]*>|\([^()]*\)|\{[^{}]*\}|[^\s\[<({]+|\S")  # tags in brackets are one token
_BRACKETED = regex.compile(r"[\[<({].*[\]>)}]", flags=regex.DOTALL)
_LETTER = regex.compile(r"\p{L}")
_SPELT = regex.compile(r"[\p{L}\p{N}]")


def tokens_by_script(text: str, languages: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tokens of a text, and the language of each: words, in parts where the script changes within one.

    Tags in brackets, numbers and letters of other scripts are tagged as undetermined, other signs as no speech.

    Args:
        languages: BCP 47 tags of languages that share no script.
    """
    scripts = {script: language for language in languages for script in scripts_of(language)}
    letters = {language: regex.compile("|".join(rf"\p{{{s}}}" for s in scripts if scripts[s] == language))
               for language in languages}  # fmt: skip
    pairs = [pair for word in _WORD.findall(text) for pair in _parts(word, letters)]
    return [token for token, _ in pairs], [tag for _, tag in pairs]


def _parts(word: str, letters: dict[str, regex.Pattern[str]]) -> Iterator[tuple[str, str]]:
    """The parts of a word, each with its language."""
    if _BRACKETED.fullmatch(word):
        yield word, UNDETERMINED
        return
    own = [_language(letter, letters) for letter in word]
    if not any(own):
        yield word, UNDETERMINED if _SPELT.search(word) else NO_SPEECH
        return
    before = next(filter(None, own))  # what has no letter belongs to the part before it
    for place, language in enumerate(own):
        before = own[place] = language or before
    for language, places in groupby(range(len(word)), key=own.__getitem__):
        yield "".join(word[place] for place in places), language


def _language(letter: str, letters: dict[str, regex.Pattern[str]]) -> str | None:
    if not _LETTER.match(letter):
        return None
    return next((language for language, own in letters.items() if own.match(letter)), UNDETERMINED)
