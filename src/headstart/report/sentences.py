"""Sentences of the report, made from the numbers and verdicts of a summary.

A difference is called clear when its verdict is `lower` or `higher`, that is, when its interval excludes zero.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from headstart.score.metrics import METRICS, Metric
from headstart.study.study import Study
from headstart.summarise.statistics import Verdict

VERDICTS: dict[Verdict, str] = {
    "lower": "clearly lower",
    "higher": "clearly higher",
    "unclear": "no clear difference",
}
Row = dict[str, Any]


def verdict(row: Row) -> str:
    """The verdict of a difference, in words."""
    return VERDICTS[row["verdict"]]


def rate(value: float) -> str:
    """0.4523 as `45.2%`."""
    return f"{value:.1%}"


def percent(value: float) -> str:
    """A share without trailing zeros: 0.95 as `95%`, 0.999 as `99.9%`."""
    return f"{round(100 * value, 6):g}%"


def points(value: float) -> str:
    """A difference of rates in percentage points, with a sign: -0.123 as `−12.3`."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def change(value: float | None) -> str:
    """A relative change in percent, with a sign: -0.245 as `−24.5%`; an en dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:+.1%}".replace("-", "\N{MINUS SIGN}")


def span(low: float, high: float, signed: bool = False) -> str:
    """An interval in percent or percentage points, without line breaks: `[43.1, 47.4]`."""
    ends = [points(end) if signed else f"{100 * end:.1f}" for end in (low, high)]
    return f"[{ends[0]},\N{NO-BREAK SPACE}{ends[1]}]"


def decimal(value: float, signed: bool = False) -> str:
    """A similarity or a gap with three decimals: `0.873`; a difference with its sign: `−0.041`."""
    return f"{value:{'+' if signed else ''}.3f}".replace("-", "\N{MINUS SIGN}")


def decimals(low: float, high: float, signed: bool = False) -> str:
    """An interval of similarities or gaps, without line breaks: `[0.861, 0.880]`."""
    return f"[{decimal(low, signed)},\N{NO-BREAK SPACE}{decimal(high, signed)}]"


def count(value: float | None) -> str:
    """A count with thousands separators and at most one decimal: `1,250`; an en dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:,.1f}".removesuffix(".0")


def duration(seconds: float | None) -> str:
    """Seconds as `42 s`, `3 min 10 s` or `5 h 02 min`; an en dash for None."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# ---------------------------------------------------------------------------------------------- the answer


def select(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def overall(study: Study, summary: Row) -> str:
    """One sentence about all targets and budgets; empty when there is only one, or only one start."""
    groups = [(target, budget) for target in study.targets for budget in study.budgets]
    if len(groups) < 2 or len(study.starts) < 2:
        return ""
    metric = summary["metric"]
    wins: Counter = Counter()
    clear: Counter = Counter()
    for target, budget in groups:
        cells = select(summary["cells"], target=target, budget=budget)
        best = min(cells, key=lambda row: row[metric])["start"]
        wins[best] += 1
        against = select(
            summary["contrasts"],
            target=target,
            budget=budget,
            metric=metric,
            treatment=best,
            baseline=study.baseline,
        )
        clear[best] += bool(against) and against[0]["verdict"] == "lower"
    parts = []
    for start, won in wins.most_common():
        part = f"{start} in {won} of {len(groups)}"
        if start != study.baseline:
            part += f" ({VERDICTS['lower']} than {study.baseline} in {clear[start]})"
        parts.append(part)
    return f"Lowest {METRICS[metric].label} over targets and label budgets: {'; '.join(parts)}."


def answer(study: Study, summary: Row, target: str, budget: str) -> Row:
    """The best start of one target and budget by the study's metric, compared with the baseline.

    `sentences` state the difference, whether it is clear, and how fast the best start converges. `notes` are about the
    other starts and the study's own contrasts.
    """
    group = {"target": target, "budget": budget}
    cells = select(summary["cells"], **group)
    metric = summary["metric"]
    best = min(cells, key=lambda row: row[metric])
    others = (
        f"{o.label}: {rate(best[o.name])} {span(best[f'{o.name}_low'], best[f'{o.name}_high'])}"
        for o in _others(metric)
    )
    return {
        **group,
        "best": best["start"],
        "alone": len(cells) == 1,
        "rate": rate(best[metric]),
        "span": span(best[f"{metric}_low"], best[f"{metric}_high"]),
        "other": "; ".join(others),
        "sentences": _against_baseline(study, summary, best["start"], group)
        + _speed(study, summary, best["start"], group),
        "notes": _other_starts(study, summary, best["start"], group) + _prepared(study, target),
    }


def _others(metric: str) -> list[Metric]:
    """All metrics except the study's own."""
    return [other for name, other in METRICS.items() if name != metric]


