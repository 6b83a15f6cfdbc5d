"""The rows of the report's tables: numbers of the summary as text."""

from __future__ import annotations

from typing import Any

from headstart.report.sentences import (
    change,
    changes,
    claim_sentences,
    decimal,
    decimals,
    points,
    rate,
    select,
    span,
)
from headstart.score.metrics import METRICS, Metric
from headstart.study.study import Study

Row = dict[str, Any]
STAGES = {"ssl": "pre-training", "semisup": "semi-supervised training"}  # kind of start -> name of its stage


def shown_metrics(study: Study, summary: Row) -> dict[str, Metric]:
    """The metrics that apply to all targets, the study's own first."""
    everywhere = {name: metric for name, metric in METRICS.items() if all(name in cell for cell in summary["cells"])}
    return {study.report.metric: METRICS[study.report.metric], **everywhere}


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
