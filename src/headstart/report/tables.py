"""The rows of the report's tables: numbers of the summary as text."""

from __future__ import annotations

from typing import Any

from headstart.report.sentences import (
    change,
    changes,
    claim_sentences,
    decimal,
    decimals,
    mixing_sentences,
    points,
    rate,
    select,
    span,
)
from headstart.score.metrics import LANGUAGES, METRICS, Metric, metric_named
from headstart.score.score_table import LM, suffix
from headstart.study.study import Study

Row = dict[str, Any]
STAGES = {"ssl": "pre-training", "semisup": "semi-supervised training"}  # kind of start -> name of its stage


def shown_metrics(study: Study, summary: Row) -> dict[str, Metric]:
    """The metrics by which starts are compared that apply to all targets, the study's own first."""
    compared = [metric.name for metric in METRICS.values() if metric.section == "rates"]
    names = [name for name in compared if all(name in cell for cell in summary["cells"])]
    return {name: METRICS[name] for name in (study.report.metric, *names)}


def rate_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of error rates; `wer_lowest` and the like mark the lowest rate of a target and budget."""
    rows = []
    for cell in sorted(summary["cells"], key=lambda r: group_order(study, r)):
        peers = select(summary["cells"], target=cell["target"], budget=cell["budget"])
        row = {key: cell[key] for key in ("start", "target", "budget")}
        for metric in shown_metrics(study, summary):
            row[metric] = rate(cell[metric])
            row[f"{metric}_span"] = span(cell[f"{metric}_low"], cell[f"{metric}_high"])
            row[f"{metric}_lowest"] = len(peers) > 1 and cell[metric] == min(peer[metric] for peer in peers)
        rows.append(row)
    return rows


def diagnosis_rows(study: Study, summary: Row) -> list[Row]:
    """What is wrong with the training of runs: a row for each target, budget, start and kind of finding.

    The sentence is that of the first seed of `seeds`, all of which have a finding of this kind.
    """
    rows: dict[tuple, Row] = {}
    for run in sorted(summary["runs"], key=lambda r: group_order(study, r)):
        for finding in run["diagnosis"]:
            cell = {key: run[key] for key in ("target", "budget", "start")}
            first = {**cell, "seeds": [], "sentence": finding["sentence"]}
            row = rows.setdefault((*cell.values(), finding["key"]), first)
            row["seeds"].append(run["seed"])
    return list(rows.values())


def code_switching(study: Study, summary: Row) -> list[Row]:
    """For each target that mixes languages and each budget: what its references are like, and tables of error rates.

    There is one table for each decoding, with a row for each metric that only makes sense there and a rate, an interval
    and a mark of the lowest for each start.
    """
    sections = []
    for mixing in summary["mixing"]:
        for budget in study.budgets:
            cells = select(summary["cells"], target=mixing["target"], budget=budget)
            known = [metric_named(name) for name in cells[0] if f"{name}_low" in cells[0]]
            about = [metric for metric in known if metric.section == LANGUAGES]
            metrics = sorted(about, key=lambda metric: ORDER.get(_kind(metric), len(ORDER)))
            decodings = {"without a language model": "", "with a language model": LM}
            listed_by = {title: [m for m in metrics if m.decoding == own] for title, own in decodings.items()}
            sections.append(
                {**mixing, "budget": budget, "sentences": mixing_sentences(mixing)}
                | {"starts": [cell["start"] for cell in cells]}
                | {"tables": {title: [_row(m, cells) for m in own] for title, own in listed_by.items() if own}}
            )
    return sections


# Places of metrics about languages, by the name of their family.
ORDER = {name: place for place, name in enumerate(("wer", "mer", "pier", "switch_boundary", "switch_word", "wer_cmi"))}


def _kind(metric: Metric) -> str:
    """The name of a metric's family, whatever the decoding."""
    return metric.name.partition("[")[0].removesuffix(suffix(LM))


def _row(metric: Metric, cells: list[Row]) -> Row:
    lowest = min(cell[metric.name] for cell in cells)
    return {
        "title": metric.title.removesuffix(" with a language model"),
        "rates": [
            {"start": cell["start"], "rate": rate(cell[metric.name]), "lowest": cell[metric.name] == lowest}
            | {"span": span(cell[f"{metric.name}_low"], cell[f"{metric.name}_high"])}
            for cell in cells
        ],
    }


def group_order(study: Study, row: Row) -> tuple[int, int]:
    return list(study.targets).index(row["target"]), study.budgets.index(row["budget"])


def contrast_rows(summary: Row) -> list[Row]:
    """Rows of the table of paired differences, all metrics in one row."""
    rows: dict[tuple, Row] = {}
    for contrast in summary["contrasts"]:
        keys = ("treatment", "baseline", "target", "budget")
        row = rows.setdefault(tuple(contrast[key] for key in keys), {key: contrast[key] for key in keys})
        row[contrast["metric"]] = {
            "difference": points(contrast["difference"]),
            "relative": change(contrast["relative"]),
            "span": changes(contrast["relative_low"], contrast["relative_high"]),
            "verdict": contrast["verdict"],
        }
    return list(rows.values())


