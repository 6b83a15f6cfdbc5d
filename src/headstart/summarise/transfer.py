"""What makes a start transfer: the section `transfer` of the summary.

docs/transfer.md describes what is asked, how it is computed, and when the answer is that the study cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headstart.languages.pairs import Pairs
from headstart.languages.similarity import Measure
from headstart.languages.table import language_of
from headstart.study.study import Study
from headstart.summarise.design import Design, Weights
from headstart.summarise.estimates import holm
from headstart.summarise.neighbours import Known, left_out
from headstart.summarise.pretraining_data import FEWEST
from headstart.summarise.ranks import every_language, rank_rows, stability
from headstart.summarise.similarity import TABLE
from headstart.summarise.tables import Row
from headstart.summarise.transfer_questions import largest_family, question_rows
from headstart.summarise.transfer_table import TransferTable


def transfer_section(
    study: Study, designs: Mapping[str, Design], measures: Mapping[str, Measure] = TABLE
) -> Row | None:
    """What makes a start transfer, by the metric of the study; None with too few pre-trained starts or languages.

    Args:
        study: the study.
        designs: its runs by each metric.
        measures: of the similarity of languages, by name.

    Keys of the result:

    - `none`: the start without pre-training that others are compared with, or None; `family`: the one of most target
      languages.
    - `starts`: what is known of the pre-training data of each pre-trained start: `start`, `hours`, `languages`,
      `language_count`; `change`, the mean relative change of the error rate; and what `every_language` says of the
      start, where it can.
    - `targets`: `languages` of a column, its `targets`, `name`, `family` of a single language.
    - `cells`: `start` (also `none`), `column` (number of the target), `error` (geometric mean over targets, budgets and
      seeds), `change` (relative to `none`), `nearest`, which has by the name of each measure that knows it the nearest
      `language` of pre-training and its `similarity`, and `covered`, the number of its languages that the start was
      pre-trained on.
    - `questions`: the rows of `question_rows` with two more, `every_language` and `ranks`, and with `p_adjusted` (Holm)
      and `verdict`: `lower` or `higher`, `unclear`, or `cannot tell` with a `reason`.
    - `advice`: for each `measure`, how far off advice from it is on languages that are left out (see `left_out`); and
      `similarities`: measure -> language -> language -> similarity, of measures other than the package's table.
    - `groups`: the mean relative change on code-switched targets by the number of languages covered.
    - `ranks`: the rows of `rank_rows`, of all starts.
    """
    design = designs.get(study.report.metric)
    if design is None:
        return None
    table = TransferTable.of(study, design, measures)
    if min(len(table.starts), len(table.columns)) < FEWEST:
        return None
    confidence = study.report.confidence
    starts = [*([table.none] if table.none else []), *table.starts]
    cells = [(t, b) for targets in table.columns.values() for t in targets for b in study.budgets]
    questions = [
        *question_rows(table, confidence),
        _everywhere(study, table, design),
        _rank_question(table, confidence),
    ]
    section = {
        "none": table.none,
        "family": largest_family(table),
        "starts": [_start_row(study, table, design, name) for name in table.starts],
        "targets": [_target_row(languages, targets) for languages, targets in table.columns.items()],
        "cells": _cell_rows(table),
        "questions": _with_verdicts(questions, confidence),
        "groups": _groups(table),
        "ranks": rank_rows(design, starts, cells, confidence),
    }
    return section | {"advice": _advice(section, measures, confidence), "similarities": _similarities(table)}


def _advice(section: Row, measures: Mapping[str, Measure], confidence: float) -> list[Row]:
    """How far off advice is by each measure that knows enough of the study's languages."""
    known = {name: Known.of(section).only(measure) for name, measure in measures.items()}
    return [
        {"measure": name} | left_out(known[name], measure, confidence)
        for name, measure in measures.items()
        if len(known[name].tags) >= FEWEST
    ]


def _similarities(table: TransferTable) -> Row:
    """The similarities that are not from the package's table, of pairs with at least one language of a target."""
    targets = {tag for column in table.columns for tag in column}
    pairs = {name: measure for name, measure in table.measures.items() if isinstance(measure, Pairs)}
    return {name: measure.with_one_of(targets).plain() for name, measure in pairs.items()}


def _start_row(study: Study, table: TransferTable, design: Design, name: str) -> Row:
    data, place = table.starts[name], list(table.starts).index(name)
    row = {"start": name, "hours": data.hours, "languages": data.languages and list(data.languages)}
    row |= {"language_count": data.language_count, "everywhere": None}
    row["change"] = float(np.expm1(table.changes[place].mean())) if table.none else None
    if table.none:
        contrasts = {_name(column): _contrast(study, table, column, [name]) for column in table.columns}
        row["everywhere"] = every_language(design, contrasts, study.report.confidence)
    return row


