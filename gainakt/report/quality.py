"""Figures of how good predictions are: curves of one or several models in, a figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from gainakt.evaluation.calibration import Calibration
from gainakt.evaluation.metrics import roc_curve
from gainakt.report.curves import dashes, series
from gainakt.report.drawing import MUTED, Figure
from gainakt.report.material import Split

SIDE = 250


@dataclass(frozen=True)
class Curve:
    """A curve's name, whose it is where several have one name, and its points."""

    name: str
    points: Sequence[Mapping[str, float]]
    run: str = ""

    def labelled(self, x: str, y: str, says: str, *, alone: bool) -> list[dict[str, object]]:
        """Return the points for a figure; `says` is filled in with each point's values."""
        prefix = "" if alone else f"{self.run or self.name}: "
        return [
            {
                "line": self.name,
                "run": self.run,
                "x": point[x],
                "y": point[y],
                "says": prefix + says.format(**point),
            }
            for point in self.points
        ]

    def rows(self) -> list[dict[str, object]]:
        """Return the points for a table."""
        return [{"of": self.run or self.name, **point} for point in self.points]


def reliability(name: str, split: Split, run: str = "") -> Curve:
    """Return what was predicted against the share that was right."""
    return Curve(name, Calibration(split.answer, split.probability).curve(), run)


def calibration_figure(curves: Sequence[Curve]) -> Figure:
    """Draw reliability curves."""
    says = "predicted {probability:.1%}, right were {share_right:.1%} of {answers:,.0f}"
    points = _all(curves, "probability", "share_right", says)
    drawn = _square(points, curves, "predicted probability", "share answered right")
    return alt.layer(
        _diagonal("perfectly calibrated"),
        drawn.mark_line(strokeWidth=1.5, aria=False).encode(strokeDash=dashes(_names(curves))),
        drawn.mark_point(filled=True, size=50, opacity=1).encode(description="says:N"),
    ).properties(width=SIDE, height=SIDE)


def roc(name: str, split: Split, run: str = "") -> Curve:
    """Return the share of right answers found against that of wrong ones taken for right."""
    corners = roc_curve(split.answer, split.probability)
    points = [{"false_positive_rate": x, "true_positive_rate": y} for x, y in corners]
    return Curve(name, points, run)


def roc_figure(curves: Sequence[Curve]) -> Figure:
    """Draw ROC curves."""
    says = (
        "finds {true_positive_rate:.1%} of the right answers while {false_positive_rate:.1%} of "
        "the wrong ones pass for right"
    )
    points = _all(curves, "false_positive_rate", "true_positive_rate", says)
    drawn = _square(points, curves, "wrong answers taken for right", "right answers found")
    return alt.layer(
        _diagonal("guessing"),
        drawn.mark_line(aria=False).encode(order="x:Q", strokeDash=dashes(_names(curves))),
        # nothing to see, something to point at
        drawn.mark_point(filled=True, size=60, opacity=0).encode(description="says:N"),
    ).properties(width=SIDE, height=SIDE)


def _all(curves: Sequence[Curve], x: str, y: str, says: str) -> list[dict[str, object]]:
    alone = len(curves) == 1
    return [point for curve in curves for point in curve.labelled(x, y, says, alone=alone)]


def _names(curves: Sequence[Curve]) -> list[str]:
    return list(dict.fromkeys(curve.name for curve in curves))


def _square(points: list[dict[str, object]], curves: Sequence[Curve], x: str, y: str) -> Figure:
    unit = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1], grid=True)
    return alt.Chart(alt.InlineData(points)).encode(
        x=alt.X("x:Q", title=x, scale=unit, axis=axis),
        y=alt.Y("y:Q", title=y, scale=unit, axis=axis),
        color=series(_names(curves)),
        detail="run:N",
    )


def _diagonal(says: str) -> Figure:
    ends = alt.Chart(alt.InlineData([{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
    label = alt.Chart(alt.InlineData([{"x": 0.98, "y": 0.03, "says": f"dashed: {says}"}]))
    return alt.layer(
        ends.mark_line(color=MUTED, strokeDash=[3, 3], strokeWidth=1, aria=False).encode(
            x="x:Q", y="y:Q"
        ),
        label.mark_text(align="right", color=MUTED, aria=False).encode(
            x="x:Q", y="y:Q", text="says:N"
        ),
    )