def average_rows(summary: Row) -> list[Row]:
    """Rows of the table of mean relative changes over all targets, all metrics in one row."""
    rows: dict[tuple, Row] = {}
    for average in summary["averages"]:
        keys = ("treatment", "baseline", "budget")
        row = rows.setdefault(tuple(average[key] for key in keys), {key: average[key] for key in keys})
        row[average["metric"]] = {
            "relative": change(average["relative"]),
            "span": changes(average["relative_low"], average["relative_high"]),
            "verdict": average["verdict"],
        }
    return list(rows.values())


def speed_rows(summary: Row) -> list[Row]:
    """Rows of the table of speed-ups, by updates."""
    return [
        {**row, "times": f"{row['speedup']:.2f}", "span": f"[{row['low']:.2f},\N{NO-BREAK SPACE}{row['high']:.2f}]"}
        for row in select(summary["speed"], quantity="updates")
    ]


def claim_rows(study: Study, summary: Row) -> list[Row]:
    """The claims with what their verdicts rest on, in sentences, and their places on the common axis of the plots."""
    tested = [row for row in summary["claims"] if row["low"] is not None]
    ends = [row[key] for row in tested for key in ("low", "high", "size") if row[key] is not None]
    left, right = max(min([*ends, -0.1]), -0.6), min(max([*ends, 0.1]), 0.6)

    def place(value: float) -> float:
        """A relative change as a place between 0 and 100, where those beyond the axis are at its ends."""
        return round(100 * (min(max(value, left), right) - left) / (right - left), 2)

    rows = []
    for row in summary["claims"]:
        plot = None
        if row["low"] is not None:
            names = ("low", "high", "estimate", "size")
            plot = {name: None if row[name] is None else place(row[name]) for name in names} | {"zero": place(0.0)}
            plot |= {"nothing_low": place(-row["smallest_effect"]), "nothing_high": place(row["smallest_effect"])}
            plot |= {"cut_low": row["low"] < left, "cut_high": row["high"] > right}
            plot["left"], plot["right"] = change(left), change(right)
        rows.append({**row, "sentences": claim_sentences(study, summary, row), "plot": plot})
    return rows


def gap_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of representation gaps."""
    return [
        {**row, "gap": decimal(row["gap"]), "span": decimals(row["low"], row["high"])}
        for row in sorted(summary["representation_gap"], key=lambda r: group_order(study, r))
    ]


def gap_contrast_rows(summary: Row) -> list[Row]:
    """Rows of the table of paired differences of the gap."""
    return [
        {key: row[key] for key in ("treatment", "baseline", "target", "budget")}
        | {"difference": decimal(row["difference"], signed=True), "relative": change(row["relative"])}
        | {"span": decimals(row["low"], row["high"], signed=True), "verdict": row["verdict"]}
        for row in summary["representation_contrasts"]
    ]


def layer_rows(study: Study, summary: Row) -> list[Row]:
    """Rows of the table of similarities, every measure of a layer in one row."""
    rows: dict[tuple, Row] = {}
    for layer in sorted(summary["representation"], key=lambda r: group_order(study, r)):
        keys = ("target", "budget", "start", "layer")
        row = rows.setdefault(tuple(layer[key] for key in keys), {key: layer[key] for key in keys})
        row[layer["measure"]] = decimal(layer["similarity"])
        row[f"{layer['measure']}_span"] = decimals(layer["low"], layer["high"])
    return list(rows.values())


def times(folders: list[Row], summary: Row) -> list[Row]:
    """Wall time and parameters of each stage and start, over its runs, and its share of prior pre-training time."""
    shares = {row["start"]: row["share_of_pretraining"] for row in summary["stages"]}
    rows: dict[tuple, Row] = {}
    for folder in folders:
        seconds = folder["recipe"].get("wall_s")
        if seconds is None and folder["curve"] and "wall_s" in folder["curve"]:
            seconds = float(folder["curve"]["wall_s"][-1])
        row = rows.setdefault(
            (folder["stage"], folder["start"]),
            {"stage": folder["stage"], "start": folder["start"], "seconds": [], "parameters": None},
        )
        row["parameters"] = folder["recipe"].get("parameters", row["parameters"])
        row["seconds"] += [] if seconds is None else [float(seconds)]
    for row in rows.values():
        row |= {"runs": len(row["seconds"]), "total": sum(row["seconds"]) if row["seconds"] else None}
        row["mean"] = row["total"] / row["runs"] if row["runs"] else None
        row["share"] = shares.get(row["start"]) if row["stage"] in STAGES.values() else None
    return list(rows.values())
