"""Every measure of a list of hypotheses against their references, for the systems of anybody."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.score import code_switching as mixing
from headstart.score.alignment import EditCounts, align
from headstart.score.files import Transcript, read_transcripts
from headstart.score.metrics import METRICS, SWITCH_DISTANCES, counts_by_metric, metric_named, points_of_interest
from headstart.score.score_file import language_columns, score_columns
from headstart.score.score_table import ScoreTable
from headstart.study.explain import LANGUAGE_PATTERN
from headstart.study.text import Text
from headstart.text.normalisation import normalise, normalised_runs
from headstart.text.tags import NO_LANGUAGE

Result = dict[str, Any]
Pairs = list[tuple[str, Transcript, Transcript]]  # id, reference and hypothesis of each utterance
_UNKNOWN = "#"  # what makes of a tag one that names no language


def paired(reference: Path, hypothesis: Path, missing_is_empty: bool = False) -> Pairs:
    """The id, reference and hypothesis of each utterance of two files, in the order of the references.

    Args:
        missing_is_empty: whether an utterance without a hypothesis counts as one with an empty one.

    Raises:
        HeadstartError: a file cannot be read, or the two do not have the same ids.
    """
    references = read_transcripts(reference)
    hypotheses = read_transcripts(hypothesis, references.keys())
    if extra := [name for name in hypotheses if name not in references]:
        raise HeadstartError(
            f"{hypotheses[extra[0]].place}: {_some(extra)} not in {reference}; score the same utterances in both"
        )
    missing = [name for name in references if name not in hypotheses]
    if missing and not missing_is_empty:
        raise HeadstartError(
            f"{references[missing[0]].place}: {_some(missing)} not in {hypothesis}; "
            "add them, or count them as empty with --missing empty"
        )
    empty = Transcript(f"{hypothesis}", "")
    return [(name, row, hypotheses.get(name, empty)) for name, row in references.items()]


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(map(repr, names[:limit]))}{more} {'is' if len(names) == 1 else 'are'}"


def list_table(
    pairs: Pairs,
    language: str | None = None,
    neutral: Collection[str] = (),
    points: Collection[str] | None = None,
) -> ScoreTable:
    """The pairs as the rows of a score file.

    Args:
        language: by which both sides are normalised; None leaves them as they are, but for spaces.
        neutral: tags of no language besides `NO_LANGUAGE`.
        points: languages whose words are the points of interest; by default all but the matrix language.

    Raises:
        HeadstartError: the tokens of an utterance are not its words, no word has one of the tags of `points`, or
            `language` is no language tag.
    """
    if language is not None and not re.fullmatch(LANGUAGE_PATTERN, language):
        raise HeadstartError(f"--text {language!r}: not a language tag, which is like sw, es or zh-Hant (BCP 47)")

    neutral = NO_LANGUAGE | set(neutral)
    rows = []
    for name, said, heard in pairs:
        reference, tags = _tagged(said, language, neutral)
        hypothesis, heard_tags = _tagged(heard, language, neutral)
        row = {"utterance_id": name, "speaker": said.speaker, **tags, **score_columns(reference, hypothesis)}
        row["raw_alignment"] = None if language is None else align(said.text.split(), heard.text.split())
        rows.append({**row, "hypothesis_languages": heard_tags["word_languages"]})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = ScoreTable(columns, neutral, points)
    if points is not None and (unknown := sorted(set(points) - set(table.all_languages))):
        has = f"it has {', '.join(table.all_languages)}" if table.all_languages else "no reference is tagged"
        raise HeadstartError(f"--poi {unknown[0]}: no reference word has this tag; {has}")
    return table


def _tagged(side: Transcript, language: str | None, neutral: Collection[str]) -> tuple[str, Result]:
    """The text of one side, normalised if there is a language, and its language columns."""
    if language is None:
        text, runs = " ".join(side.text.split()), None
        if side.languages is not None:
            runs = [(tag, "".join(token.split())) for token, tag in zip(side.tokens, side.languages, strict=True)]
    else:
        # Both sides are normalised in one language: most hypotheses have no tags that could say another one.
        tags = side.languages and [_UNKNOWN + tag for tag in side.languages]
        text = normalise(side.text, Text(), language, side.tokens, tags)
        runs = tags and normalised_runs(side.text, Text(), language, side.tokens, tags)
        runs = tags and [(tag.removeprefix(_UNKNOWN), part) for tag, part in runs or ()]
    try:
        return text, language_columns(text, runs, neutral=neutral)
    except ValueError:
        raise HeadstartError(
            f"{side.place}: the tokens are not the words of the text, in order; they are {side.tokens[:8]}, "
            f"the words {text.split()[:8]}"
        ) from None


def counts_of_lists(table: ScoreTable) -> dict[str, EditCounts]:
    """The counts that are reported, by metric. There are always those of words, characters and mixed units."""
    counts = {name: METRICS[name].counts(table) for name in ("wer", "cer", "mer")} | counts_by_metric(table)
    by_tag = [f"wer[{tag}]" for tag in table.tokens("word").languages]
    counts |= {name: metric_named(name).counts(table) for name in by_tag}
    if (forgiving := mixing.transliteration_tolerant(table)).hits.sum() > counts["wer"].hits.sum():
        counts["wer_translit"] = forgiving
    if "pier" in counts:
        counts["pier_as_published"] = points_of_interest(table, as_published=True)
    return counts


def evaluation(table: ScoreTable, counts: Mapping[str, EditCounts]) -> Result:
    """Every measure of a list as one JSON-like object. Rates are fractions, CMI is in percent; None is "not known".

    docs/scoring.md says what each of them is.
    """
    rates = {name: _rate(own) for name, own in counts.items()}
    tags = table.tags("mixed")
    learnt = mixing.learnt_languages(table)
    spoken = mixing.mixing(tags, table.neutral)
    heard_tags = mixing.hypothesis_languages(table, learnt)
    heard = mixing.mixing(heard_tags, table.neutral) if learnt else None
    wrong = mixing.hallucinated(counts["wer"])
    return {
        "utterances": len(table),
        **{name: rates[name] for name in ("wer", "cer", "mer")},
        "wer_raw": rates.get("wer_raw"),
        "wer_translit": rates.get("wer_translit"),
        "wer_by_language": _by_language(rates, "wer"),
        "mer_by_language": _by_language(rates, "mer"),
        "matrix_language": table.languages[0] if table.languages else None,
        "points_of_interest": sorted(table.points_of_interest),
        "pier": rates.get("pier"),
        "pier_as_published": rates.get("pier_as_published"),
        "switch_points": {
            "boundary_error": rates.get("switch_boundary"),
            "word_error": rates.get("switch_word"),
            "word_error_by_distance": {
                str(d): rates.get("switch_word" if d == 1 else f"switch_word[{d}]") for d in SWITCH_DISTANCES
            },
        },
        **asdict(spoken),
        "hypothesis_mixing": heard and asdict(heard),
        "substitutions_across_languages": mixing.substitutions_across(table, heard_tags) if learnt else None,
        "deletion_share": mixing.deletion_share(counts["wer"]),
        "hallucination_share": float(np.mean(wrong)),
        "wer_by_cmi": _by_cmi(counts),
        "counts": {name: _totals(own) for name, own in counts.items() if not name.startswith("wer_cmi")},
    }


def _by_language(rates: Mapping[str, float | None], name: str) -> dict[str, float | None]:
    return {key[len(name) + 1 : -1]: rate for key, rate in rates.items() if key.startswith(f"{name}[")}


def _rate(counts: EditCounts) -> float | None:
    reference = int(counts.reference.sum())
    return int(counts.errors.sum()) / reference if reference else None


def _totals(counts: EditCounts) -> dict[str, int]:
    own = dict(zip(counts._fields, (int(kind.sum()) for kind in counts), strict=True))
    return {**own, "errors": int(counts.errors.sum()), "reference": int(counts.reference.sum())}


def _by_cmi(counts: Mapping[str, EditCounts]) -> list[Result]:
    rows, above = [], None
    for edge in mixing.CMI_EDGES:
        if own := counts.get(f"wer_cmi[{edge:g}]"):
            utterances = int((own.reference > 0).sum())
            rows.append({"above": above, "up_to": edge, "utterances": utterances, "wer": _rate(own), **_totals(own)})
        above = edge
    return rows
