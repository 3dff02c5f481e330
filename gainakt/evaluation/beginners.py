"""What to expect of students of whom nothing is known yet."""

from __future__ import annotations

import numpy as np

from gainakt.arrays import FloatArray
from gainakt.data.interactions import Dataset
from gainakt.evaluation.metrics import accuracy, auc
from gainakt.evaluation.significance import Scored, student_error

# A skill's first attempts count as if so many more had gone as those at all skills did.
PRIOR_ATTEMPTS = 2


def first_answers(dataset: Dataset) -> FloatArray:
    """Return the share (K,) of right answers among students' first attempts at each skill.

    It predicts students of whom nothing is known. A skill with few attempts is drawn towards the
    share over all skills.
    """
    n_skills, answers = dataset.n_skills, dataset.rows.response
    assert dataset.rows.others is None
    student = np.repeat(np.arange(len(dataset.offsets) - 1), np.diff(dataset.offsets))
    _, first = np.unique(student * n_skills + dataset.rows.skill, return_index=True)
    skills = dataset.rows.skill[first]
    attempts = np.bincount(skills, minlength=n_skills)
    right = np.bincount(skills, weights=answers[first], minlength=n_skills)
    overall = (right.sum() + 1) / (attempts.sum() + 2)
    shares: FloatArray = (right + PRIOR_ATTEMPTS * overall) / (attempts + PRIOR_ATTEMPTS)
    return shares


# Answers of a student that count as the first ones; the very first has no past to predict it from.
FIRST = 3
# The normal distribution's 97.5%.
Z95 = 1.959964


def cold_start(scored: Scored) -> dict[str, float | int | None]:
    """Return how well students' second and third answers are predicted.

    By key: "auc", with the 95% interval over students "low" to "high", "accuracy" and "targets".
    None where answers are all of one kind.
    """
    _, begin, size = np.unique(scored.student, return_index=True, return_counts=True)
    place = np.arange(len(scored.student)) - np.repeat(begin, size)
    early = scored.take(place < FIRST - 1)
    found: dict[str, float | int | None] = dict.fromkeys(("auc", "low", "high", "accuracy"))
    found["targets"] = len(early.answer)
    answer = early.answer.astype(np.int64)
    if len(np.unique(answer)) == 2:
        value, (students, error) = auc(answer, early.probability), student_error([early])
        found |= {"auc": value, "accuracy": accuracy(answer, early.probability)}
        if students > 1:
            found |= {"low": value - Z95 * error, "high": value + Z95 * error}
    return found
