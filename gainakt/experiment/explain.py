"""Explaining one prediction of a run: who, which answer, and the forms in which it is told."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from gainakt.config import Config
from gainakt.data.interactions import Dataset
from gainakt.errors import DataError
from gainakt.evaluation.explanation import ExplainedPrediction, PastAnswer, explain_prediction
from gainakt.experiment.opening import open_run
from gainakt.machine import precision
from gainakt.models import KnowledgeTracer
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
    model = run.checkpoint.model().to(run.device)
    return explain_answer(model, run.checkpoint.config, dataset, number, step, code, run.device)


def known_id(kind: str, name: str, known: Sequence[str], where: str, listed: str) -> int:
    """Return the place of a student or skill among those that are known.

    Args:
        kind: student or skill.
        name: the id.
        known: all ids.
        where, listed: what knows them, and where they can be looked up.

    Raises:
        DataError: it is not among them.
    """
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=3, cutoff=0.5) or list(known[:3])
    raise DataError(
        f"no {kind} {name!r} in {where}; near are {', '.join(near)}; all {len(known):,} are in "
        f"{listed}"
    )


def explain_answer(
    model: KnowledgeTracer,
    config: Config,
    dataset: Dataset,
    student: int,
    step: int | None,
    skill: int | None,
    device: torch.device,
) -> ExplainedPrediction:
    """Explain a prediction on a data set that is coded with the model's skills.

    Args:
        model: on `device`.
        config: that of the model.
        dataset: where the student is.
        student: index in the data set.
        step, skill: as `explain` takes them, the skill as its code.
        device: where to compute.

    Raises:
        DataError: there is no such answer.
    """
    begin, end = dataset.offsets[student : student + 2].tolist()
    name = dataset.student_ids[student]
    step = _checked_step(step, end - begin, name, any_skill=skill is not None)
    return explain_prediction(
        model,
        dataset,
        student,
        step,
        int(dataset.rows.skill[begin + step]) if skill is None else skill,
        config.model.seq_len,
        config.evaluation.window_stride,
        device,
        precision(config.number_format, device),
    )


def _checked_step(step: int | None, count: int, student: str, *, any_skill: bool) -> int:
    last = count if any_skill else count - 1
    if step is None and last > 0:
        return last
    if step is None or not 1 <= step <= last:
        answers = f"{count} answer{'' if count == 1 else 's'}"
        possible = f"steps 1 to {last} can be explained" if last else "there is none to explain"
        raise DataError(
            f"no prediction for step {last if step is None else step} of student {student!r}, who "
            f"gave {answers}; {possible} (step 0 has no past"
            + ("" if any_skill else f"; about a skill of choice also step {count}, the next answer")
            + ")"
        )
    return step


def as_dict(explained: ExplainedPrediction) -> dict[str, Any]:
    """Return all values, the past answers in order of time."""
    return asdict(explained)


def as_csv(explained: ExplainedPrediction) -> str:
    """Return one row for the prior and each past answer, strongest first, with what is there.

    The column `contribution` sums to the log-odds.
    """
    columns = ["step", "skill", "answer", *_columns(explained)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    if explained.is_sum:
        prior = {"step": "prior", "contribution": explained.prior}
        writer.writerow([prior.get(name, "") for name in columns])
    for answer in explained.strongest_first:
        values = [getattr(answer, name) for name in _columns(explained)]
        writer.writerow([answer.step, answer.skill, int(answer.right), *values])
    return buffer.getvalue()


def as_text(explained: ExplainedPrediction) -> str:
    """Return the prediction and what it is made of, or what stands beside it."""
    e = explained
    outcome = "" if e.right is None else f"; the answer was {_spelt(e.right)}"
    lines = [
        f"student {e.student}, step {e.step}, skill {e.skill}: probability {e.probability:.4f} of "
        f"a right answer{outcome}"
    ]
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

    def line(answer: PastAnswer) -> str:
        values = (getattr(answer, name) for name in columns)
        cells = "".join(
            f"{v:>+14.4f}" if name == "contribution" else f"{v:>14.4f}"
            for name, v in zip(columns, values, strict=True)
        )
        return f"{answer.step:>6}  {answer.skill:<{width}}  {_spelt(answer.right):<6}{cells}"

    title = f"{'step':>6}  {'skill':<{width}}  {'answer':<6}" + "".join(f"{c:>14}" for c in columns)
    return [title, *(line(answer) for answer in explained.strongest_first)]


def _columns(explained: ExplainedPrediction) -> list[str]:
    """What the model gives for each past answer."""
    first = explained.past[0]
    names = ("contribution", "gain", "mastery")
    return [name for name in names if getattr(first, name) is not None]


def _spelt(right: bool) -> str:
    return "right" if right else "wrong"
