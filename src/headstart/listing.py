"""What `headstart score` prints for people: rates with intervals, then the other measures in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstart.score.alignment import EditCounts
from headstart.score.metrics import metric_named
from headstart.score.score_table import ScoreTable
from headstart.summarise.design import rate_interval
from headstart.summarise.tables import blocks_of

CONFIDENCE = 0.95
TITLES = {  # of counts that are no metrics
    "wer_translit": "word error rate, words in another script forgiven",
    "pier_as_published": "PIER without utterances of points of interest only",
}

INDICES = {  # title -> key of the result, and form
    "code-mixing index": ("cmi", "{:.2f} %"),
    "M-index": ("m_index", "{:.3f}"),
    "I-index": ("i_index", "{:.3f}"),
    "burstiness": ("burstiness", "{:.3f}"),
    "memory": ("memory", "{:.3f}"),
}


def listing(table: ScoreTable, counts: Mapping[str, EditCounts], result: Mapping[str, Any]) -> str:
    """The measures of `headstart.score.evaluation` as a readable table.

    Intervals have 95 % coverage over the choice of speakers where each utterance has one, and of utterances otherwise.
    """
    unit, blocks = blocks_of(table.column("speaker"))
    header = ("", "rate", "95 % interval", "errors", "S", "D", "I", "of")
    rows = [header, *(row for name, own in counts.items() if (row := _row(name, own, blocks)))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([f"{result['utterances']} utterances; intervals are over {unit}", "", *lines, "", *_facts(result)])


def _row(name: str, counts: EditCounts, blocks: np.ndarray) -> tuple[str, ...] | None:
    reference, errors = int(counts.reference.sum()), int(counts.errors.sum())
    if not reference:
        return None
    interval = rate_interval(counts.errors, counts.reference, blocks, CONFIDENCE)
    span = "" if interval is None else " to ".join(_end(100 * end) for end in interval)
    title = TITLES.get(name) or metric_named(name).title
    numbers = (errors, *(int(kind.sum()) for kind in counts[1:]), reference)
    return (title, f"{100 * errors / reference:.2f} %", span, *map(str, numbers))


def _end(percent: float) -> str:
    return f"{percent:.1f}" if percent < 1000 else ">1000"


def _facts(result: Mapping[str, Any]) -> list[str]:
    """The measures that are no error rates, a sentence each."""
    lines = []
    if result["deletion_share"] is not None:
        lines.append(f"{result['deletion_share']:.1%} of the reference words were deleted.")
    lines.append(f"{result['hallucination_share']:.1%} of the utterances have many more words than were said.")
    if result["matrix_language"] is None:
        return [*lines, "The references have no language tags, so nothing is said of languages."]
    poi = ", ".join(result["points_of_interest"]) or "none"
    lines.append(f"Most words are {result['matrix_language']}; points of interest are {poi}.")
    sides = {"References": result, "Hypotheses, by the words of the references": result["hypothesis_mixing"]}
    for name, side in sides.items():
        if side is None:
            continue
        known = [f"{title} {form.format(side[key])}" for title, (key, form) in INDICES.items() if side[key] is not None]
        if known:
            lines.append(f"{name}: {', '.join(known)}.")
    if across := result["substitutions_across_languages"]:
        lines.append(
            f"Substituted words: {across['across']} by a word of another language, {across['within']} by one of the "
            f"same, and {across['unknown']} by one that is not known from the references."
        )
    return lines
