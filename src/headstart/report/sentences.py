"""Sentences of the report, made from the numbers and verdicts of a summary."""

from __future__ import annotations

from collections import Counter
from typing import Any

from headstart.score.metrics import METRICS, Metric, metric_named
from headstart.study.study import Study

VERDICTS = {
    "lower": "clearly lower",
    "higher": "clearly higher",
    "faster": "clearly faster",
    "slower": "clearly slower",
    "equal": "equal",
    "unclear": "unclear",
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


def probability(p: float) -> str:
    """A p value: `p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def changes(low: float, high: float) -> str:
    """The interval of a relative change in percent: `[−16.3, −7.4]`."""
    return span(low, high, signed=True)


def listed(names: list[str]) -> str:
    """Names as they stand in a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# ---------------------------------------------------------------------------------------------- the answer


def select(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def overall(study: Study, summary: Row) -> str:
    """The answer to the study in a sentence or two; empty with one start."""
    if len(study.starts) == 1:
        return ""
    name = summary["metric"]
    metric = METRICS[name]
    best = select(summary["best"], metric=name)
    (start, won), *_ = Counter(row["start"] for row in best).most_common()
    sentence = f"{start} has the lowest {metric.label}"
    if len(best) > 1:
        several = {"targets": len(study.targets) > 1, "label budgets": len(study.budgets) > 1}
        named = [name for name, more in several.items() if more]
        what = named[0] if len(named) == 1 else "combinations of target and label budget"
        sentence += f" {'on' if several['targets'] else 'with'} {won} of {len(best)} {what}"
    sentence += "."
    if start == study.baseline:
        return sentence + " It is the baseline: nothing that was tried is better."
    parts = []
    averages = select(summary["averages"], treatment=start, baseline=study.baseline, metric=name)
    for row in averages or select(summary["contrasts"], treatment=start, baseline=study.baseline, metric=name):
        budget = f" with {row['budget']} of transcripts" if len(study.budgets) > 1 else ""
        parts.append(
            f"{_much(row['relative'])} than that of {study.baseline}{budget} "
            f"({percent(summary['confidence'])} interval {changes(row['relative_low'], row['relative_high'])}), "
            f"which is {'clear' if row['verdict'] in ('lower', 'higher') else VERDICTS[row['verdict']]}"
        )
    where = "On average over the targets, its" if averages else "Its"
    return f"{sentence} {where} {metric.label} is {'; '.join(parts)}."


def _much(relative: float) -> str:
    """A relative change as a comparison: `13.6% lower`."""
    return f"{abs(relative):.1%} {'lower' if relative < 0 else 'higher'}"


def answer(study: Study, summary: Row, target: str, budget: str) -> Row:
    """The best start of one target and budget by the study's metric, compared with the baseline.

    `sentences` say how much better it is, how sure that is, and how much faster it converges. `notes` are about the
    other metrics, the other starts and the study's own contrasts.
    """
    group = {"target": target, "budget": budget}
    (best,) = select(summary["best"], **group, metric=summary["metric"])
    (cell,) = select(summary["cells"], **group, start=best["start"])
    metric = summary["metric"]
    others = (
        f"{o.label}: {rate(cell[o.name])} {span(cell[f'{o.name}_low'], cell[f'{o.name}_high'])}"
        for o in _others(metric, cell)
    )
    return {
        **group,
        "best": best["start"],
        "alone": len(study.starts) == 1,
        "rate": rate(cell[metric]),
        "span": span(cell[f"{metric}_low"], cell[f"{metric}_high"]),
        "other": "; ".join(others),
        "sentences": _against_baseline(study, summary, best["start"], group)
        + _rivals(study, best)
        + _speed(study, summary, best["start"], group),
        "notes": _other_starts(study, summary, best["start"], group) + _prepared(study, target),
    }


def _others(metric: str, row: Row) -> list[Metric]:
    """The metrics by which starts are compared that a row has, except the study's own."""
    return [other for name, other in METRICS.items() if other.section == "rates" and name != metric and name in row]


def _against_baseline(study: Study, summary: Row, best: str, group: Row) -> list[str]:
    """By how much the best start differs from the baseline, and how sure that is."""
    if len(study.starts) == 1:
        return []
    metric = METRICS[summary["metric"]]
    if best == study.baseline:
        return [f"This is the baseline: no other start has a lower {metric.label}."]
    pair = {"treatment": best, "baseline": study.baseline, **group}
    contrasts = {row["metric"]: row for row in select(summary["contrasts"], **pair)}
    row = contrasts[metric.name]
    sentence = (
        f"That is {_much(row['relative'])} than {study.baseline} "
        f"({points(row['difference'])} points), with a {percent(summary['confidence'])} interval from "
        f"{change(row['relative_low'])} to {change(row['relative_high'])}: {_sure(row)}."
    )
    for other in _others(metric.name, contrasts):
        row = contrasts[other.name]
        ends = changes(row["relative_low"], row["relative_high"])
        sentence += f" {other.label}: {change(row['relative'])} {ends}, {verdict(row)}."
    return [sentence]


def _sure(row: Row) -> str:
    """A verdict with what it rests on."""
    if row["p"] is None:
        return "unclear, since one seed says nothing of how much runs vary"
    return f"{verdict(row)} ({probability(row['p_adjusted'])} after adjustment for all comparisons)"


def _rivals(study: Study, best: Row) -> list[str]:
    """Whether another start may be as good as the best one."""
    if len(study.starts) < 3:
        return []
    if not best["rivals"]:
        return ["Every other start is clearly worse."]
    verb = "is" if len(best["rivals"]) == 1 else "are"
    return [f"{listed(best['rivals'])} {verb} not clearly worse and may be as good."]


def _speed(study: Study, summary: Row, best: str, group: Row) -> list[str]:
    """How much faster than the baseline the best start reaches the level of convergence; and the fastest, if other."""
    metric = METRICS[summary["metric"]].label
    (baseline,) = select(summary["convergence"], **group, start=study.baseline)
    if len(study.starts) == 1:
        return []
    if baseline["reference_error"] is None:
        return [f"There is no learning curve of {study.baseline} by {metric}, so that speed cannot be compared."]
    rows = {
        row["treatment"]: row for row in select(summary["speed"], **group, quantity="updates", baseline=study.baseline)
    }
    level = level_name(study, metric, baseline["reference_error"])
    sentences = []
    if best in rows:
        sentences.append(f"It reaches {level} {pace(rows[best])}.")
    known = [row for row in rows.values() if row["bound"] != "none"]
    fastest = max(known, key=lambda row: row["speedup"], default=None)
    if (
        fastest
        and fastest["treatment"] != best
        and fastest["speedup"] > 1.1 * rows.get(best, {"speedup": 1.0})["speedup"]
    ):
        sentences.append(f"The fastest to get there is {fastest['treatment']}, {pace(fastest)}.")
    return sentences


def level_name(study: Study, metric: str, level: float) -> str:
    """The level of error that speed is compared at, in words."""
    if study.convergence.level is not None:
        return f"a dev {metric} of {rate(level)}"
    share = study.convergence.share
    part = "" if share in (None, 1.0) else f"{percent(share)} of "
    return f"{part}the final dev {metric} of {study.baseline} ({rate(level)})"


def pace(row: Row) -> str:
    """A speed-up in words: `2.8 times as fast as scratch [1.9, 4.0], clearly faster`."""
    if row["bound"] == "none":
        return f"with too few seeds, as {row['baseline']} does, to say which is faster"
    bound = f"{row['bound']} " if row["bound"] else ""
    return (
        f"{bound}{row['speedup']:.1f} times as fast as {row['baseline']} "
        f"[{row['low']:.1f},\N{NO-BREAK SPACE}{row['high']:.1f}], {verdict(row)}"
    )


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
                f"{row['treatment']} against {row['baseline']}, by {name}: {change(row['relative'])} "
                f"{changes(row['relative_low'], row['relative_high'])}, {verdict(row)}."
            )
    return notes


# ---------------------------------------------------------------------------------------------- code-switching

SOURCES = {
    "corpus": "tagged in the corpus",
    "script": "known by their script",
    "words": "inferred from word lists of other corpora",
}


def mixing_sentences(row: Row) -> list[str]:
    """What the references of a code-switched target are like."""
    total = sum(row["languages"].values())
    shares = [f"{words / total:.0%} {tag}" for tag, words in row["languages"].items()]
    origins = [f"{words / sum(row['source'].values()):.0%} {SOURCES[s]}" for s, words in row["source"].items()]
    if len(row["source"]) == 1:
        origins = [SOURCES[next(iter(row["source"]))]]
    index = f"The code-mixing index is {row['cmi']:.0f} (the mean over utterances; "
    switched = row["cmi_switched"]
    index += "none switches)" if switched is None else f"{switched:.0f} over those that switch)"
    if row["i_index"] is not None:
        index += f", and {row['i_index']:.0%} of neighbouring words differ in language"
    return [f"The reference words are {listed(shares)}; their languages are {listed(origins)}.", f"{index}."]


# ---------------------------------------------------------------------------------------------- claims

QUANTITIES = {
    "updates": "the number of updates to the level of convergence",
    "gap": "the representation gap",
    "seconds": "the time of training",
    "time": "training time",
}


def _quantity(name: str) -> str:
    return QUANTITIES.get(name) or f"the {metric_named(name).label}"


def claim_sentences(study: Study, summary: Row, row: Row) -> list[str]:
    """What a claim's verdict rests on, in sentences."""
    if row["verdict"] == "not tested":
        return [f"Not tested: {row['reason']}."]
    if row["metric"] == "time":
        return [
            f"Training {listed(row['treatment'])} took {rate(row['estimate'])} of the time of all pre-training before "
            f"it; up to {percent(row['size'])} counts as little. It was measured once, so there is no interval."
        ]
    verb = "is" if len(row["treatment"]) == 1 else "is, on average,"
    trained = row["metric"] == "seconds"
    where = "" if trained else f"On {listed(row['targets'])} with {listed(row['budgets'])} of transcripts, "
    quantity = _quantity(row["metric"])
    sentences = [
        f"{where}{quantity if where else quantity.capitalize()} of "
        f"{listed(row['treatment'])} {verb} {_much(row['estimate'])} than that of "
        f"{listed(list(dict.fromkeys(row['baseline'])))}: {percent(summary['confidence'])} interval "
        f"{changes(row['low'], row['high'])}, {probability(row['p_adjusted'])} after adjustment for all claims, from "
        f"{len(row['runs'])} {'trainings' if trained else 'runs'}."
    ]
    if row["size"] is not None:
        inside = "inside" if row["low"] <= row["size"] <= row["high"] else "outside"
        sentences.append(f"The source reports {change(row['size'])}, which is {inside} the interval.")
    if row["verdict"] == "equal":
        sentences.append(f"A change by {percent(row['smallest_effect'])} or more is ruled out.")
    if row["needs"]:
        sentences.append(_needed(study, row))
    return sentences


def _needed(study: Study, row: Row) -> str:
    """What would decide an inconclusive claim."""
    effect = f"To find a change by {percent(row['smallest_effect'])} in four of five such studies"
    seeds, test_set = row["needs"]["seeds"], row["needs"]["test_set"]
    if seeds is None:
        return f"{effect}, even 100 seeds would not be enough."
    more = f"{effect}, it would take {seeds} seeds"
    if test_set > 1:
        return f"{more} and {test_set:.1f} times as many test speakers, with as many hours more."
    return f"{more} (there are {len(study.seeds)})."
