"""Predictions of rows of which some have no answer yet: each from the known answers before it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from gainakt.data.interactions import Dataset
from gainakt.data.sequences import context_start
from gainakt.data.tables import MemoryDataset
from gainakt.evaluation.protocol import with_skills_of
from gainakt.evaluation.scoring import predict_answers
from gainakt.models.interface import KnowledgeTracer

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Questions without an answer bring their past along, so only so many are asked together.
QUESTIONS_AT_ONCE = 2048
# A skill's first attempts count as if so many more had gone as those at all skills did.
PRIOR_ATTEMPTS = 2


def predict_rows(
    model: KnowledgeTracer,
    dataset: MemoryDataset,
    answered: npt.NDArray[np.bool_],
    seq_len: int,
    stride: int,
    device: torch.device,
    precision: AbstractContextManager[object] | None = None,
) -> Floats:
    """Return the log-odds (N,) of a right answer for each row, from the known answers before it.

    A row without an answer adds nothing to the past of later rows. nan stands where no known
    answer of the student comes before.

    Args:
        model: on `device`, dropout off.
        dataset: coded with the model's skills.
        answered: (N,), whether the row's answer is known.
        seq_len, stride: see `gainakt.data.sequences.context_start`.
        device: where to compute.
        precision: autocast context of the dense layers.
    """
    logits = np.full(len(answered), np.nan)
    where = (seq_len, stride, device, precision)
    if answered.any():
        past = with_skills_of(dataset.keep(answered), dataset.skill_ids)
        logits[answered] = predict_answers(model, past, *where)
    known = np.flatnonzero(answered)
    questions, begins, ends = _pasts(dataset.offsets, answered, seq_len, stride)
    for first in range(0, len(questions), QUESTIONS_AT_ONCE):
        now = slice(first, first + QUESTIONS_AT_ONCE)
        asked = _with_pasts(dataset, known, questions[now], begins[now], ends[now])
        logits[questions[now]] = predict_answers(model, asked, *where)[asked.offsets[1:] - 1]
    return logits


def _pasts(
    offsets: Rows, answered: npt.NDArray[np.bool_], seq_len: int, stride: int
) -> tuple[Rows, Rows, Rows]:
    """The rows without an answer that have a past, and from where to where, among known rows."""
    before: Rows = np.cumsum(answered) - answered
    student: Rows = before[offsets[:-1]].repeat(np.diff(offsets))
    questions = np.flatnonzero(~answered & (before > student))
    ends, student = before[questions], student[questions]
    counts = (ends - student).tolist()
    starts = np.array([context_start(n, seq_len, stride) for n in counts], dtype=np.int64)
    return questions, student + starts, ends


def _with_pasts(
    dataset: MemoryDataset, known: Rows, questions: Rows, begins: Rows, ends: Rows
) -> MemoryDataset:
    """A data set in which each question is the last row of a student with its past alone."""
    rows = np.concatenate(
        [
            np.append(known[begin:end], question)
            for question, begin, end in zip(questions, begins, ends, strict=True)
        ]
    )
    return replace(
        dataset,
        student_ids=[str(question) for question in questions],
        rows=dataset.rows.take(rows).replace(order=np.arange(len(rows))),
        offsets=np.concatenate([[0], np.cumsum(ends - begins + 1)]),
        folds=np.zeros(len(questions), np.int8),
    )


def first_answers(dataset: Dataset) -> Floats:
    """Return the share (K,) of right answers among students' first attempts at each skill.

    It predicts students of whom nothing is known. A skill with few attempts is drawn towards the
    share over all skills.
    """
    n_skills, answers = dataset.n_skills, dataset.rows.response
    student = np.repeat(np.arange(len(dataset.offsets) - 1), np.diff(dataset.offsets))
    _, first = np.unique(student * n_skills + dataset.rows.skill, return_index=True)
    skills = dataset.rows.skill[first]
    attempts = np.bincount(skills, minlength=n_skills)
    right = np.bincount(skills, weights=answers[first], minlength=n_skills)
    overall = (right.sum() + 1) / (attempts.sum() + 2)
    shares: Floats = (right + PRIOR_ATTEMPTS * overall) / (attempts + PRIOR_ATTEMPTS)
    return shares
