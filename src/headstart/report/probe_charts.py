"""The charts of the section about probes."""

from __future__ import annotations

import altair as alt

from headstart.report.charts import Row, Spec, Style, as_spec, colour_by, dash_by, inline, shape_by, tooltip_of


def layer_chart(rows: list[Row], styles: dict[str, Style]) -> Spec:
    """CER by layer: a line for each start, and a large dot at its best layer.

    `rows` have start, layer, cer, best and label.
    """
    layers = sorted({row["layer"] for row in rows})
    x = alt.X("layer:Q", title="layer").axis(format="d", values=layers, grid=False)
    y = alt.Y("cer:Q", title=None, scale=alt.Scale(zero=False)).axis(format="%", tickCount=5)
    line = alt.Chart(inline(rows)).mark_line(strokeWidth=2)
    line = line.encode(x=x, y=y, color=colour_by(styles), strokeDash=dash_by(styles))
    dots = alt.Chart(inline(rows)).mark_point(filled=True, opacity=1)
    dots = dots.encode(
        x=x,
        y=y,
        color=colour_by(styles),
        shape=shape_by(styles),
        size=alt.Size("best:N", scale=alt.Scale(domain=[False, True], range=[18, 100]), legend=None),
        tooltip=tooltip_of("start", "layer", "label"),
    )
    return as_spec(alt.layer(line, dots), height=240)


def against_chart(rows: list[Row], styles: dict[str, Style]) -> Spec:
    """Error rate after fine-tuning against the probe's CER: a point for each start, target and budget.

    `rows` have start, target, cer, error and label.
    """
    x = alt.X("cer:Q", title="CER of the probe", scale=alt.Scale(zero=False)).axis(format="%", tickCount=5, grid=False)
    y = alt.Y("error:Q", title=None, scale=alt.Scale(zero=False)).axis(format="%", tickCount=5)
    dots = alt.Chart(inline(rows)).mark_point(filled=True, size=55, opacity=0.8)
    dots = dots.encode(
        x=x, y=y, color=colour_by(styles), shape=shape_by(styles), tooltip=tooltip_of("start", "target", "label")
    )
    return as_spec(alt.layer(dots), height=240)
