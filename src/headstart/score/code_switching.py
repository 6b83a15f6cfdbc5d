"""How much transcripts mix languages, and what kinds of errors hypotheses have, beyond the error rates of `metrics`.

The indices take language tags, a list for each utterance. Tags of no language are removed first. Utterances are never
joined: the end of one and the beginning of the next are no switch of language, and a stretch of one language ends with
its utterance. docs/scoring.md has the formulas and their sources.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby, pairwise

import numpy as np

from headstart.score.alignment import SUBSTITUTION, EditCounts, steps
from headstart.score.score_table import ScoreTable, suffix
from headstart.text.tags import NO_LANGUAGE

Tags = Sequence[Sequence[str] | None]
CMI_EDGES = (0.0, 10.0, 20.0, 30.0, 40.0, 100.0)  # bins of utterances: 0, above 0 to 10, above 10 to 20, …
HALLUCINATED_WORDS, HALLUCINATED_SHARE = 3, 0.5  # of an utterance: inserted words, and their ratio to reference words
SEVERAL_LANGUAGES = ""  # in `word_language`, the language of a word that was seen with several


@dataclass(frozen=True)
class Mixing:
    """Indices of a list of utterances; None where there is nothing to compute one from.

    Attributes:
        cmi: code-mixing index, in percent, the mean over utterances with tags (Das and Gambäck 2014).
        cmi_switched: the same over utterances with more than one language.
        m_index: how evenly the languages are spread over tokens: 0 with one language, 1 if all have as many
            (Barnett et al. 2000).
        i_index: the share of neighbouring tokens, in one utterance, that differ in language (Guzmán et al. 2017).
        burstiness: of the lengths of stretches of one language: -1 if all are as long, towards 1 if they differ much.
        memory: correlation of the lengths of neighbouring stretches.
        entropy: of the languages of tokens, in bits.
    """

    cmi: float | None
    cmi_switched: float | None
    m_index: float | None
    i_index: float | None
    burstiness: float | None
    memory: float | None
    entropy: float | None


def spoken(tags: Iterable[str], neutral: Collection[str] = NO_LANGUAGE) -> list[str]:
    """The tags without those of no language."""
    return [tag for tag in tags if tag not in neutral]


def code_mixing_index(tags: Iterable[str], neutral: Collection[str] = NO_LANGUAGE) -> float:
    """CMI of one utterance in percent, 100 (1 - max w / (n - u)); 0 if all tags are neutral.

    `max w` is the number of tokens of the most frequent language, `n - u` that of tokens with a language. (Das and
    Gambäck 2014, equation 1.)
    """
    counts = Counter(spoken(tags, neutral))
    # In this form, shares such as 3 of 10 are exactly 30, on the edge of a bin.
    return 100 * (counts.total() - max(counts.values())) / counts.total() if counts else 0.0


def mixing(tags: Tags, neutral: Collection[str] = NO_LANGUAGE) -> Mixing:
    """The indices of a list of utterances. Utterances without tags, or without a language, do not count."""
    rows = [own for row in tags if row and (own := spoken(row, neutral))]
    indices = [code_mixing_index(row, ()) for row in rows]
    shares = np.array(list(Counter(chain.from_iterable(rows)).values()), float)
    shares /= max(shares.sum(), 1)
    squares = float((shares**2).sum())
    pairs = sum(len(row) - 1 for row in rows)
    switches = sum(one != other for row in rows for one, other in pairwise(row))
    stretches = [[len(list(group)) for _, group in groupby(row)] for row in rows]
    return Mixing(
        cmi=_mean(indices),
        cmi_switched=_mean([index for index in indices if index > 0]),
        m_index=(0.0 if len(shares) == 1 else (1 - squares) / ((len(shares) - 1) * squares)) if rows else None,
        i_index=switches / pairs if pairs else None,
        burstiness=_burstiness(list(chain.from_iterable(stretches))),
        memory=_correlation([pair for row in stretches for pair in pairwise(row)]),
        entropy=abs(-float((shares * np.log2(shares)).sum())) if rows else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _burstiness(lengths: Sequence[int]) -> float | None:
    """(σ - μ) / (σ + μ) with the population's standard deviation (Goh and Barabási 2008)."""
    if not lengths:
        return None
    mean, deviation = float(np.mean(lengths)), float(np.std(lengths))
    return (deviation - mean) / (deviation + mean)


