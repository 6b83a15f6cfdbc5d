"""Sentence grammars: small YAML files (in `grammars/`) from which the sentences of synthetic corpora are drawn.

A grammar has two keys, and may have a third:

    patterns:                  # by matrix language (BCP 47); a sentence starts from one of these
      en: ["{subject} {sold} {goods} {where}", ...]
    slots:                     # name -> phrases; a phrase may contain {slots} itself
      subject: ["the {old} fisherman", "my sister", ...]
    words: [4, 9]              # fewest and most words of a sentence

`{slot}` is replaced by any phrase of the slot; everything else is words, in lower case without punctuation.
Agreement (case, gender, person) is written into the phrases, so that every phrase of a slot fits wherever the slot
is used. `{es:place}` uses a slot of the grammar `es`, and its words are tagged with that language; the code-switched
grammars are written this way. Every other word has the tag of its pattern's language.
"""

import functools
import re
from dataclasses import dataclass
from importlib import resources
from itertools import chain, groupby

import numpy as np
import yaml

WORDS = (4, 9)  # fewest and most in a sentence, where its grammar does not say: about two to five seconds of speech


@dataclass(frozen=True)
class Sentence:
    """Words with a language tag (BCP 47) each, and the matrix language of the sentence."""

    tokens: tuple[str, ...]
    token_languages: tuple[str, ...]
    language: str

    @property
    def text(self) -> str:
        return " ".join(self.tokens)

    def segments(self) -> list[tuple[str, str]]:
        """(language, text) of every maximal run of words in the same language, in order."""
        pairs = zip(self.token_languages, self.tokens, strict=True)
        runs = groupby(pairs, key=lambda pair: pair[0])
        return [(tag, " ".join(word for _, word in run)) for tag, run in runs]


class Grammar:
    """The grammar in one file; the module's docstring describes the format."""

    def __init__(
        self,
        name: str,
        patterns: dict[str, list[str]],
        slots: dict[str, list[str]],
        words: tuple[int, int] = WORDS,
    ) -> None:
        """Check and split patterns and phrases.

        Raises:
            ValueError: a slot is used but not defined; the message names the grammar and the slot.
        """
        self.name, self.words = name, words
        self.patterns = [(tag, row.split()) for tag, rows in patterns.items() for row in rows]
        self.slots = {slot: [phrase.split() for phrase in phrases] for slot, phrases in slots.items()}
        phrases = [phrase for rows in self.slots.values() for phrase in rows]
        for item in chain.from_iterable([row for _, row in self.patterns] + phrases):
            if item.startswith("{"):
                grammar, slot = self._resolve(item)
                if slot not in grammar.slots:
                    raise ValueError(f"grammar {name!r} uses {item}: no such slot in grammar {grammar.name!r}")

    def _resolve(self, item: str) -> tuple["Grammar", str]:
        """The grammar and slot name to which "{slot}" or "{language:slot}" refers."""
        match = re.fullmatch(r"\{(?:([\w-]+):)?(\w+)\}", item)
        if not match:
            raise ValueError(f"grammar {self.name!r}: {item!r} is neither a word nor a {{slot}}")
        language, slot = match.groups()
        return (load_grammar(language) if language else self), slot

    def sample(self, rng: np.random.Generator) -> Sentence:
        """Draw a sentence of a length that is allowed: a pattern, then a phrase for every slot, each uniformly."""
        pairs: list[tuple[str, str]] = []
        fewest, most = self.words
        while not fewest <= len(pairs) <= most:
            language, items = self.patterns[rng.integers(len(self.patterns))]
            pairs = self._expand(items, language, rng)
        return Sentence(tuple(word for word, _ in pairs), tuple(tag for _, tag in pairs), language)

    def _expand(self, items: list[str], language: str, rng: np.random.Generator) -> list[tuple[str, str]]:
        pairs = []
        for item in items:
            if not item.startswith("{"):
                pairs.append((item, language))
                continue
            grammar, slot = self._resolve(item)
            phrases = grammar.slots[slot]
            inner = language if grammar is self else grammar.name
            pairs += grammar._expand(phrases[rng.integers(len(phrases))], inner, rng)
        return pairs

    def vocabulary(self) -> dict[str, set[str]]:
        """Language -> every word that sentences can contain in this language."""
        words: dict[str, set[str]] = {}
        seen = set()
        stack = [(self, language, items) for language, items in self.patterns]
        while stack:
            grammar, language, items = stack.pop()
            for item in items:
                if not item.startswith("{"):
                    words.setdefault(language, set()).add(item)
                    continue
                target, slot = grammar._resolve(item)
                inner = language if target is grammar else target.name
                if (target.name, slot, inner) not in seen:
                    seen.add((target.name, slot, inner))
                    stack += [(target, inner, phrase) for phrase in target.slots[slot]]
        return words

    def count(self) -> int:
        """Number of ways to fill the patterns, that is, of sentences of any length."""
        return sum(self._count(items) for _, items in self.patterns)

    def _count(self, items: list[str]) -> int:
        total = 1
        for item in items:
            if item.startswith("{"):
                grammar, slot = self._resolve(item)
                total *= sum(grammar._count(phrase) for phrase in grammar.slots[slot])
        return total


def grammar_names() -> list[str]:
    """Names of the grammars in the package, sorted."""
    folder = resources.files("headstart.corpora.synthetic") / "grammars"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


@functools.cache
def load_grammar(name: str) -> Grammar:
    """Read a grammar of the package, such as "en" or "en-es".

    Raises:
        ValueError: there is no grammar of this name.
    """
    if name not in grammar_names():
        raise ValueError(f"no grammar named {name!r}; there are {', '.join(grammar_names())}")
    text = (resources.files("headstart.corpora.synthetic") / "grammars" / f"{name}.yaml").read_text(encoding="utf-8")
    raw = yaml.load(text, Loader=yaml.BaseLoader)  # reads everything as text, also the Turkish word "on"
    fewest, most = raw.get("words") or WORDS
    return Grammar(name, raw["patterns"], raw.get("slots") or {}, (int(fewest), int(most)))
