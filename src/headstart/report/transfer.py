"""What the report says of transfer: the words of its questions, and the heat maps of starts × languages."""

from __future__ import annotations

from typing import Any

from headstart.report.sentences import VERDICTS, change, changes, listed, points, probability, rate

Row = dict[str, Any]
QUESTIONS = {
    "hours": "Twice the hours of pre-training, in as many languages",
    "languages": "Twice as many languages, with as many hours",
    "languages_or_hours": "Twice as many languages rather than twice the hours",
    "multilingual": "Several languages rather than one, with equal hours",
    "family": "Languages of the family {family} rather than others",
    "own_language": "Pre-trained on the target's language rather than not",
    "similarity": "Nearest language of pre-training a standard deviation{step} more alike, {by}",
    "switched": "Pre-trained on one more language of a code-switched target",
    "every_language": "Pre-training on one language helps in every other language",
    "ranks": "Seeds agree on the order of starts",
}
MOST_SHADE = 62  # percent of a colour behind text that stays legible


def question_rows(transfer: Row) -> list[Row]:
    """`title`, `effect`, `span`, `verdict` and `note` of each question, as text."""
    rows = []
    for row in transfer["questions"]:
        text = {"title": _title(row, transfer["family"] or "that is most frequent")}
        rows.append(text | {"verdict": _verdict(row), "is_clear": row["verdict"] in ("lower", "higher")})
        if row["p"] is None:
            rows[-1] |= {"effect": "\N{EN DASH}", "span": "", "note": f"{row['reason']}".capitalize() + "."}
        elif row["question"] == "ranks":
            rows[-1] |= {"effect": f"{row['estimate']:.2f}", "span": f"[{row['low']:.2f}, {row['high']:.2f}]"}
            rows[-1]["note"] = "Spearman's correlation between seeds, the mean over languages; " + _basis(row)
        else:
            rows[-1] |= {"effect": change(row["estimate"]), "span": changes(row["low"], row["high"])}
            weakest = f"In {row['weakest']}, where it is least sure; " if "weakest" in row else ""
            rows[-1]["note"] = weakest + _basis(row)
    return rows


def by_measure(name: str) -> str:
    """A measure of similarity in words, after `alike` or `nearest`."""
    return {"table": "by family and place", "acoustic": "by sound"}.get(name, f"by {name}")


def _title(row: Row, family: str) -> str:
    by = by_measure(row["measure"]) if "measure" in row else ""
    step = "" if row.get("step") is None else f" ({row['step']:.2g})"
    return QUESTIONS[row["question"]].format(family=family, by=by, step=step)


def advice_rows(transfer: Row) -> list[Row]:
    """What each rule errs by on languages that are left out, as text, a row for each measure of similarity."""
    return [
        {"similarity": by_measure(row["measure"]), "languages": row["languages"]}
        | {rule: rate(row[rule]) for rule in ("neighbours", "average", "nearest")}
        | {f"{rule}_best": f"best in {row['best'][rule]}" for rule in ("neighbours", "average", "nearest")}
        | {"difference": change(row["difference"]), "span": changes(row["low"], row["high"])}
        | {"verdict": _better(row)}
        for row in transfer["advice"]
    ]


def _better(row: Row) -> str:
    if row["difference"] >= 0:
        return "no better than a plain rule"
    return "clearly better" if row["high"] < 0 else "better, but not clearly"


def _basis(row: Row) -> str:
    return f"{probability(row['p_adjusted'])} after adjustment, {row['starts']} starts, {row['languages']} languages."


def _verdict(row: Row) -> str:
    if row["verdict"] == "cannot tell":
        return "cannot tell"
    if row["question"] == "every_language":
        if row["verdict"] == "higher":
            return f"no: higher in {listed(row['positive'])}"
        return {"lower": "yes", "unclear": VERDICTS["unclear"]}[row["verdict"]]
    if row["question"] == "ranks":
        return {"higher": "yes", "lower": "no", "unclear": VERDICTS["unclear"]}[row["verdict"]]
    return VERDICTS[row["verdict"]]


def heat_maps(transfer: Row) -> list[Row]:
    """The tables of error rates and of their changes: a row for each language, a column for each start, best first.

    A cell has its `text`, its `value` to sort by, a `shade` from 0 to 100 %, the `tone` of the colour, and `own`,
    whether the start was pre-trained on all languages of the row.
    """
    starts = [row["start"] for row in transfer["ranks"]]
    cells = {(cell["column"], cell["start"]): cell for cell in transfer["cells"]}
    kinds = {"change": "Change from no pre-training, %", "error": "Error rate, %"}
    maps = []
    for kind, title in kinds.items():
        shown = [name for name in starts if kind == "error" or name != transfer["none"]]
        values = [cell[kind] for cell in transfer["cells"] if cell[kind] is not None and cell["start"] in shown]
        if not values:
            continue
        largest = max(map(abs, values)) or 1.0
        rows = [
            {
                "name": target["name"],
                "about": target["subfamily"] or target["family"] or "",
                "cells": [_cell(cells[number, name], kind, largest, len(target["languages"])) for name in shown],
            }
            for number, target in enumerate(transfer["targets"])
        ]
        maps.append({"id": f"transfer-{kind}", "title": title, "starts": shown, "rows": rows})
    return maps


def _cell(cell: Row, kind: str, largest: float, languages: int) -> Row:
    value = cell[kind]
    near = "".join(
        f"; nearest {by_measure(name)}: {near['language']} ({near['similarity']:.2f})"
        for name, near in cell["nearest"].items()
    )
    return {
        "value": value,
        "text": f"{100 * value:.0f}" if kind == "error" else points(value).rpartition(".")[0],
        "shade": round(MOST_SHADE * abs(value) / largest),
        "tone": "higher" if kind == "error" or value > 0 else "lower",
        "own": cell["covered"] == languages,
        "title": f"{cell['start']}: {100 * value:.1f}%{near}",
    }
