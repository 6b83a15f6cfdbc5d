"""Languages of words in code-switched text that has no tags: by script, or by word lists of monolingual text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import regex

from headstart.corpora.manifests import read_columns
from headstart.errors import DataError
from headstart.study.text import Text
from headstart.text.mixed import mixed_units
from headstart.text.normalisation import normalise, normalised_runs, transcript_rows
from headstart.text.scripts import scripts_of, shared_script

SCRIPT, WORDS = "script", "words"  # where tags come from: the `language_source` of a score file
ORDER = 5  # characters of an n-gram
STAY = 0.8  # probability that the next word is in the same language
LISTED = 0.9  # share of a word's probability that its language's word list has, the rest being its spelling's
MOST_SENTENCES = 50_000  # that are read of a language
HELD_OUT = 10  # every tenth sentence measures the accuracy
BEGIN, END = "\x02", "\x03"


class ScriptLanguages:
    """Tags words by the script that most of their letters are in.

    Args:
        languages: BCP 47 tags of languages that share no script.
    """

    source = SCRIPT

    def __init__(self, languages: Iterable[str]):
        self.languages = list(languages)
        self._letters = {
            language: regex.compile("|".join(rf"\p{{{script}}}" for script in scripts_of(language)))
            for language in self.languages
        }

    def tag(self, words: Sequence[str]) -> list[str]:
        """The language of each word of a sentence.

        A word in no script of the languages, such as a number, has that of the word before it; at the beginning, of the
        first word that has one.
        """
        own = [self._language(word) for word in words]
        before = next(filter(None, own), self.languages[0])
        tags = []
        for tag in own:
            before = tag or before
            tags.append(before)
        return tags

    def _language(self, word: str) -> str | None:
        counts = {language: len(letters.findall(word)) for language, letters in self._letters.items()}
        language = max(counts, key=counts.__getitem__)
        return language if counts[language] else None


class WordLanguages:
    """Tags words by lists of the words of each language, and by spelling where a word is in none of them.

    Words are mixed units (`headstart.text.mixed`), as in sentences that mix scripts with and without spaces. A word's
    probability in a language mixes its relative frequency in the list with that of its spelling, an n-gram model of
    characters with Witten-Bell smoothing (Witten and Bell 1991, IEEE Trans. Information Theory 37) that is trained on
    the list's distinct words. The tags of a sentence are the most probable sequence (Viterbi) where a language is kept
    with probability `STAY`, so that a word that exists in both languages gets that of its neighbours.
    """

    source = WORDS

    def __init__(self, lists: Mapping[str, Counter[str]]):
        self.languages = list(lists)
        self._lists = lists
        self._totals = {language: words.total() for language, words in lists.items()}
        self._spelling = {language: _Spelling(words) for language, words in lists.items()}
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def train(cls, texts: Mapping[str, Iterable[str]]) -> WordLanguages:
        """Learn the words of at least two languages.

        Args:
            texts: normalised monolingual sentences by language.

        Raises:
            DataError: a language has no word.
        """
        lists = {
            language: Counter(word for text in own for word in mixed_units(text)) for language, own in texts.items()
        }
        if empty := [language for language, words in lists.items() if not words]:
            raise DataError(
                f"no text in {' and '.join(empty)}, so that its words cannot be told from those of other languages; "
                "name a corpus with training transcripts in that language"
            )
        return cls(lists)

    def tag(self, words: Sequence[str]) -> list[str]:
        """The most probable language of each word of a sentence in normalised spelling."""
        if not words:
            return []
        change = math.log((1 - STAY) / max(1, len(self.languages) - 1))
        change_LL = np.full((len(self.languages), len(self.languages)), change)  # from a language (row) to the next
        np.fill_diagonal(change_LL, math.log(STAY))
        best_L, origins = self._scores(words[0]), []
        for word in words[1:]:
            paths_LL = best_L[:, None] + change_LL
            origins.append(paths_LL.argmax(0))
            best_L = paths_LL.max(0) + self._scores(word)
        path = [int(best_L.argmax())]
        for origin_L in reversed(origins):
            path.append(int(origin_L[path[-1]]))
        return [self.languages[place] for place in reversed(path)]

    def _scores(self, word: str) -> np.ndarray:
        """Log probability of a word in each language, shape (L,)."""
        if word not in self._known:
            listed = [self._lists[language][word] / self._totals[language] for language in self.languages]
            spelt = [self._spelling[language].probability(word) for language in self.languages]
            self._known[word] = np.log(LISTED * np.array(listed) + (1 - LISTED) * np.array(spelt))
        return self._known[word]


class _Spelling:
    """A character n-gram model of the distinct words of a language."""

    def __init__(self, words: Iterable[str]):
        self._followers: dict[str, Counter[str]] = defaultdict(Counter)
        for word in words:
            letters = BEGIN + word + END
            for place in range(1, len(letters)):
                for length in range(min(ORDER, place + 1)):
                    self._followers[letters[place - length : place]][letters[place]] += 1
        self._totals = {context: counts.total() for context, counts in self._followers.items()}

    def probability(self, word: str) -> float:
        """Probability of a word's spelling, at least 1e-300."""
        letters, result = BEGIN + word + END, 1.0
        for place in range(1, len(letters)):
            result *= self._next(letters[max(0, place - ORDER + 1) : place], letters[place])
        return max(result, 1e-300)

    def _next(self, context: str, letter: str) -> float:
        value = 1e-4  # of a character that the language never has
        for length in range(len(context) + 1):
            own = context[len(context) - length :]
            if own not in self._followers:
                break
            counts = self._followers[own]
            value = (counts[letter] + len(counts) * value) / (self._totals[own] + len(counts))
        return value


