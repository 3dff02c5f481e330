"""What to expect of students of whom nothing is known yet."""

from __future__ import annotations

import numpy as np

from gainakt.arrays import FloatArray
from gainakt.data.interactions import Dataset

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
