"""The charts of the section about transfer."""

from __future__ import annotations

import altair as alt

from headstart.report.charts import Row, Spec, Style, as_spec, colour_by, inline, shape_by, tooltip_of


def similarity_chart(rows: list[Row], styles: dict[str, Style]) -> Spec:
    """Change against similarity, a point for each start and language.

    `rows` have start, language, similarity, change and label.
    """
    scale = alt.Scale(zero=False, padding=8)
    x = alt.X("similarity:Q", title="similarity of the nearest language", scale=scale)
    x = x.axis(tickCount=5, grid=False)
    y = alt.Y("change:Q", title=None).axis(format="+%", tickCount=5)
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(color="var(--ink)").encode(y="zero:Q")
    dots = alt.Chart(inline(rows)).mark_point(filled=True, size=45, opacity=0.75)
    dots = dots.encode(
        x=x, y=y, color=colour_by(styles), shape=shape_by(styles), tooltip=tooltip_of("start", "language", "label")
    )
    return as_spec(alt.layer(zero, dots), height=280)


def amount_chart(rows: list[Row], styles: dict[str, Style], field: str, title: str, numbers: str | None = None) -> Spec:
    """Mean change of each start against an amount of pre-training data, on a logarithmic axis.

    `rows` have start, change, label, the amount `field`, and perhaps another, `numbers`, which stands beside the point.
    """
    x = alt.X(f"{field}:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=18)).axis(
        format="~g", tickCount=4, grid=False
    )
    y = alt.Y("change:Q", title=None, scale=alt.Scale(zero=False, padding=14)).axis(format="+%", tickCount=5)
    chart = alt.Chart(inline(rows)).encode(x=x, y=y, color=colour_by(styles))
    dots = chart.mark_point(filled=True, size=80, opacity=0.9).encode(
        shape=shape_by(styles), tooltip=tooltip_of("start", "label")
    )
    text = [chart.mark_text(dx=8, align="left").encode(text=f"{numbers}:N")] if numbers else []
    return as_spec(alt.layer(dots, *text), height=280)


def rank_chart(rows: list[Row], styles: dict[str, Style]) -> Spec:
    """Ranks with intervals, the best start first. `rows` have start, rank, low, high and label."""
    y = alt.Y("start:N", sort=[row["start"] for row in rows], title=None).axis(labelLimit=150)
    scale = alt.Scale(domain=[0.5, len(rows) + 0.5], nice=False)
    x = alt.X("rank:Q", title="rank", scale=scale).axis(format="d", tickMinStep=1)
    chart = alt.Chart(inline(rows)).encode(y=y, color=colour_by(styles))
    whisker = chart.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q").transform_calculate(rank="datum.low")
    dots = chart.mark_point(filled=True, size=90, opacity=1)
    dots = dots.encode(x=x, shape=shape_by(styles), tooltip=tooltip_of("start", "label"))
    return as_spec(alt.layer(whisker, dots), height=24 * len(rows) + 8)
