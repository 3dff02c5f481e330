"""Explaining one prediction of a run: who, which answer, and the forms in which it is told."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainakt.data.vocabulary import known_id
from gainakt.evaluation.explanation import (
    ExplainedPrediction,
    PastAnswer,
    elapsed,
    explain_answer,
)
from gainakt.experiment.opening import open_run
from gainakt.record.folder import RunFolder

BESIDE = (
    "mastery and gain of skill {skill} after each answer; they stand beside the prediction, which "
    "is not made of them, so they do not explain it"
)
NOTHING = "this model gives neither contributions nor mastery: there is nothing to explain with"


def explain(
    folder: RunFolder,
    student: str,
    step: int | None = None,
    skill: str | None = None,
    data: Path | None = None,
) -> ExplainedPrediction:
    """Explain a prediction of a run's best checkpoint.

    Args:
        folder: the run.
        student: id, as the data spell it.
        step: place of the answer in the student's history, from 0 as in the predictions table; by
            default the last answer, or with `skill` the one that would come next.
        skill: id of another skill to ask about in its place.
        data: a prepared data set in place of the recorded one.

    Raises:
        DataError: there is no such student, answer or skill.
    """
    run = open_run(folder, data)
    dataset = run.dataset
    where, table = f"data set {dataset.name!r}", dataset.path / "interactions.parquet"
    number = known_id("student", student, dataset.student_ids, where, f"{table}, student_id")
    code = None
    if skill is not None:
        code = known_id("skill", skill, dataset.skill_ids, where, f"{table}, skill_id")
    return explain_answer(run.predictor, dataset, number, step, code)


# What else may be known of a past answer: its heading, and how it is spelt.
HEADS = {"question": "question", "easiness": "easiness", "seconds": "before"}
SPELT: dict[str, Callable[[Any], str]] = {
    "question": lambda value: value or "",
    "easiness": lambda value: "" if value is None else f"{value:+.2f}",
    "seconds": lambda value: "" if value is None else elapsed(value),
}


def as_dict(explained: ExplainedPrediction) -> dict[str, Any]:
    """Return all values, the past answers in order of time."""
    return asdict(explained)


def as_csv(explained: ExplainedPrediction) -> str:
    """Return one row for the prior and each past answer, strongest first, with what is there.

    The column `contribution` sums to the log-odds.
    """
    names = ["skill", *_known(explained)]
    columns = ["step", *names, "answer", *_columns(explained)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    if explained.is_sum:
        prior = {"step": "prior", "contribution": explained.prior}
        writer.writerow([prior.get(name, "") for name in columns])
    for answer in explained.strongest_first:
        values = [getattr(answer, name) for name in _columns(explained)]
        found = (getattr(answer, name) for name in names)
        what = ["" if value is None else value for value in found]
        writer.writerow([answer.step, *what, int(answer.right), *values])
    return buffer.getvalue()


def as_text(explained: ExplainedPrediction) -> str:
    """Return the prediction and what it is made of, or what stands beside it."""
    e = explained
    outcome = "" if e.right is None else f"; the answer was {_spelt(e.right)}"
    lines = [f"student {e.student}, step {e.step}, skill {e.asked}: {e.chance}{outcome}"]
    if e.is_sum:
        assert e.prior is not None
        total = sum(answer.contribution or 0.0 for answer in e.past)
        lines.append(
            f"log-odds {e.logit:+.4f} = prior {e.prior:+.4f} + {len(e.past)} past answers "
            f"{total:+.4f}, strongest first"
        )
    else:
        lines.append(f"log-odds {e.logit:+.4f}")
        lines.append(BESIDE.format(skill=e.skill) if _columns(e) else NOTHING)
    return "\n".join(lines + _table(e)) + "\n"


def _table(explained: ExplainedPrediction) -> list[str]:
    columns = _columns(explained)
    if not columns:
        return []
    width = max(5, *(len(answer.skill) for answer in explained.past))
    about = {
        name: [SPELT[name](getattr(a, name)) for a in explained.past] for name in _known(explained)
    }
    spans = {name: max(len(HEADS[name]), *map(len, cells)) for name, cells in about.items()}
    place = {answer.step: number for number, answer in enumerate(explained.past)}

    def line(answer: PastAnswer) -> str:
        values = (getattr(answer, name) for name in columns)
        cells = "".join(
            f"{v:>+14.4f}" if name == "contribution" else f"{v:>14.4f}"
            for name, v in zip(columns, values, strict=True)
        )
        known = "".join(
            f"  {values[place[answer.step]]:>{spans[name]}}" for name, values in about.items()
        )
        return f"{answer.step:>6}  {answer.skill:<{width}}{known}  {_spelt(answer.right):<6}{cells}"

    heads = "".join(f"  {HEADS[name]:>{span}}" for name, span in spans.items())
    title = f"{'step':>6}  {'skill':<{width}}{heads}  {'answer':<6}"
    title += "".join(f"{c:>14}" for c in columns)
    return [title, *(line(answer) for answer in explained.strongest_first)]


def _known(explained: ExplainedPrediction) -> list[str]:
    """What is known of past answers beside their skills."""
    return [n for n in HEADS if any(getattr(a, n) is not None for a in explained.past)]


def _columns(explained: ExplainedPrediction) -> list[str]:
    """What the model gives for each past answer."""
    first = explained.past[0]
    names = ("contribution", "gain", "mastery")
    return [name for name in names if getattr(first, name) is not None]


def _spelt(right: bool) -> str:
    return "right" if right else "wrong"