def _against_baseline(study: Study, summary: Row, best: str, group: Row) -> list[str]:
    """By how much the best start differs from the baseline, and whether that is clear."""
    if len(study.starts) == 1:
        return []
    metric = METRICS[summary["metric"]]
    if best == study.baseline:
        return [f"This is the baseline: no other start has a lower {metric.label} than {best}."]
    pair = {"treatment": best, "baseline": study.baseline, **group}
    contrasts = {row["metric"]: row for row in select(summary["contrasts"], **pair)}
    row = contrasts[metric.name]
    zero = "includes" if row["verdict"] == "unclear" else "excludes"
    sentence = (
        f"{metric.label} against {study.baseline}: {points(row['difference'])} percentage points, "
        f"{percent(summary['confidence'])} interval {span(row['low'], row['high'], signed=True)}. "
        f"That is {verdict(row)}: the interval {zero} zero."
    )
    for other in _others(metric.name):
        row = contrasts[other.name]
        ends = span(row["low"], row["high"], signed=True)
        sentence += f" {other.label}: {points(row['difference'])} {ends}, {verdict(row)}."
    return [sentence]


def _speed(study: Study, summary: Row, best: str, group: Row) -> list[str]:
    """After how many updates the best start reaches the baseline's final dev error; and the fastest start, if other."""
    rows = {row["start"]: row for row in select(summary["convergence"], **group)}
    baseline, row = rows.pop(study.baseline), rows.get(best)
    if not rows:
        return []
    metric = METRICS[summary["metric"]].label
    if baseline["reference_error"] is None:
        return [f"There is no learning curve of {study.baseline} by {metric}, so that convergence cannot be compared."]
    level = f"{study.baseline}'s final dev {metric} ({rate(baseline['reference_error'])})"
    sentences = []
    if row and row["updates"] is not None:
        sentences.append(f"It reaches {level} after {count(row['updates'])} updates{_pace(row, baseline)}.")
    elif row:
        sentences.append(
            f"It reaches {level} with {row['seeds_reached']} of {len(study.seeds)} seeds: "
            "too few for a typical number of updates."
        )
    reached = [other for other in rows.values() if other["updates"] is not None]
    fastest = min(reached, key=lambda other: other["updates"], default=row)
    # No sentence about a start that is only as fast as the best one.
    if fastest and fastest is not row and (not row or row["updates"] != fastest["updates"]):
        sentences.append(
            f"Fastest to {'that level' if row else level} is {fastest['start']}, after "
            f"{count(fastest['updates'])} updates{_pace(fastest, baseline)}."
        )
    return sentences


def _pace(row: Row, baseline: Row) -> str:
    """Compares a start's updates with those that the baseline itself needs to reach its final dev error."""
    ratio = row["ratio_to_baseline"]
    if ratio is None:
        return ""
    pace = f"{1 / ratio:.1f} times as fast" if ratio < 1 else "no faster"
    return f"; {baseline['start']} itself needs {count(baseline['updates'])}, so {pace}"


def _prepared(study: Study, target: str) -> list[str]:
    """Which starts were trained on transcripts of the target's own corpus before fine-tuning."""
    corpus = study.targets[target].corpus
    hours = {start: study.transcribed(start).get(corpus) for start in study.starts}
    named = ", ".join(f"{start} ({amount:g} h)" for start, amount in hours.items() if amount)
    if not named:
        return []
    return [f"Before fine-tuning, these starts were trained on transcripts of the target's own corpus: {named}."]


def _other_starts(study: Study, summary: Row, best: str, group: Row) -> list[str]:
    """Verdicts of the other starts against the baseline, and the study's own contrasts."""
    name = METRICS[summary["metric"]].label
    rows = select(summary["contrasts"], **group, metric=summary["metric"])
    others: dict[str, list[str]] = {}
    for row in rows:
        if row["baseline"] == study.baseline and row["treatment"] != best:
            others.setdefault(row["verdict"], []).append(row["treatment"])
    named = "; ".join(f"{VERDICTS[key]}: {', '.join(starts)}" for key, starts in others.items())
    notes = [f"Other starts against {study.baseline}, by {name}: {named}."] if named else []
    for row in rows:
        if row["baseline"] != study.baseline:
            notes.append(
                f"{row['treatment']} against {row['baseline']}, by {name}: {points(row['difference'])} "
                f"{span(row['low'], row['high'], signed=True)}, {verdict(row)}."
            )
    return notes
