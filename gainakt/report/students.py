"""Figures of students: how mastery moves from answer to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from gainakt.evaluation.certainty import Mastery
from gainakt.report.drawing import BLUE, GRID, INK, PAPER, WIDTH, Figure

CELL = 20
# Names longer than this are cut in a figure, and a page's letters may be wider than planned.
LONG_NAME, ROOM = 14, 170


@dataclass(frozen=True, eq=False)
class StudentTrace:
    """A student's answers and the mastery after each, of the skills that the student practised.

    skills: names, (M,); mastery: (T, M); asked: index into `skills` of each answer, -1 where it is
    not among them, (T,); right: (T,).
    """

    student: str
    skills: list[str]
    mastery: npt.NDArray[np.float32]
    asked: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each answer and skill."""
        return [
            {
                "student": self.student,
                "step": step,
                "skill": skill,
                "mastery": float(self.mastery[step, i]),
                "answer": self._answer(step) if self.asked[step] == i else "",
            }
            for step in range(len(self.right))
            for i, skill in enumerate(self.skills)
        ]

    def _answer(self, step: int) -> str:
        return "right" if self.right[step] else "wrong"


def mastery_map(trace: StudentTrace) -> Figure:
    """Draw mastery as a map of skills and answers: the fuller a cell, the higher the mastery."""
    cells = [
        {
            **row,
            "says": f"{row['skill']} after answer {row['step']}: mastery {row['mastery']:.2f}"
            + (f"; this answer was {row['answer']}" if row["answer"] else ""),
        }
        for row in trace.rows()
    ]
    steps = list(range(0, len(trace.right), 1 if len(trace.right) <= 12 else 5))
    base = alt.Chart(alt.InlineData(cells)).encode(
        x=alt.X(
            "step:O",
            title="answer of the student, counted from 0",
            axis=alt.Axis(labelAngle=0, values=steps, ticks=False, domain=False),
        ),
        y=alt.Y(
            "skill:N",
            sort=trace.skills,
            title=None,
            axis=alt.Axis(labelLimit=130, minExtent=_room(trace.skills)),
        ),
    )
    fill = base.mark_rect(fill=BLUE, stroke=GRID, strokeWidth=1).encode(
        fillOpacity=alt.FillOpacity(
            "mastery:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.85]), legend=None
        ),
        description="says:N",
    )
    # an edge in the colour of the paper, so that marks are seen on every cell
    mark: dict[str, Any] = {
        "fill": INK,
        "stroke": PAPER,
        "strokeWidth": 1,
        "opacity": 1,
        "aria": False,
    }
    return alt.layer(
        fill,
        base.transform_filter("datum.answer === 'right'").mark_point(
            shape="circle", size=75, **mark
        ),
        base.transform_filter("datum.answer === 'wrong'").mark_point(
            shape="cross", angle=45, size=95, **mark
        ),
    ).properties(width=alt.Step(CELL), height=alt.Step(CELL))


def mastery_rows(mastered: dict[str, Mastery]) -> list[dict[str, object]]:
    """Return a row for each skill."""
    return [
        {"skill": skill, "mastery": m.value, "low": m.low, "high": m.high, "answers": m.answers}
        for skill, m in mastered.items()
    ]


def mastery_intervals(mastered: dict[str, Mastery]) -> Figure:
    """Draw how far each skill is mastered, and how sure that is."""
    says = "{skill}: mastery {mastery:.2f}, {low:.2f} to {high:.2f}, from {answers} answers on it"
    rows = [{**row, "says": says.format(**row)} for row in mastery_rows(mastered)]
    names = list(mastered)
    base = alt.Chart(alt.InlineData(rows)).encode(
        y=alt.Y(
            "skill:N",
            sort=names,
            title=None,
            axis=alt.Axis(labelLimit=130, minExtent=_room(names)),
        )
    )
    share = alt.Scale(domain=[0, 1])
    title = "probability of a right answer"
    between = base.mark_rule(color=BLUE, strokeWidth=3, opacity=0.55, aria=False).encode(
        x=alt.X("low:Q", scale=share, title=title), x2="high:Q"
    )
    points = base.mark_point(filled=True, color=BLUE, size=90, opacity=1).encode(
        x=alt.X("mastery:Q", scale=share, title=title), description="says:N"
    )
    return alt.layer(between, points).properties(width=WIDTH, height=alt.Step(CELL + 4))


def _room(names: list[str]) -> int:
    return ROOM if max(map(len, names)) > LONG_NAME else 0
