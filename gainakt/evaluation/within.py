"""AUC within students, within skills and within both: what is left when who and what are known.

A pooled AUC is mostly earned by telling strong students from weak ones and easy skills from hard
ones. Tracing is what lies within: of one student's answers to one skill, are the right ones rated
above the wrong ones?
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gainakt.evaluation.agreement import Agreement
from gainakt.evaluation.bootstrap import Estimate, StudentBootstrap

Numbers = npt.NDArray[np.generic]
# Resamples for the one figure that has to be computed anew for each.
FEW = 200


def within_figures(
    student: Numbers, skill: Numbers, answer: Numbers, probability: Numbers, samples: int, seed: int
) -> dict[str, Estimate]:
    """Return the AUC within groups of n answers, the mean over groups weighted by their answers.

    A group without a right and a wrong answer has none. Intervals are over students.

    Args:
        student, skill: (n,) whose answer to what.
        answer: (n,) of 0 and 1.
        probability: (n,) of a right answer.
        samples, seed: of the bootstrap.

    Returns:
        By "student", "skill" and "student_skill".
    """
    _, who = np.unique(student, return_inverse=True)
    _, what = np.unique(skill, return_inverse=True)
    bootstrap = StudentBootstrap(who, samples, seed)
    few = StudentBootstrap(who, min(samples, FEW), seed)
    by_skill = Agreement(what, answer, probability)
    return {
        "student": _of_groups(who, answer, probability, bootstrap),
        "skill": few.estimate(lambda weights: [by_skill.weighted(weights)])[0],
        "student_skill": _of_groups(
            who * (int(what.max()) + 1) + what, answer, probability, bootstrap
        ),
    }


def _of_groups(
    group: Numbers, answer: Numbers, probability: Numbers, bootstrap: StudentBootstrap
) -> Estimate:
    """Groups of one student's answers each: a resample only counts them more or less often."""
    agreement, size = Agreement(group, answer, probability).by_group(np.ones(len(group)))
    # at the first answer of each group, so that resampling its student resamples it
    _, first = np.unique(group, return_index=True)
    defined = ~np.isnan(agreement)
    top, bottom = np.zeros(len(group)), np.zeros(len(group))
    top[first] = np.where(defined, agreement * size, 0.0)
    bottom[first] = np.where(defined, size, 0.0)
    return bootstrap.ratio(top, bottom)
