"""Tokens of code-switched text, tagged by the script of their letters: for languages that share no script."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

import regex

from headstart.text.scripts import scripts_of
from headstart.text.tags import NO_SPEECH, UNDETERMINED

_WORD = regex.compile(r"\[[^\[\]]*\]|<[^<>]*>|\([^()]*\)|\{[^{}]*\}|[^\s\[<({]+|\S")  # tags in brackets are one token
_BRACKETED = regex.compile(r"[\[<({].*[\]>)}]", flags=regex.DOTALL)
_LETTER = regex.compile(r"\p{L}")
_SPELT = regex.compile(r"[\p{L}\p{N}]")


def tokens_by_script(text: str, languages: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The tokens of a text, and the language of each: words, in parts where the script changes within one.

    Tags in brackets, numbers and letters of other scripts are tagged as undetermined, other signs as no speech.

    Args:
        languages: BCP 47 tags of languages that share no script.
    """
    pairs = [pair for word in _WORD.findall(text) for pair in _parts(word, languages)]
    return [token for token, _ in pairs], [tag for _, tag in pairs]


@lru_cache(maxsize=1 << 16)  # most words of a corpus are repeated
def _parts(word: str, languages: tuple[str, ...]) -> list[tuple[str, str]]:
    """The parts of a word, each with its language."""
    if _BRACKETED.fullmatch(word):
        return [(word, UNDETERMINED)]
    own = [_language(letter, languages) for letter in word]
    if not any(own):
        return [(word, UNDETERMINED if _SPELT.search(word) else NO_SPEECH)]
    before = next(filter(None, own))  # what has no letter belongs to the part before it
    for place, language in enumerate(own):
        before = own[place] = language or before
    groups = groupby(range(len(word)), key=own.__getitem__)
    return [("".join(word[place] for place in places), language) for language, places in groups]


@lru_cache(maxsize=1 << 12)
def _language(letter: str, languages: tuple[str, ...]) -> str | None:
    """The language of a letter; None of a sign or a number."""
    if not _LETTER.match(letter):
        return None
    scripts = {script: language for language in languages for script in scripts_of(language)}
    own = (language for script, language in scripts.items() if regex.match(rf"\p{{{script}}}", letter))
    return next(own, UNDETERMINED)
