"""Figures of how good predictions are: curves of one or several models in, a figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from gainakt.report.curves import series
from gainakt.report.drawing import MUTED, Figure

SIDE = 250


def calibration_figure(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw reliability curves: what was predicted against the share that was right.

    Args:
        curves: by name; points with `answers`, `probability` and `share_right`.
    """
    points = [
        {
            "line": name,
            "x": point["probability"],
            "y": point["share_right"],
            "says": f"{_prefix(name, curves)}predicted {point['probability']:.1%}, "
            f"right were {point['share_right']:.1%} of {point['answers']:,.0f}",
        }
        for name, curve in curves.items()
        for point in curve
    ]
    drawn = _square(points, list(curves), "predicted probability", "share answered right", "%")
    return alt.layer(
        _diagonal("perfectly calibrated"),
        drawn.mark_line(strokeWidth=1.5, aria=False),
        drawn.mark_point(filled=True, size=50, opacity=1).encode(description="says:N"),
    ).properties(width=SIDE, height=SIDE)


def roc_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Draw ROC curves.

    Args:
        curves: by name; points (share of wrong answers taken for right, share of right ones found).
    """
    points = [
        {
            "line": name,
            "x": x,
            "y": y,
            "says": f"{_prefix(name, curves)}finds {y:.1%} of the right answers while "
            f"{x:.1%} of the wrong ones pass for right",
        }
        for name, curve in curves.items()
        for x, y in curve
    ]
    drawn = _square(
        points, list(curves), "wrong answers taken for right", "right answers found", "%"
    )
    return alt.layer(
        _diagonal("guessing"),
        drawn.mark_line(aria=False).encode(order="x:Q"),
        # nothing to see, something to point at
        drawn.mark_point(filled=True, size=60, opacity=0).encode(description="says:N"),
    ).properties(width=SIDE, height=SIDE)


def _prefix(name: str, curves: Mapping[str, object]) -> str:
    return f"{name}: " if len(curves) > 1 else ""


def _square(
    points: list[dict[str, object]], names: Sequence[str], x: str, y: str, form: str
) -> Figure:
    unit = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format=form, values=[0, 0.25, 0.5, 0.75, 1], grid=True)
    return alt.Chart(alt.InlineData(points)).encode(
        x=alt.X("x:Q", title=x, scale=unit, axis=axis),
        y=alt.Y("y:Q", title=y, scale=unit, axis=axis),
        color=series(names),
    )


def _diagonal(says: str) -> Figure:
    ends = alt.Chart(alt.InlineData([{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
    label = alt.Chart(alt.InlineData([{"x": 0.98, "y": 0.03, "says": says}]))
    return alt.layer(
        ends.mark_line(color=MUTED, strokeDash=[3, 3], strokeWidth=1, aria=False).encode(
            x="x:Q", y="y:Q"
        ),
        label.mark_text(align="right", color=MUTED, aria=False).encode(
            x="x:Q", y="y:Q", text=alt.value(f"dashed: {says}")
        ),
    )
