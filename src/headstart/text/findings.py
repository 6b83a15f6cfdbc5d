"""What normalisation met in transcripts and did not pass on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import regex

_SPELT = regex.compile(r"[\p{L}\p{M}\p{N}]")


@dataclass
class Findings:
    """What normalisation met in some transcripts, by how often.

    Attributes:
        dropped: characters that are gone.
        joined: those of them inside a word that stayed one word, such as the mark of `col·legi`.
        split: those of them that split a word in two, such as the hyphen of `e-mail`.
        tags: non-speech tags of which the words were kept.
        tags_dropped: those that were dropped.
        mismatched: utterances with language tags whose tokens are not those of the transcript.
        examples: for each character of `joined` and `split`, a place where it stood.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    joined: Counter[str] = field(default_factory=Counter)
    split: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    tags_dropped: Counter[str] = field(default_factory=Counter)
    mismatched: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def note(self, text: str, place: int, inside: bool) -> None:
        """Count the mark at a place of a text, which is dropped; `inside` a word that stays one word or elsewhere."""
        mark = text[place]
        self.dropped[mark] += 1
        if inside or (_SPELT.match(text[place - 1 : place]) and _SPELT.match(text[place + 1 : place + 2])):
            (self.joined if inside else self.split)[mark] += 1
            if mark not in self.examples:
                self.examples[mark] = regex.search(r"\S*$", text[:place])[0] + regex.match(r"\S*", text[place:])[0]