def _correlation(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Pearson's, None where one side does not vary."""
    if len(pairs) < 2 or not np.ptp(pairs, axis=0).all():
        return None
    return float(np.corrcoef(np.array(pairs, float).T)[0, 1])


@lru_cache(maxsize=1)  # the metrics of all bins ask for them one after the other
def cmi_bins(table: ScoreTable) -> np.ndarray:
    """The bin of each utterance by the CMI of its reference, as an index in `CMI_EDGES` `[N]`; -1 without tags.

    Bin 0 has the utterances of one language; bin i those above `CMI_EDGES[i - 1]`, up to and with `CMI_EDGES[i]`.
    """
    rows = (spoken(row or (), table.neutral) for row in table.tags("mixed"))
    values = np.array([code_mixing_index(row, ()) if row else math.nan for row in rows])
    return np.where(np.isnan(values), -1, np.searchsorted(CMI_EDGES, np.nan_to_num(values)))


def learnt_languages(table: ScoreTable) -> dict[str, str]:
    """The language of each word of tagged references; "" for a word that was seen with several languages.

    Words with a neutral tag are not in it.
    """
    languages: dict[str, str] = {}
    for reference, tags in zip(table.column("reference"), table.column("word_languages"), strict=True):
        for word, tag in zip(reference.split(), tags or (), strict=False):
            if tag not in table.neutral and languages.setdefault(word, tag) != tag:
                languages[word] = SEVERAL_LANGUAGES
    return languages


def hypothesis_languages(table: ScoreTable, word_language: Mapping[str, str]) -> list[list[str]]:
    """A tag for each word of each hypothesis: its own, where the table has `hypothesis_languages`.

    Otherwise it is what `word_language` says of the word, and `und` where that says nothing or several languages.
    """
    texts, own = table.column(f"hypothesis{suffix(table.decoding)}"), table.column("hypothesis_languages")
    return [
        [word_language.get(word) or "und" for word in (text or "").split()] if tags is None else list(tags)
        for text, tags in zip(texts, own, strict=True)
    ]


def substitutions_across(table: ScoreTable, heard_tags: Sequence[Sequence[str]]) -> dict[str, int]:
    """Substitutions of tagged words by whether the recognised word is of the same language.

    Args:
        heard_tags: of the words of each hypothesis, see `hypothesis_languages`.

    Returns:
        Numbers of substitutions `within` a language, `across` languages, and `unknown`: by a word without a language,
        as most misspelt words are.
    """
    counts = {"within": 0, "across": 0, "unknown": 0}
    tags = table.column("word_languages")
    for number, i, j, _, _ in _substitutions(table):
        if tags[number] is not None and (said := tags[number][i]) not in table.neutral:
            heard = heard_tags[number][j]
            counts["unknown" if heard in table.neutral else "within" if heard == said else "across"] += 1
    return counts


def _substitutions(table: ScoreTable) -> Iterable[tuple[int, int, int, str, str]]:
    """Each substituted word: utterance, places in reference and hypothesis, the spoken and the recognised word."""
    columns = (
        table.alignments("word"),
        table.column("reference"),
        table.column(f"hypothesis{suffix(table.decoding)}"),
    )
    for number, (alignment, reference, hypothesis) in enumerate(zip(*columns, strict=True)):
        if alignment is None or SUBSTITUTION not in alignment:
            continue
        words, heard = reference.split(), hypothesis.split()
        for edit, i, j in steps(alignment):
            if edit == SUBSTITUTION:
                yield number, i, j, words[i], heard[j]


def deletion_share(counts: EditCounts) -> float | None:
    """The share of reference words that no word of the hypothesis stands for."""
    words = int(counts.reference.sum())
    return int(counts.deletions.sum()) / words if words else None


def hallucinated(counts: EditCounts) -> np.ndarray:
    """Which utterances have many more words than were said `[N]`.

    These are utterances with at least three inserted words that are more than half as many as the reference words.
    """
    return (counts.insertions >= HALLUCINATED_WORDS) & (counts.insertions > HALLUCINATED_SHARE * counts.reference)


def transliteration_tolerant(table: ScoreTable) -> EditCounts:
    """Word counts in which a word in the other script is no error.

    A substitution becomes a hit if the two words have no script in common and the same skeleton, which is not empty. So
    `miting` for `मीटिंग` is right, while a misspelling in the same script remains an error.
    """
    counts = table.tokens("word").counts()
    forgiven = np.zeros_like(counts.hits)
    for number, _, _, said, heard in _substitutions(table):
        own = skeleton(said)
        if own and own == skeleton(heard) and not scripts(said) & scripts(heard):
            forgiven[number] += 1
    return counts._replace(hits=counts.hits + forgiven, substitutions=counts.substitutions - forgiven)


def scripts(word: str) -> set[str]:
    """The scripts of a word's letters, by the first words of their Unicode names, such as `LATIN`."""
    letters = (c for c in unicodedata.normalize("NFKC", word) if unicodedata.category(c)[0] == "L")
    return {unicodedata.name(c, "?").split()[0] for c in letters}


def skeleton(word: str) -> str:
    """The consonants of a word in Latin letters: vowels dropped, doubled letters merged, m and n not told apart.

    Romanisations of one word differ in little else: Indic scripts write the nasal before a consonant as one sign.
    """
    from anyascii import anyascii

    letters = (c for c in anyascii(unicodedata.normalize("NFC", word)).lower() if c.isalnum() and c not in "aeiouy")
    return "".join(c for c, _ in groupby("n" if c == "m" else c for c in letters))
