"""Is a figure more than chance? Spread over trainings, intervals and tests over students.

The two are different questions: trainings differ by seed and fold, and say how far another training
would be; students are a sample, and say how far other students would be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray
from gainakt.seeds import Stream
from gainakt.words import counted


@dataclass(frozen=True)
class Summary:
    """One metric of n trainings: mean, spread over trainings, and interval over students.

    std, low, high: standard deviation (n - 1) and 95% t-interval over trainings; None for one.
    students, students_low, students_high: how many students were predicted, and the 95% interval
    of the mean over them; None where predictions are not kept.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    students: int | None = None
    students_low: float | None = None
    students_high: float | None = None

    def text(self) -> str:
        """Return the summary for people, both spreads named."""
        said = []
        if self.std is not None:
            said.append(
                f"over {self.n} trainings ± {self.std:.5f}, 95% [{self.low:.5f}, {self.high:.5f}]"
            )
        if self.students is not None:
            said.append(
                f"over {counted(self.students, 'student')} "
                f"95% [{self.students_low:.5f}, {self.students_high:.5f}]"
            )
        return f"{self.mean:.5f} ({'; '.join(said) or 'one training'})"


def summarise_runs(values: Sequence[float], tested: Sequence[Scored] = ()) -> Summary:
    """Summarise one metric over runs; with a single run there is no spread to give.

    Args:
        values: the metric of each run.
        tested: what each run predicted, where the metric is the AUC of that.
    """
    from scipy.stats import norm, t

    n = len(values)
    mean = math.fsum(values) / n
    summary = Summary(n, mean, None, None, None)
    if n > 1:
        std = float(np.std(values, ddof=1))
        half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
        summary = Summary(n, mean, std, mean - half, mean + half)
    if tested:
        students, error = student_error(tested)
        half = float(norm.ppf(0.975)) * error
        summary = replace(
            summary, students=students, students_low=mean - half, students_high=mean + half
        )
    return summary


@dataclass(frozen=True, eq=False)
class Scored:
    """What one run predicted: (n,) whose answer each is, its place in their history, the answer 0
    or 1, and the probability of 1; sorted by student and place.
    """

    student: npt.NDArray[np.generic]
    position: npt.NDArray[np.generic]
    answer: npt.NDArray[np.generic]
    probability: npt.NDArray[np.floating]

    COLUMNS: ClassVar[tuple[str, ...]] = ("student", "position", "answer", "probability")

    @classmethod
    def of(cls, table: Mapping[str, npt.NDArray[np.generic]]) -> Scored:
        """Take the columns of a table of predictions, in whatever order its rows are."""
        order = np.lexsort((table["position"], table["student"]))
        student, position, answer = (table[n][order] for n in ("student", "position", "answer"))
        return cls(student, position, answer, table["probability"][order].astype(np.float64))

    def take(self, kept: npt.NDArray[np.bool_]) -> Scored:
        """Return the answers where `kept` (n,) holds."""
        return Scored(*(getattr(self, name)[kept] for name in self.COLUMNS))

    @cached_property
    def answers(self) -> str:
        """A fingerprint of which answers these are, the same for every model that predicts them."""
        digest = hashlib.sha256()
        for column in (self.student, self.position, self.answer):
            digest.update("\0".join(map(str, column.tolist())).encode())
        return digest.hexdigest()


def student_error(tested: Sequence[Scored]) -> tuple[int, float]:
    """Return how many students were predicted, and the standard error over them of the mean AUC.

    What a student adds to it is counted over all runs that predicted them, so that several models
    of the same students do not make them more.

    Source: Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 1997.
    """
    names, owner = np.unique(np.concatenate([run.student for run in tested]), return_inverse=True)
    influence = np.zeros(len(names))
    begin = 0
    for run in tested:
        mine = owner[begin : begin + len(run.student)]
        begin += len(run.student)
        influence += np.bincount(mine, _influence(run), len(names)) / len(tested)
    if len(names) < 2:
        return len(names), math.nan
    return len(names), float(np.sqrt(len(names) / (len(names) - 1) * (influence**2).sum()))


def _influence(run: Scored) -> FloatArray:
    """What each answer (n,) adds to the AUC beyond its mean: ranks among answers of the other kind,
    ties by half.
    """
    right = run.answer.astype(bool)
    ordered = {kind: np.sort(run.probability[right == kind]) for kind in (True, False)}
    share = np.empty(len(right))
    for kind, others in ((True, ordered[False]), (False, ordered[True])):
        mine = run.probability[right == kind]
        below = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        share[right == kind] = below / (2 * len(others))
    share[~right] = 1 - share[~right]
    auc = share[right].mean()
    found: FloatArray = (share - auc) / np.where(right, right.sum(), (~right).sum())
    return found


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


@dataclass(frozen=True, eq=False)
class Part:
    """Answers that runs of two models predicted alike.

    student, answers: (n,). scores_a, scores_b: (n,) of each run of either model.
    """

    student: npt.NDArray[np.generic]
    answers: npt.NDArray[np.generic]
    scores_a: Sequence[npt.NDArray[np.generic]]
    scores_b: Sequence[npt.NDArray[np.generic]]


def parts_in_common(a: Sequence[Scored], b: Sequence[Scored]) -> list[Part]:
    """Pair the runs of two models by the answers that they predicted, fold by fold.

    Runs of one model may have been tested on different students, as in rotated folds: each part
    holds the runs of both that predicted the same answers.
    """
    parts = []
    for key in dict.fromkeys(run.answers for run in a):
        of_a, of_b = ([run for run in runs if run.answers == key] for runs in (a, b))
        if of_b:
            scores = [[run.probability for run in runs] for runs in (of_a, of_b)]
            parts.append(Part(of_a[0].student, of_a[0].answer, *scores))
    return parts


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
    """
    return paired_over_parts([Part(student, answers, scores_a, scores_b)], samples, seed)


def paired_over_parts(parts: Sequence[Part], samples: int = 1000, seed: int = 0) -> Difference:
    """Resample the students of all parts, and compare two models' AUC, the mean over parts.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 16; students are the
    unit because answers of one student are not independent.
    """
    _, owner = np.unique(np.concatenate([part.student for part in parts]), return_inverse=True)
    n_students = int(owner.max()) + 1
    owners = np.split(owner, np.cumsum([len(part.student) for part in parts])[:-1])
    curves = [
        [
            [WeightedAUC(part.answers, scores) for scores in of]
            for of in (part.scores_a, part.scores_b)
        ]
        for part in parts
    ]

    def difference(counts: FloatArray) -> float:
        found = []
        for models, owner in zip(curves, owners, strict=True):
            weights = counts[owner]
            of_a, of_b = (np.mean([curve(weights) for curve in model]) for model in models)
            found.append(of_a - of_b)
        return float(np.mean(found))

    observed = difference(np.ones(n_students))
    rng = Stream.PAIRED_BOOTSTRAP.generator(seed)
    drawn = np.empty(samples)
    for i in range(samples):
        counts = np.bincount(rng.integers(n_students, size=n_students), minlength=n_students)
        drawn[i] = difference(counts.astype(np.float64))
    drawn = drawn[~np.isnan(drawn)]
    # one added to each side: a p-value from finitely many samples is never 0
    below, above = (drawn <= 0).sum() + 1, (drawn >= 0).sum() + 1
    p = min(1.0, 2 * min(below, above) / (len(drawn) + 1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(observed, float(low), float(high), float(p), n_students, len(drawn))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several, so that any false alarm at all has their level.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets smaller than the
    one before it. Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