def tagger(texts: Mapping[str, Iterable[str]]) -> ScriptLanguages | WordLanguages:
    """What tags the words of some languages: their scripts where these differ, otherwise lists of their words.

    Args:
        texts: normalised monolingual sentences by BCP 47 tag of the language; they are not read where scripts differ.

    Raises:
        DataError: languages share a script, and one of them has no text.
    """
    return ScriptLanguages(texts) if shared_script(texts) is None else WordLanguages.train(texts)


def accuracy(tags: ScriptLanguages | WordLanguages, sentences: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Share of words that get the right tag, NaN without words.

    Args:
        sentences: words with the tag of each; words with a tag of another language than those of `tags` do not count,
            but are seen.
    """
    right = total = 0
    for words, known in sentences:
        for found, tag in zip(tags.tag(words), known, strict=True):
            if tag in tags.languages:
                right += found == tag
                total += 1
    return right / total if total else math.nan


def held_out_accuracy(texts: Mapping[str, Iterable[str]]) -> float:
    """The accuracy of word lists on every tenth sentence of their text, which they then are not made from.

    Each word counts alone, without its neighbours, which are all in one language here: code-switched text would be
    easier by them, and harder by words that only it has. NaN where a language has too little text to hold some out.
    """
    read = {language: list(own) for language, own in texts.items()}
    kept = {language: [text for i, text in enumerate(own) if i % HELD_OUT] for language, own in read.items()}
    if not all(any(own) for own in kept.values()):
        return math.nan
    held = [
        (word, language) for language, own in read.items() for text in own[::HELD_OUT] for word in mixed_units(text)
    ]
    return accuracy(WordLanguages.train(kept), (([word], [language]) for word, language in held))


def measured(
    made: ScriptLanguages | WordLanguages,
    texts: Mapping[str, Sequence[str]],
    rows: Iterable[Sequence[Any]],
    settings: Text,
) -> tuple[float, str]:
    """The accuracy of tags, and in words on what it was measured.

    Args:
        texts: that the languages' words were learnt from.
        rows: of the columns `TRANSCRIPT`, of transcripts in these languages. Where the corpus has tags, they are the
            measure; otherwise held-out sentences of `texts` are. Tags by script can be measured by the former only.
    """
    runs = (normalised_runs(text, settings, *facts) for text, *facts in rows if text)
    tagged = [([word for _, word in own], [tag for tag, _ in own]) for own in runs if own]
    share = accuracy(made, tagged)
    if not math.isnan(share):
        return share, "the words that the corpus tags"
    if isinstance(made, WordLanguages):
        return held_out_accuracy(texts), "single words of held-out sentences in one language"
    return math.nan, "nothing, because the corpus has no tags"


def monolingual(languages: Mapping[str, str | None], settings: Text) -> dict[str, list[str]]:
    """Normalised transcripts by language.

    Args:
        languages: language -> a manifest with transcripts in it; None for one that its script tells apart.
    """
    texts = {}
    for language, manifest in languages.items():
        rows = [] if manifest is None else read_columns(manifest, None, ["text"])["text"].to_pylist()[:MOST_SENTENCES]
        texts[language] = [normalise(text, settings, language) for text in rows if text]
    return texts


def describe_languages(
    languages: Mapping[str, Mapping[str, str | None]], tests: Mapping[str, str], settings: Text
) -> list[dict[str, Any]]:
    """One row for each target whose words are tagged by inference, for the report.

    Args:
        languages: target -> what `monolingual` takes; a target without languages has no row.
        tests: target -> the manifest of its test split.

    Returns:
        Rows of `target`, `languages`, `source`, `accuracy` (None where nothing measures it) and `measured_on`.
    """
    rows = []
    for target, own in languages.items():
        if own:
            texts = monolingual(own, settings)
            made = tagger(texts)
            share, where = measured(made, texts, transcript_rows(tests[target]), settings)
            row = {"target": target, "languages": list(own), "source": made.source}
            rows.append({**row, "accuracy": None if math.isnan(share) else share, "measured_on": where})
    return rows
