"""Pictures: values in, a figure out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from gainakt.errors import GainaktError
from gainakt.evaluation.display import AGAINST, FOR, NEUTRAL
from gainakt.evaluation.explanation import ExplainedPrediction

# altair's own types do not follow its method chains
Figure = Any

FORMATS = (".png", ".svg")
WIDEST = 1000
# Answers narrower than this have no room for a sign.
READABLE = 12


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the ending of the path.

    Raises:
        GainaktError: another ending, or a place that cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise GainaktError(f"{path}: a picture must end in {' or '.join(FORMATS)}")
    try:
        figure.save(path, format=path.suffix[1:].lower(), ppi=150)
    except OSError as error:
        raise GainaktError(f"cannot write {path}: {error.strerror or error}") from None


def explanation_figure(explained: ExplainedPrediction) -> Figure:
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
    subtitle = (
        f"log-odds {e.logit:+.2f} = prior {e.prior:+.2f} + contributions"
        if e.is_sum
        else "mastery and gains stand beside the prediction and do not explain it"
    )
    title = alt.Title(
        f"Student {e.student}, step {e.step}, skill {e.skill}: "
        f"probability {e.probability:.2f} of a right answer",
        subtitle=subtitle,
        anchor="start",
    )
    return alt.vconcat(*panels, spacing=8).properties(title=title)


def _values(explained: ExplainedPrediction) -> alt.Data:
    rows: list[dict[str, Any]] = [
        {
            "step": answer.step,
            "skill": answer.skill,
            "answer": "right" if answer.right else "wrong",
            "sign": "+" if answer.right else "\N{MINUS SIGN}",
            "asked": answer.skill == explained.skill,
            "contribution": answer.contribution,
            "mastery": answer.mastery,
            "gain": answer.gain,
        }
        for answer in explained.past
    ]
    return alt.InlineData(rows)


def _steps(*, shown: bool) -> alt.X:
    axis = alt.Axis(labelOverlap=True, labelAngle=0, title="step") if shown else None
    return alt.X("step:O", axis=axis)


def _answers(explained: ExplainedPrediction, step: float) -> Figure:
    if explained.is_sum:
        largest = max(abs(answer.contribution or 0.0) for answer in explained.past) or 1.0
        scale = alt.Scale(domain=[-largest, 0, largest], range=[AGAINST, NEUTRAL, FOR])
        colour = alt.Color("contribution:Q", scale=scale, title="contribution to log-odds")
    else:
        scale = alt.Scale(domain=["wrong", "right"], range=[AGAINST, FOR])
        colour = alt.Color("answer:N", scale=scale, title="answer")
    base = alt.Chart(_values(explained)).encode(x=_steps(shown=False))
    # answers to the skill in question have a frame
    frame = alt.condition("datum.asked", alt.value("black"), alt.value("#cccccc"))
    layers = [base.mark_rect(strokeWidth=1).encode(color=colour, stroke=frame)]
    if step >= READABLE:
        layers.append(base.mark_text(fontSize=11).encode(text="sign:N"))
    return alt.layer(*layers).properties(width=alt.Step(step), height=26)


def _curve(explained: ExplainedPrediction, step: float) -> Figure:
    last = explained.is_sum or explained.past[0].gain is None
    mastery = alt.Y(
        "mastery:Q", scale=alt.Scale(domain=[0, 1]), title=f"mastery of {explained.skill}"
    )
    return (
        alt.Chart(_values(explained))
        .mark_line(point={"color": "black"} if step >= READABLE else False, color="black")
        .encode(x=_steps(shown=last), y=mastery)
        .properties(width=alt.Step(step), height=140)
    )


def _gains(explained: ExplainedPrediction, step: float) -> Figure:
    gain = alt.Y("gain:Q", scale=alt.Scale(domainMin=0), title=f"gain on {explained.skill}")
    return (
        alt.Chart(_values(explained))
        .mark_bar(color="gray")
        .encode(x=_steps(shown=True), y=gain)
        .properties(width=alt.Step(step), height=70)
    )
