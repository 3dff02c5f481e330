"""What a measure of mastery must beat: a clock, the success rate so far, Bayesian tracing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.bkt import BKT
from gainakt.baselines.success_rate import SuccessRate
from gainakt.baselines.tracks import Tracks
from gainakt.data.interactions import Dataset
from gainakt.data.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Control:
    """A simple account of students, for every one of n answers.

    mastery: (n,), of the skill asked before the answer. probability: (n,), of a right answer, None
    where it claims none. start: (K,), every skill's mastery at the beginning, and after: (n,), the
    skill's mastery after the answer; None where mastery is not a skill's.
    """

    mastery: FloatArray
    probability: FloatArray | None = None
    start: FloatArray | None = None
    after: FloatArray | None = None


def rows_of(dataset: Dataset, students: IntArray) -> IntArray:
    """Return the rows of some students, in order."""
    parts = [np.arange(*dataset.offsets[[s, s + 1]]) for s in students.tolist()]
    return np.concatenate([np.empty(0, np.int64), *parts])


def make_controls(dataset: Dataset, training: IntArray) -> dict[str, Control]:
    """Return the controls for every answer of a data set.

    Args:
        dataset: n answers to K skills.
        training: students whose answers may be learnt from.
    """
    skills, answers = dataset.rows.skill, dataset.rows.response.astype(np.int64)
    lengths = np.diff(dataset.offsets)
    student = np.repeat(np.arange(len(lengths)), lengths)
    learnt = rows_of(dataset, training)
    controls = {}
    learners = {"bkt": BKT(dataset.n_skills), "success_rate": SuccessRate(dataset.n_skills)}
    for name, learner in learners.items():
        learner.estimate(skills[learnt], answers[learnt], student[learnt])
        before = learner.before(skills, answers, student)
        after = learner.after(skills, answers, student)
        controls[name] = Control(before, learner.chance(before, skills), learner.start(), after)
    step = np.arange(len(skills)) - np.repeat(dataset.offsets[:-1], lengths)
    attempt = Tracks(skills, student, dataset.n_skills).attempt
    return controls | {
        "step_number": Control(step.astype(np.float64)),
        "attempts": Control(attempt.astype(np.float64)),
    }


def mastery_of(control: Control, sequences: Sequences, skills: IntArray) -> FloatArray | None:
    """Return the mastery (n, M) of skills after every step of pieces, or None.

    Args:
        control: of the data set that the pieces are cut from.
        sequences: pieces that begin with their student's history; n steps in all, in order.
        skills: (M,) whose mastery is wanted.
    """
    if control.start is None or control.after is None:
        return None
    parts = []
    column = {skill: i for i, skill in enumerate(skills.tolist())}
    for start, length in zip(sequences.starts.tolist(), sequences.lengths.tolist(), strict=True):
        mastery = np.tile(control.start[skills], (length, 1))
        for step, skill in enumerate(sequences.rows.skill[start : start + length].tolist()):
            if skill in column:
                mastery[step:, column[skill]] = control.after[start + step]
        parts.append(mastery)
    return np.concatenate(parts)
