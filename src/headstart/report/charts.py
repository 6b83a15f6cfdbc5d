"""Vega-Lite charts of the report, as plain dicts. Each fills the width of its container and contains no network
address.

Colours are CSS variables of the page (`var(--start-3)`), so the same chart works in light mode, dark mode and
print. A start has the same colour, marker and dash in every chart, so that readers who cannot tell two colours
apart can use the other two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from headstart.study.study import Study

# The page defines --start-0 (the baseline's, a neutral grey) to --start-15. From the 17th start on, the others repeat
# with another marker: 7 markers have no common divisor with 15 colours.
COLOURS = 16
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (12, 4))
Row = dict[str, Any]
Spec = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """Colour, marker and dash of one start."""

    colour: str
    shape: str
    dash: tuple[int, ...]


def start_styles(study: Study) -> dict[str, Style]:
    """The style of every start: the baseline has the first, the others follow in the order of the study file."""
    starts = [study.baseline, *(start for start in study.starts if start != study.baseline)]
    return {
        start: Style(
            f"var(--start-{i % COLOURS if i < COLOURS else 1 + (i - 1) % (COLOURS - 1)})",
            SHAPES[i % len(SHAPES)],
            DASHES[i % len(DASHES)],
        )
        for i, start in enumerate(starts)
    }


def thinned(curve: dict[str, np.ndarray], limit: int) -> dict[str, np.ndarray]:
    """At most `limit` rows of a curve, evenly spaced, including the first and the last."""
    rows = len(curve["step"])
    keep = np.unique(np.linspace(0, rows - 1, min(rows, max(limit, 2))).round().astype(int))
    return {name: values[keep] for name, values in curve.items()}


def points_each(points: int, curves: int) -> int:
    """How many points each of `curves` curves may have, so that all together have about `points`."""
    return min(200, max(8, points // max(1, curves)))


def dot_chart(rows: list[Row], seeds: list[Row], styles: dict[str, Style], top: float) -> Spec:
    """Error rates of one target and budget: a dot and whisker for each start, a small ring for each seed.

    `rows` have start, rate, low, high, label, text and seeds; `seeds` have start, seed, rate and label; `top` is the
    end of the axis.
    """
    y = alt.Y("start:N", sort=list(styles), title=None).axis(labelLimit=130)
    x = alt.X("rate:Q", title=None, scale=alt.Scale(domain=[0, top])).axis(format="%", tickCount=5)
    chart = alt.Chart(inline(rows)).encode(y=y, color=colour_by(styles))
    whisker = chart.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q").transform_calculate(rate="datum.low")
    dot = chart.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, shape=shape_by(styles), tooltip=tooltip_of("start", "label", "seeds")
    )
    text = chart.mark_text(dy=-13, fontWeight=600).encode(x=x, text="text:N")
    rings = alt.Chart(inline(seeds)).mark_point(size=22, strokeWidth=1, opacity=0.55)
    rings = rings.encode(x=x, y=y, color=colour_by(styles), tooltip=tooltip_of("start", "seed", "label"))
    return as_spec(alt.layer(whisker, rings, dot, text), height=42 * len(rows) + 8)


def budget_chart(rows: list[Row], order: list[str], styles: dict[str, Style], top: float) -> Spec:
    """Error rates of one target over label budgets: `rows` as in `dot_chart`, each also with its budget."""
    offset = alt.XOffset("start:N", sort=list(styles))
    gaps = alt.Scale(paddingInner=0.5, paddingOuter=0.25)
    x = alt.X("budget:O", sort=order, title="labelled audio", scale=gaps).axis(labelAngle=0)
    y = alt.Y("rate:Q", title=None, scale=alt.Scale(domain=[0, top])).axis(format="%", tickCount=5)
    chart = alt.Chart(inline(rows)).encode(x=x, xOffset=offset, color=colour_by(styles))
    line = chart.mark_line(strokeWidth=1.2, opacity=0.6).encode(y=y, strokeDash=dash_by(styles))
    whisker = chart.mark_rule(strokeWidth=2.5).encode(y=y, y2="high:Q").transform_calculate(rate="datum.low")
    dot = chart.mark_point(filled=True, size=70, opacity=1).encode(
        y=y, shape=shape_by(styles), tooltip=tooltip_of("start", "budget", "label", "seeds")
    )
    return as_spec(alt.layer(line, whisker, dot), height=260)


def difference_chart(rows: list[Row], styles: dict[str, Style], low: float, high: float) -> Spec:
    """Paired differences in percentage points against a line at zero, on an axis from `low` to `high`.

    `rows` have treatment, baseline, pair (lines of the label, separated by line feeds), difference, low, high, label
    and verdict.
    """
    lines = alt.Axis(labelExpr="split(datum.label, '\\n')", labelLimit=150, labelLineHeight=14)
    y = alt.Y("pair:N", sort=None, title=None, axis=lines)
    x = alt.X("difference:Q", title="percentage points", scale=alt.Scale(domain=[low, high])).axis(tickCount=5)
    chart = alt.Chart(inline(rows)).encode(y=y, color=colour_by(styles, "treatment"))
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(color="var(--ink)", strokeWidth=1.5).encode(x="zero:Q")
    whisker = chart.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q").transform_calculate(difference="datum.low")
    dot = chart.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, shape=shape_by(styles, "treatment"), tooltip=tooltip_of("treatment", "baseline", "label", "verdict")
    )
    return as_spec(alt.layer(zero, whisker, dot), height=48 * len(rows) + 8)


def depth_chart(rows: list[Row], styles: dict[str, Style], low: float) -> Spec:
    """Similarity by layer: a line and a band of intervals for each start, on an axis from `low` to 1.

    `rows` have start, layer, similarity, low, high and label.
    """
    x = alt.X("layer:Q", title="layer").axis(format="d", values=sorted({row["layer"] for row in rows}), grid=False)
    y = alt.Y("similarity:Q", title=None, scale=alt.Scale(domain=[low, 1])).axis(tickCount=5)
    chart = alt.Chart(inline(rows)).encode(x=x, color=colour_by(styles))
    band = chart.mark_area(opacity=0.18).encode(y=y, y2="high:Q").transform_calculate(similarity="datum.low")
    line = chart.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash_by(styles))
    dot = chart.mark_point(filled=True, size=70, opacity=1).encode(
        y=y, shape=shape_by(styles), tooltip=tooltip_of("start", "layer", "label")
    )
    return as_spec(alt.layer(band, line, dot), height=240)


def curve_chart(
    runs: list[tuple[str, int, dict[str, np.ndarray]]],
    column: str,
    styles: dict[str, Style],
    *,
    percent: bool = True,
    reference: float | None = None,
    reached: list[Row] = (),
    limit: int = 200,
) -> Spec | None:
    """`column` against updates: a thin line for each run (start, seed, curve), a thick one for the mean of a
    start.

    A dashed line marks the level `reference`, and `reached` (rows of start, updates and label) the points at which
    starts reach it. Curves have at most `limit` points. None when no curve has the column.
    """
    thin, mean = [], []
    for start in styles:
        seeds = [(seed, c) for name, seed, c in runs if name == start and has(c, column)]
        for seed, curve in seeds if len(seeds) > 1 else ():
            curve = thinned(_finite(curve, column), limit)
            thin += [
                {"start": start, "seed": seed, "step": int(s), "y": _short(v)}
                for s, v in zip(curve["step"], curve[column], strict=True)
            ]
        mean += _mean_rows(start, [_finite(curve, column) for _, curve in seeds], column, percent, limit)
    if not mean:
        return None
    axis = {"format": "%"} if percent else {"format": "~g"}
    x = alt.X("step:Q", title="updates").axis(format=",d", tickCount=5, grid=False)
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=percent)).axis(tickCount=5, **axis)
    line = {"x": x, "y": y, "color": colour_by(styles)}
    layers = [
        alt.Chart(inline(mean)).mark_line(strokeWidth=2.5).encode(**line, strokeDash=dash_by(styles)),
        # Large invisible points, so that tooltips are easy to hit on a touch screen.
        alt.Chart(inline(mean))
        .mark_point(size=160, opacity=0, filled=True)
        .encode(x=x, y=y, tooltip=tooltip_of("start", "step", "label")),
    ]
    if thin:
        seed_lines = alt.Chart(inline(thin)).mark_line(strokeWidth=1, opacity=0.4)
        layers.insert(0, seed_lines.encode(**line, detail="seed:N"))
    if reference is not None:
        rule = alt.Chart(inline([{"y": reference}])).mark_rule(color="var(--muted)", strokeDash=[3, 3])
        layers.insert(0, rule.encode(y=y))
    if reached:
        marks = [{**row, "y": reference, "step": row["updates"]} for row in reached]
        point = alt.Chart(inline(marks)).mark_point(filled=True, size=110, opacity=1)
        layers.append(point.encode(**line, shape=shape_by(styles), tooltip=tooltip_of("start", "label")))
    return as_spec(alt.layer(*layers), height=240)


def _mean_rows(start: str, seeds: list[dict], column: str, percent: bool, limit: int) -> list[Row]:
    """The mean over seeds, at the updates at which every seed was evaluated."""
    if not seeds:
        return []
    steps = seeds[0]["step"]
    for curve in seeds[1:]:
        steps = np.intersect1d(steps, curve["step"])
    if not steps.size:
        return []
    values = np.mean([c[column][np.searchsorted(c["step"], steps)] for c in seeds], axis=0)
    mean = thinned({"step": steps, column: values}, limit)
    return [
        {"start": start, "step": int(s), "y": _short(v), "label": f"{v:.1%}" if percent else f"{v:.4g}"}
        for s, v in zip(mean["step"], mean[column], strict=True)
    ]


def has(curve: dict[str, np.ndarray], column: str) -> bool:
    """Whether a curve has a number in a column."""
    return column in curve and bool(np.isfinite(curve[column]).any())


def _finite(curve: dict[str, np.ndarray], column: str) -> dict[str, np.ndarray]:
    rows = np.isfinite(curve[column])
    return {"step": curve["step"][rows], column: curve[column][rows]}


def with_unexplained(curve: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A data2vec curve with its loss also as a share of the targets' mean square, which changes as the teacher does."""
    if "regression_loss" not in curve:
        return curve
    return {**curve, "unexplained": curve["regression_loss"] / curve["trivial_loss"]}


