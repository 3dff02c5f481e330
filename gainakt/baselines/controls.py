"""What a measure of mastery must beat: a clock, the success rate so far, Bayesian tracing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.bkt import Tracks, fit_bkt, predict_bkt
from gainakt.data.interactions import Dataset
from gainakt.data.sequences import Sequences

# The success rate starts as if so many answers had been given at the training students' rate.
PSEUDO_ANSWERS = 2.0


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
    tracks = Tracks(skills, student, dataset.n_skills)
    learnt = rows_of(dataset, training)
    step = np.arange(len(skills)) - np.repeat(dataset.offsets[:-1], lengths)
    fitted = fit_bkt(skills[learnt], answers[learnt], student[learnt], dataset.n_skills)
    bkt = predict_bkt(fitted, skills, answers, student, tracks)
    return {
        "bkt": Control(bkt.before, bkt.probability, fitted.prior, bkt.after),
        "success_rate": _success_rate(skills, answers, tracks, learnt, dataset.n_skills),
        "step_number": Control(step.astype(np.float64)),
        "attempts": Control(tracks.attempt.astype(np.float64)),
    }


def _success_rate(
    skills: IntArray, answers: IntArray, tracks: Tracks, learnt: IntArray, n_skills: int
) -> Control:
    count = np.bincount(skills[learnt], minlength=n_skills)
    right = np.bincount(skills[learnt], answers[learnt], n_skills)
    overall = answers[learnt].mean()
    start = (right + PSEUDO_ANSWERS * overall) / (count + PSEUDO_ANSWERS)
    so_far = answers.astype(np.float64)
    for now, before in tracks.steps:
        so_far[now] += so_far[before]
    pseudo = PSEUDO_ANSWERS * start[skills]
    before_it = (so_far - answers + pseudo) / (tracks.attempt + PSEUDO_ANSWERS)
    after = (so_far + pseudo) / (tracks.attempt + 1 + PSEUDO_ANSWERS)
    return Control(before_it, before_it, start, after)


def all_mastery(control: Control, sequences: Sequences) -> FloatArray | None:
    """Return the mastery (n, K) of every skill after every step of pieces, or None.

    Args:
        control: of the data set that the pieces are cut from.
        sequences: pieces that begin with their student's history; n steps in all, in order.
    """
    if control.start is None or control.after is None:
        return None
    parts = []
    for start, length in zip(sequences.starts.tolist(), sequences.lengths.tolist(), strict=True):
        mastery = np.tile(control.start, (length, 1))
        for step, skill in enumerate(sequences.rows.skill[start : start + length].tolist()):
            mastery[step:, skill] = control.after[start + step]
        parts.append(mastery)
    return np.concatenate(parts)