def _target_row(languages: tuple[str, ...], targets: list[str]) -> Row:
    known = language_of(languages[0]) if len(languages) == 1 else None
    row = {"languages": list(languages), "targets": targets, "name": _name(languages)}
    return row | {"family": known.family if known else None, "subfamily": known.subfamily if known else None}


def _name(languages: tuple[str, ...]) -> str:
    """The name of a column: `German`, or the tags of a code-switched one, such as `en-es`."""
    known = language_of(languages[0]) if len(languages) == 1 else None
    return known.name if known else "-".join(languages)


def _cell_rows(table: TransferTable) -> list[Row]:
    rows = []
    for number, column in enumerate(table.columns):
        if table.none:
            error = float(np.exp(table.none_errors[number].mean()))
            rows.append({"start": table.none, "column": number, "error": error, "change": 0.0})
            rows[-1] |= {"nearest": {}, "covered": 0}
        for place, name in enumerate(table.starts):
            near = {measure: table.nearest_language(name, column, measure) for measure in table.measures}
            rows.append(
                {"start": name, "column": number}
                | {"error": float(np.exp(table.errors[place, number].mean()))}
                | {"change": float(np.expm1(table.changes[place, number])) if table.none else None}
                | {"nearest": {key: {"language": n[1], "similarity": n[0]} for key, n in near.items() if n}}
                | {"covered": table.covered(name, column)}
            )
    return rows


def _contrast(study: Study, table: TransferTable, column: tuple[str, ...], starts: list[str]) -> Weights:
    """The mean of starts minus no pre-training, over the targets and budgets of a column."""
    cells = [(target, budget) for target in table.columns[column] for budget in study.budgets]
    share = 1 / len(cells)
    return {cell: {**dict.fromkeys(starts, share / len(starts)), table.none: -share} for cell in cells}


def _everywhere(study: Study, table: TransferTable, design: Design) -> Row:
    """Whether starts of one language help in every language that they were not pre-trained on."""
    row: Row = {"question": "every_language", **dict.fromkeys(("estimate", "low", "high", "p", "degrees_of_freedom"))}
    row |= {"starts": None, "languages": None, "reason": None}
    single = [name for name, data in table.starts.items() if data.language_count == 1 and data.languages]
    contrasts = {}
    for column in table.columns:
        others = [name for name in single if not table.covered(name, column)]
        if others and table.none:
            contrasts[_name(column)] = _contrast(study, table, column, others)
    found = every_language(design, contrasts, study.report.confidence) if len(contrasts) >= 3 else None
    if found is None:
        row["reason"] = (
            "no start is without pre-training"
            if table.none is None
            else "with one seed, nothing is known of how much runs vary"
            if design.seeds < 2
            else f"there are {len(contrasts)} languages that starts of one language were not pre-trained on"
        )
        return row
    return row | found | {"starts": len(single), "languages": len(contrasts)}


def _rank_question(table: TransferTable, confidence: float) -> Row:
    """Whether seeds agree on the order of starts."""
    found = stability(table.errors, confidence)
    row: Row = {"question": "ranks", **dict.fromkeys(("estimate", "low", "high", "p", "degrees_of_freedom"))}
    row |= {"starts": len(table.starts), "languages": len(table.columns), "reason": None}
    return row | (found or {"reason": "with one seed, there is nothing to compare"})


def _with_verdicts(rows: list[Row], confidence: float) -> list[Row]:
    """The rows with p values that are adjusted for one another, and verdicts."""
    asked = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(asked, holm([row["p"] for row in asked]), strict=True):
        row["p_adjusted"] = adjusted
        clear = adjusted < 1 - confidence
        row["verdict"] = ("lower" if row["estimate"] < 0 else "higher") if clear else "unclear"
        if row.get("positive"):
            row["verdict"] = "higher"
    for row in rows:
        if row["p"] is None:
            row |= {"p_adjusted": None, "verdict": "cannot tell"}
    return rows


def _groups(table: TransferTable) -> list[Row]:
    """By how many of their languages starts were pre-trained on, the mean relative change on code-switched targets."""
    found: dict[tuple[int, int], list[float]] = {}
    for number in table.switched if table.none else ():
        column = list(table.columns)[number]
        for place, name in enumerate(table.starts):
            if (covered := table.covered(name, column)) is not None:
                found.setdefault((covered, len(column)), []).append(float(table.changes[place, number]))
    return [
        {"covered": covered, "of": of, "cells": len(values), "change": float(np.expm1(np.mean(values)))}
        for (covered, of), values in sorted(found.items())
    ]