def _short(value: float) -> float:
    """`value` with four significant digits, which suffice on a screen and take fewer bytes."""
    return float(f"{value:.4g}")


def inline(rows: list[Row]) -> alt.InlineData:
    """The rows as the data of a chart."""
    return alt.InlineData(values=rows)


def colour_by(styles: dict[str, Style], field: str = "start") -> alt.Color:
    """The colour of the start in a field."""
    scale = alt.Scale(domain=list(styles), range=[style.colour for style in styles.values()])
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def shape_by(styles: dict[str, Style], field: str = "start") -> alt.Shape:
    """The marker of the start in a field."""
    scale = alt.Scale(domain=list(styles), range=[style.shape for style in styles.values()])
    return alt.Shape(f"{field}:N", scale=scale, legend=None)


def dash_by(styles: dict[str, Style]) -> alt.StrokeDash:
    """The dash of the start."""
    scale = alt.Scale(domain=list(styles), range=[list(style.dash) or [1, 0] for style in styles.values()])
    return alt.StrokeDash("start:N", scale=scale, legend=None)


def tooltip_of(*fields: str) -> list[alt.Tooltip]:
    """A tooltip that shows fields under their names for readers."""
    names = {"label": "value", "step": "updates", "seeds": "over"}
    return [alt.Tooltip(f"{field}:N", title=names.get(field, field)) for field in fields]


def as_spec(chart: alt.LayerChart, height: int) -> Spec:
    """The chart as a dict, as wide as its container, without the schema's address and Altair's default config."""
    autosize = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec = chart.properties(width="container", height=height, autosize=autosize).to_dict()
    spec.pop("$schema")
    spec.pop("config", None)
    return spec
