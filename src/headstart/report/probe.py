"""What the report says of probes: whether they foretell the order of starts, and what picking a start by them costs."""

from __future__ import annotations

from typing import Any

from headstart.report.sentences import change, changes, count, duration, percent, probability, rate
from headstart.score.metrics import METRICS
from headstart.study.study import Study

Row = dict[str, Any]
RULES = {
    "probe": "the probe's lowest CER",
    "elsewhere": "the lowest error rate on the other targets",
    "chance": "any, at random",
}


def probe_sentences(study: Study, summary: Row) -> list[str]:
    """Sentences on the correlation of ranks and on time, for each budget."""
    metric, sentences = METRICS[summary["metric"]].label, []
    several = len(study.budgets) > 1
    for row in summary["probe"]["agreement"]:
        with_budget = f"With {row['budget']} of transcripts, " if several else ""
        if row["estimate"] is None:
            text = f"whether probes foretell the order of starts cannot be told: {row['reason']}."
        else:
            interval = f"{percent(summary['confidence'])} interval {decimal_span(row['low'], row['high'])}"
            text = (
                f"the order of {row['starts']} pre-trained starts by the probe's best layer agrees with their order by "
                f"{metric} after fine-tuning: Spearman's correlation is {decimal(row['estimate'])} in the mean over "
                f"{row['targets']} target{'s' if row['targets'] > 1 else ''} ({interval}, {probability(row['p'])})."
                if row["estimate"] > 0
                else f"the order of {row['starts']} pre-trained starts by the probe's best layer does not agree with "
                f"their order by {metric} after fine-tuning: Spearman's correlation is {decimal(row['estimate'])} "
                f"({interval}, {probability(row['p'])})."
            )
        sentences.append(with_budget + (text if with_budget else text[0].upper() + text[1:]))
    for row in summary["probe"]["times"]:
        if row["saved"] is not None:
            with_budget = f"With {row['budget']} of transcripts, " if several else ""
            what = f"all probes took {duration(row['probing'])}, all fine-tuning {duration(row['fine_tuning'])}; "
            what += f"fine-tuning only the start that the probe picks saves {_saved(row['saved'])}."
            sentences.append(with_budget + (what if with_budget else what[0].upper() + what[1:]))
    return sentences


def _saved(seconds: float) -> str:
    return duration(seconds) if seconds >= 0 else f"nothing: it takes {duration(-seconds)} more"


def rule_rows(probe: Row) -> list[Row]:
    """`budget`, `rule`, `regret`, `span` and `hits` of each way to pick a start, as text."""
    return [
        {"budget": row["budget"], "rule": RULES[row["rule"]], "regret": change(row["regret"])}
        | {"span": "" if row["low"] is None else changes(row["low"], row["high"])}
        | {"hits": f"{count(row['hits'])} of {row['targets']}"}
        for row in probe["rules"]
    ]


def pick_rows(probe: Row) -> list[Row]:
    """The rows of `picks`, as text."""
    return [
        {key: row[key] for key in ("target", "budget", "picked", "best")}
        | {"error": rate(row["error"]), "best_error": rate(row["best_error"]), "regret": change(row["regret"])}
        for row in probe["picks"]
    ]


def decimal(value: float) -> str:
    """A correlation with two decimals and a minus sign."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def decimal_span(low: float, high: float) -> str:
    """The interval of a correlation."""
    return f"[{decimal(low)},\N{NO-BREAK SPACE}{decimal(high)}]"
