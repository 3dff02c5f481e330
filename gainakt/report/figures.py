"""Pictures of explanations: values in, a figure out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from gainakt.errors import GainaktError
from gainakt.evaluation.explanation import ExplainedPrediction, elapsed
from gainakt.report.drawing import BLUE, GREY, GRID, INK, VERMILLION, Figure, specification
from gainakt.report.pictures import NotDrawn, draw

FORMATS = (".png", ".svg")
WIDEST = 1000
# Answers narrower than this have no room for a sign.
READABLE = 12
FOR, AGAINST = "speaks for it", "speaks against it"
RIGHT, WRONG = "right", "wrong"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the ending of the path.

    Raises:
        GainaktError: another ending, a figure that cannot be drawn, or a place that cannot be
            written.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise GainaktError(f"{path}: a picture must end in {' or '.join(FORMATS)}")
    (picture,) = draw([specification(figure)])
    if isinstance(picture, NotDrawn):
        raise GainaktError(f"{path} could not be drawn: {picture.reason}")
    try:
        path.write_bytes(picture.png if ending == ".png" else picture.svg.encode())
    except OSError as error:
        raise GainaktError(f"cannot write {path}: {error.strerror or error}") from None


def explanation_figure(explained: ExplainedPrediction, *, titled: bool = True) -> Figure:
    """Draw a student's answers, coloured by contribution, above the mastery curve.

    Where the prediction is no sum, colour says right or wrong, and the title that what is shown
    does not explain it.
    """
    e = explained
    step = max(4.0, min(26.0, WIDEST / len(e.past)))
    panels = [_answers(e, step)]
    if e.past[0].mastery is not None:
        panels.append(_curve(e, step))
    if not e.is_sum and e.past[0].gain is not None:
        panels.append(_gains(e, step))
    drawn = alt.vconcat(*panels, spacing=8)
    return drawn.properties(title=_title(e)) if titled else drawn


def _title(e: ExplainedPrediction) -> alt.Title:
    subtitle = (
        f"log-odds {e.logit:+.2f} = prior {e.prior:+.2f} + contributions"
        if e.is_sum
        else "mastery and gains stand beside the prediction and do not explain it"
    )
    return alt.Title(
        f"Student {e.student}, step {e.step}, skill {e.asked}: {e.chance}",
        subtitle=subtitle,
        anchor="start",
    )


def _values(explained: ExplainedPrediction) -> alt.Data:
    past = explained.past
    largest = max(abs(answer.contribution or 0.0) for answer in past) or 1.0
    rows: list[dict[str, Any]] = [
        {
            "step": answer.step,
            "sign": "+" if answer.right else "\N{MINUS SIGN}",
            "asked": answer.skill == explained.skill,
            "colour": _colour(answer.contribution, answer.right),
            # without contributions every answer has the same weight
            "strength": 0.5 if answer.contribution is None else abs(answer.contribution) / largest,
            "mastery": answer.mastery,
            "gain": answer.gain,
            "says": f"answer {answer.step}, {answer.skill}: {RIGHT if answer.right else WRONG}"
            + (f", question {answer.question}" if answer.question else "")
            + _and("easiness", answer.easiness, "+.2f")
            + ("" if answer.seconds is None else f", {elapsed(answer.seconds)} before")
            + _and("contribution", answer.contribution, "+.3f")
            + _and("mastery after it", answer.mastery, ".3f")
            + _and("gain", answer.gain, ".3f"),
        }
        for answer in past
    ]
    return alt.InlineData(rows)


def _colour(contribution: float | None, right: bool) -> str:
    if contribution is None:
        return RIGHT if right else WRONG
    return FOR if contribution >= 0 else AGAINST


def _and(name: str, value: float | None, form: str) -> str:
    return "" if value is None else f", {name} {value:{form}}"


def _steps(*, shown: bool) -> alt.X:
    axis = alt.Axis(labelOverlap=True, labelAngle=0, title="step") if shown else None
    return alt.X("step:O", axis=axis)


def _answers(explained: ExplainedPrediction, step: float) -> Figure:
    domain = [FOR, AGAINST] if explained.is_sum else [RIGHT, WRONG]
    colour = alt.Color(
        "colour:N",
        scale=alt.Scale(domain=domain, range=[BLUE, VERMILLION]),
        title="contribution to log-odds of a right answer" if explained.is_sum else "answer",
        legend=alt.Legend(titleOrient="top", symbolType="square"),
    )
    base = alt.Chart(_values(explained)).encode(x=_steps(shown=False))
    # answers to the skill in question have a frame
    frame = alt.condition("datum.asked", alt.value(INK), alt.value(GRID))
    strength = alt.FillOpacity(
        "strength:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.8]), legend=None
    )
    layers = [
        base.mark_rect(strokeWidth=1.5).encode(
            fill=colour, fillOpacity=strength, stroke=frame, description="says:N"
        )
    ]
    if step >= READABLE:
        layers.append(base.mark_text(fontSize=12, color=INK, aria=False).encode(text="sign:N"))
    return alt.layer(*layers).properties(width=alt.Step(step), height=26)


def _curve(explained: ExplainedPrediction, step: float) -> Figure:
    last = explained.is_sum or explained.past[0].gain is None
    mastery = alt.Y(
        "mastery:Q",
        scale=alt.Scale(domain=[0, 1]),
        title=f"mastery of {_short(explained.skill)}",
        axis=alt.Axis(values=[0, 0.5, 1]),
    )
    base = alt.Chart(_values(explained)).encode(x=_steps(shown=last), y=mastery)
    size = 40 if step >= READABLE else 8
    return alt.layer(
        base.mark_line(color=INK, aria=False),
        base.mark_point(filled=True, color=INK, size=size, opacity=1).encode(description="says:N"),
    ).properties(width=alt.Step(step), height=140)


def _short(name: str, limit: int = 14) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _gains(explained: ExplainedPrediction, step: float) -> Figure:
    # gains that are all but zero shall not fill the axis
    highest = max(0.01, *(answer.gain or 0.0 for answer in explained.past), 0.0)
    lowest = min(0.0, *(answer.gain or 0.0 for answer in explained.past), 0.0)
    gain = alt.Y(
        "gain:Q",
        scale=alt.Scale(domain=[lowest, highest]),
        title="gain on it",
        axis=alt.Axis(tickCount=3),
    )
    return (
        alt.Chart(_values(explained))
        .mark_bar(color=GREY)
        .encode(x=_steps(shown=True), y=gain, description="says:N")
        .properties(width=alt.Step(step), height=70)
    )
