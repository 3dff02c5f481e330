"""Figures of training: values by epoch in, a figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from gainakt.report.drawing import (
    DASHES,
    GREY,
    HEIGHT,
    INK,
    MUTED,
    SERIES,
    WIDTH,
    Figure,
)

Row = Mapping[str, float | None]
# More epochs than this, and a mark on each would hide the line.
MARKED_EPOCHS = 40


@dataclass(frozen=True)
class Line:
    """A column of a run's epoch rows, to be drawn as one line; lines of one name look alike."""

    name: str
    rows: Sequence[Row]
    column: str
    run: str = ""

    def points(self) -> list[dict[str, Any]]:
        """Return what the rows have of it."""
        return [
            {
                "epoch": row["epoch"],
                "value": value,
                "line": self.name,
                "run": self.run,
                "says": f"{self.run or self.name}, epoch {row['epoch']:.0f}: {value:.4f}",
            }
            for row in self.rows
            if (value := row.get(self.column)) is not None
        ]


def epoch_curves(lines: Sequence[Line], title: str, best_epoch: int | None = None) -> Figure:
    """Draw lines over epochs, with the best epoch marked where there is one."""
    points = [point for line in lines for point in line.points()]
    names = list(dict.fromkeys(line.name for line in lines))
    epochs = sorted({point["epoch"] for point in points})
    base = alt.Chart(alt.InlineData(points)).encode(
        x=_epochs(epochs),
        y=alt.Y(
            "value:Q",
            title=title,
            scale=alt.Scale(zero=False, nice=True, padding=8),
            axis=alt.Axis(format=_decimals([point["value"] for point in points]), tickCount=6),
        ),
        color=series(names),
        detail="run:N",
    )
    layers = []
    if best_epoch is not None:
        layers += _best(best_epoch, epochs, points)
    layers.append(base.mark_line(aria=False).encode(strokeDash=dashes(names)))
    size = 40 if len(epochs) <= MARKED_EPOCHS else 12
    layers.append(base.mark_point(filled=True, size=size, opacity=1).encode(description="says:N"))
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)


def series(names: Sequence[str]) -> alt.Color:
    """Give each name a colour, in the order given."""
    colours = [SERIES[i % len(SERIES)] for i in range(len(names))]
    return alt.Color(
        "line:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=colours),
        legend=alt.Legend(symbolType="circle", columns=3 if max(map(len, names)) > 2 else 6)
        if len(names) > 1
        else None,
    )


def dashes(names: Sequence[str]) -> alt.StrokeDash:
    """Give names that share a colour another dash."""
    chosen = [DASHES[i // len(SERIES) % len(DASHES)] for i in range(len(names))]
    return alt.StrokeDash("line:N", scale=alt.Scale(domain=list(names), range=chosen), legend=None)


def _decimals(values: Sequence[float]) -> str:
    """The format in which neighbouring ticks differ."""
    spread = max(values) - min(values)
    return ".2f" if spread > 0.05 else ".3f" if spread > 0.005 else ".4f"


def _epochs(epochs: Sequence[float]) -> alt.X:
    first, last = int(min(epochs)), int(max(epochs))
    every = max(1, -(-(last - first + 1) // 10))
    axis = alt.Axis(
        values=list(range(first, last + 1, every)), format="d", title="epoch", labelFlush=False
    )
    margin = 0.4 if last == first else (last - first) * 0.03
    scale = alt.Scale(domain=[first - margin, last + margin], nice=False)
    return alt.X("epoch:Q", axis=axis, scale=scale)


def _best(best: int, epochs: Sequence[float], points: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """A rule at the best epoch and its label, to the roomier side and where no line runs."""
    late = best > (min(epochs) + max(epochs)) / 2
    reach = (max(epochs) - min(epochs)) * 0.35
    begin, end = (best - reach, best) if late else (best, best + reach)
    low, high = (pick(point["value"] for point in points) for pick in (min, max))
    near = [point["value"] for point in points if begin <= point["epoch"] <= end]
    below = not near or min(near) - low >= high - max(near)
    mark = alt.Chart(alt.InlineData([{"epoch": best, "text": f"best: epoch {best}"}])).encode(
        x=_epochs(epochs)
    )
    return [
        mark.mark_rule(color=MUTED, strokeDash=[3, 3], aria=False),
        mark.mark_text(
            align="right" if late else "left",
            dx=-5 if late else 5,
            baseline="bottom" if below else "top",
            color=INK,
            aria=False,
        ).encode(text="text:N", y=alt.value(HEIGHT - 4 if below else 4)),
    ]


def loss_shares(rows: Sequence[Row], terms: Sequence[str]) -> Figure:
    """Draw each term's signed share of the training loss as stacked bars, an epoch a bar."""
    points = [
        {
            "epoch": int(row["epoch"] or 0),
            "share": share,
            "line": term,
            "says": f"epoch {row['epoch']:.0f}: {term} {share:+.1%} of the loss",
        }
        for row in rows
        for term in terms
        if (share := row.get(f"{term}_loss_share"))
    ]
    every = max(1, -(-len(rows) // 10))
    shown = [int(row["epoch"] or 0) for row in rows][::every]
    bars = (
        alt.Chart(alt.InlineData(points))
        .mark_bar(stroke="#ffffff", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "epoch:O",
                scale=alt.Scale(paddingInner=0.15),
                axis=alt.Axis(title="epoch", labelAngle=0, values=shown, ticks=False),
            ),
            y=alt.Y("share:Q", title="share of the training loss", axis=alt.Axis(format="%")),
            color=series(terms),
            order=alt.Order("line:N"),
            description="says:N",
        )
    )
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color=MUTED, aria=False)
    return alt.layer(bars, zero.encode(y="zero:Q")).properties(width=WIDTH, height=HEIGHT)


@dataclass(frozen=True)
class Interval:
    """A named value with its 95% interval, where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def intervals(values: Sequence[Interval], title: str, control: str | None = None) -> Figure:
    """Draw values as dots with their intervals, one below the other; the control is grey."""
    rows = [
        {
            "name": v.name,
            "value": v.value,
            "low": v.value if v.low is None else v.low,
            "high": v.value if v.high is None else v.high,
            "says": f"{v.name}: {v.value:+.3f}"
            + ("" if v.low is None else f", 95% interval {v.low:+.3f} to {v.high:+.3f}"),
        }
        for v in values
    ]
    names = [v.name for v in values]
    plain = [name for name in names if name != control]
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(plain)}
    base = alt.Chart(alt.InlineData(rows)).encode(
        y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelFontSize=12)),
        color=alt.Color(
            "name:N",
            legend=None,
            scale=alt.Scale(domain=names, range=[colours.get(name, GREY) for name in names]),
        ),
        description="says:N",
    )
    x = alt.X("low:Q", title=title, axis=alt.Axis(grid=True, tickCount=4))
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color=MUTED, aria=False)
    return alt.layer(
        zero.encode(x="zero:Q"),
        base.mark_rule(strokeWidth=3, opacity=0.55).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(x="value:Q"),
    ).properties(width=WIDTH - 30, height=34 * len(rows))
