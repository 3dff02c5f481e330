"""Is a difference more than chance? Intervals over runs, and a paired bootstrap over students."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray
from gainakt.seeds import Stream


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and 95% t-interval of n runs' figures."""

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


def summarise_runs(values: Sequence[float]) -> Summary:
    """Summarise one metric over runs; with a single run there is no spread to give."""
    from scipy.stats import t

    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(n, mean, None, None, None)
    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


class WeightedAUC:
    """AUC of one set of predictions under many weightings, sorting only once.

    Args:
        answers: (n,) of 0 and 1.
        scores: (n,), larger for a likelier 1.
    """

    def __init__(self, answers: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> None:
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._ties = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._right = answers[self._order].astype(bool)

    def __call__(self, weights: FloatArray) -> float:
        """Return the AUC with (n,) weights; nan when a class has no weight."""
        w = weights[self._order]
        right = np.add.reduceat(np.where(self._right, w, 0.0), self._ties)
        wrong = np.add.reduceat(np.where(self._right, 0.0, w), self._ties)
        total = float(right.sum() * wrong.sum())
        if total == 0:
            return float("nan")
        below = np.cumsum(wrong) - wrong
        return float((right * (below + wrong / 2)).sum()) / total


@dataclass(frozen=True)
class Difference:
    """AUC of A minus AUC of B on the same students, with a 95% interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float
    students: int
    samples: int


def paired_bootstrap(
    student: npt.NDArray[np.generic],
    answers: npt.NDArray[np.generic],
    scores_a: Sequence[npt.NDArray[np.generic]],
    scores_b: Sequence[npt.NDArray[np.generic]],
    samples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Resample students, with all their answers, and compare two models' AUC on each sample.

    Args:
        student: (n,) whose prediction it is.
        answers: (n,) of 0 and 1.
        scores_a, scores_b: (n,) predictions of each run of model A and of model B; with several
            runs the mean of their AUCs is compared.
        samples: resamples.
        seed: of the resampling.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 16; students are the
    unit because answers of one student are not independent.
    """
    _, owner = np.unique(student, return_inverse=True)
    n_students = int(owner.max()) + 1
    curves = [[WeightedAUC(answers, scores) for scores in model] for model in (scores_a, scores_b)]

    def difference(weights: FloatArray) -> float:
        of_a, of_b = (np.mean([curve(weights) for curve in model]) for model in curves)
        return float(of_a - of_b)

    observed = difference(np.ones(len(answers)))
    rng = Stream.PAIRED_BOOTSTRAP.generator(seed)
    drawn = np.empty(samples)
    for i in range(samples):
        counts = np.bincount(rng.integers(n_students, size=n_students), minlength=n_students)
        drawn[i] = difference(counts[owner].astype(np.float64))
    drawn = drawn[~np.isnan(drawn)]
    # one added to each side: a p-value from finitely many samples is never 0
    below, above = (drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1
    p = min(1.0, 2 * min(below, above) / (len(drawn) + 1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(observed, float(low), float(high), float(p), n_students, len(drawn))
