"""The registry of error metrics, over which scoring, the summary, claims and the report go.

A metric counts errors and reference tokens of each utterance in a `ScoreTable`, and never aligns anything. A new one is
a function from a table to counts and one line below; its variant for the decoding with a language model, whose name
ends in `_lm`, follows by itself.

Some metrics come in families with a member for each language, distance or bin of the code-mixing index, such as
`wer[es]`, `wer_lm[es]`, `switch_word[2]` and `wer_cmi[10]`: `metric_named` finds them by name, and `counts_by_metric`
lists those that apply to a table. docs/scoring.md says what each of them counts, and where its definition comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from headstart.errors import HeadstartError
from headstart.score.alignment import HIT, EditCounts, align_chars, align_words, count_edits
from headstart.score.code_switching import CMI_EDGES, cmi_bins
from headstart.score.score_table import LM, ScoreTable, suffix

CURVE_METRICS = ("wer", "cer")  # those of learning curves, for which two texts are enough
LANGUAGES = "code-switching"
SWITCH_DISTANCES = (1, 2, 3)


@dataclass(frozen=True)
class Metric:
    """An error rate: errors over tokens of the reference, both summed over utterances.

    Attributes:
        name: its key in `summary.json` and in the study file, such as `wer`.
        label: the abbreviation that the report uses, such as `WER`.
        title: the name in words, such as `word error rate`.
        units: what its counts are of, in words and in the plural, such as `words`.
        count: the edits of each utterance in the table of one decoding.
        applies: whether a table can have the metric at all, beyond having reference tokens for it.
        section: of the report that shows it; "" for none, so that it is in the summary only.
        decoding: whose hypotheses are counted: "", or "lm" for those of the decoding with a language model.
        align: for a metric of two texts alone, their alignment.
    """

    name: str
    label: str
    title: str
    units: str
    count: Callable[[ScoreTable], EditCounts]
    applies: Callable[[ScoreTable], bool] = lambda table: True
    section: Literal["rates", "code-switching", ""] = "rates"
    decoding: str = ""
    align: Callable[[str, str], str] | None = None

    @property
    def heading(self) -> str:
        """Title and label, such as `Word error rate (WER)`."""
        return f"{self.title[0].upper()}{self.title[1:]} ({self.label})"

    def counts(self, table: ScoreTable) -> EditCounts:
        """Hits and errors of each utterance of a table: arrays `[N]`. An utterance without tokens for it has zeros."""
        return self.count(table.decoded(self.decoding))

    def rate(self, references: Sequence[str], hypotheses: Sequence[str]) -> float:
        """Error rate of texts, as a fraction, by a metric with `align`; the references have one token at least."""
        counts = [count_edits(self.align(*pair)) for pair in zip(references, hypotheses, strict=True)]
        return sum(count.errors for count in counts) / sum(count.reference for count in counts)


def _all(table: ScoreTable, tokenisation: str) -> EditCounts:
    return table.tokens(tokenisation).counts()


def _of_language(table: ScoreTable, tokenisation: str, language: str) -> EditCounts:
    tokens = table.tokens(tokenisation)
    return tokens.counts(tokens.of_languages([language]))


def points_of_interest(table: ScoreTable, as_published: bool = False) -> EditCounts:
    """Edits of the points of interest, and the insertions that belong to them (PIER; Ugan et al. 2025).

    Args:
        as_published: leave out utterances all of whose words are points of interest, as the authors' code does.
    """
    tokens = table.tokens("mixed")
    chosen = tokens.of_languages(table.points_of_interest)
    if as_published:
        others = tokens.total(~chosen)
        chosen &= others[tokens.utterance] > 0
    return tokens.counts(chosen)


def _near_switches(table: ScoreTable, distance: int) -> EditCounts:
    tokens = table.tokens("mixed")
    return tokens.counts(tokens.switch_distance == distance, insertions=False)


def _boundaries(table: ScoreTable) -> EditCounts:
    """A switch is a hit if both tokens beside it are, and nothing is inserted between them; or else a substitution."""
    tokens = table.tokens("mixed")
    left, right = tokens.spoken[tokens.switches], tokens.spoken[tokens.switches + 1]
    inserted = np.cumsum(tokens.before)
    hit = tokens.is_edit(HIT)
    correct = hit[left] & hit[right] & (inserted[left] == inserted[right])
    hits, errors = (
        np.bincount(tokens.utterance[left], kind, tokens.utterances).astype(np.int64) for kind in (correct, ~correct)
    )
    return EditCounts(hits, errors, np.zeros_like(hits), np.zeros_like(hits))


def _in_bin(table: ScoreTable, number: int) -> EditCounts:
    """Words of the utterances whose references are in one bin of the code-mixing index."""
    chosen = cmi_bins(table.decoded("")) == number  # of the references, which all decodings share
    return EditCounts(*(np.where(chosen, kind, 0) for kind in table.tokens("word").counts()))


def _has_mixed(table: ScoreTable) -> bool:
    return table.has_mixed


_GREEDY = (
    Metric("wer", "WER", "word error rate", "words", partial(_all, tokenisation="word"), align=align_words),
    Metric("cer", "CER", "character error rate", "characters", partial(_all, tokenisation="char"), align=align_chars),
    Metric("mer", "MER", "mixed error rate", "words and characters", partial(_all, tokenisation="mixed"), _has_mixed),
    Metric(
        "wer_raw",
        "raw WER",
        "word error rate as transcribed",
        "raw words",
        partial(_all, tokenisation="raw"),
        section="",
    ),
    Metric("pier", "PIER", "point-of-interest error rate", "points of interest", points_of_interest, section=LANGUAGES),
    Metric(
        "switch_word",
        "switch-word error rate",
        "error rate of the words beside a switch of language",
        "words beside a switch",
        partial(_near_switches, distance=1),
        section=LANGUAGES,
    ),
    Metric(
        "switch_boundary",
        "switch error rate",
        "error rate of switches of language",
        "switches",
        _boundaries,
        section=LANGUAGES,
    ),
)


def with_language_model(metric: Metric) -> Metric:
    """The same metric of the decoding with a language model: `wer` becomes `wer_lm`, and `wer[es]` `wer_lm[es]`."""
    name, bracket, key = metric.name.partition("[")
    return replace(
        metric,
        name=f"{name}{suffix(LM)}{bracket}{key}",
        label=f"{metric.label} with LM",
        title=f"{metric.title} with a language model",
        align=None,
        decoding=LM,
    )


METRICS = {metric.name: metric for metric in (*_GREEDY, *map(with_language_model, _GREEDY))}


def _by_language(name: str, language: str) -> Metric:
    base = METRICS[name]
    return Metric(
        f"{name}[{language}]",
        f"{base.label} {language}",
        f"{base.title} of {language}",
        f"{language} {base.units}",
        partial(_of_language, tokenisation={"wer": "word", "mer": "mixed"}[name], language=language),
        lambda table: len(table.languages) > 1 and base.applies(table),
        section=LANGUAGES,
    )


def _by_distance(name: str, distance: str) -> Metric:
    if not re.fullmatch("[1-9][0-9]*", distance):
        raise HeadstartError(f"{name}[{distance}]: the distance from a switch is a whole number from 1 on")
    return Metric(
        f"{name}[{distance}]",
        f"error rate at distance {distance} from a switch",
        f"error rate of words at distance {distance} from a switch of language",
        f"words at distance {distance}",
        partial(_near_switches, distance=int(distance)),
        section=LANGUAGES,
    )


def _by_cmi(name: str, edge: str) -> Metric:
    names = {f"{edge:g}": number for number, edge in enumerate(CMI_EDGES)}
    if edge not in names:
        raise HeadstartError(f"{name}[{edge}]: utterances are binned by CMI up to {', '.join(names)}")
    number = names[edge]
    where = "in one language" if number == 0 else f"with a CMI above {CMI_EDGES[number - 1]:g} and up to {edge}"
    return Metric(
        f"{name}[{edge}]",
        f"WER of utterances {where}",
        f"word error rate of utterances {where}",
        f"words of utterances {where}",
        partial(_in_bin, number=number),
        lambda table: len(table.languages) > 1,
        section=LANGUAGES,
    )


FAMILIES: dict[str, Callable[[str, str], Metric]] = {
    "wer": _by_language,
    "mer": _by_language,
    "switch_word": _by_distance,
    "wer_cmi": _by_cmi,
}


def metric_named(name: str) -> Metric:
    """The metric of this name, such as `wer`, `wer_lm`, `wer[es]`, `wer_lm[es]` or `switch_word[2]`.

    Raises:
        HeadstartError: there is none.
    """
    if name in METRICS:
        return METRICS[name]
    match = re.fullmatch(r"(\w+)\[([^\[\]]+)\]", name)
    base = match[1].removesuffix(suffix(LM)) if match else ""
    if base not in FAMILIES:
        families = ", ".join(f"{name}[…]" for name in FAMILIES)
        raise HeadstartError(f"{name!r} is no metric; there are {', '.join(METRICS)}, and by key {families}")
    member = FAMILIES[base](base, match[2])
    return member if match[1] == base else with_language_model(member)


def candidates(table: ScoreTable) -> list[Metric]:
    """All metrics that a table with these languages might have, in the order in which they are shown."""
    families = [_by_language(name, language) for name in ("wer", "mer") for language in table.languages]
    families += [_by_distance("switch_word", str(distance)) for distance in SWITCH_DISTANCES[1:]]
    families += [_by_cmi("wer_cmi", f"{edge:g}") for edge in CMI_EDGES]
    return [*METRICS.values(), *families, *map(with_language_model, families)]


def counts_by_metric(table: ScoreTable) -> dict[str, EditCounts]:
    """The counts of each utterance by every metric that applies to a table: one with at least one reference token.

    A metric of languages does not apply where nothing is tagged, one by language where there is only one, one with a
    language model where nothing was decoded with it, and the mixed error rate where its units are words.
    """
    counts = {}
    for one in candidates(table):
        if one.applies(table.decoded(one.decoding)) and (own := one.counts(table)).reference.any():
            counts[one.name] = own
    return counts
