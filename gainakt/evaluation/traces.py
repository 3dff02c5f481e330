"""Mastery over time: does it go with what students do next, and does it tell them apart?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray
from gainakt.data.sequences import Sequences, rows_of_pieces
from gainakt.evaluation.bootstrap import Estimate, StudentBootstrap
from gainakt.evaluation.consistency import within_student_correlations

Series = npt.NDArray[np.floating]


def trace_figures(
    mastery: Series | None, sample: Sequences, samples: int, seed: int
) -> dict[str, Estimate]:
    """Return correlation with the next answer and spread; empty without mastery.

    Spread of mastery: its standard deviation over the skills of a student, and over the students
    for a skill, after the sample's last steps. A gain is what an answer changes a skill's mastery
    by; its spread is the standard deviation over skills at a step, and over students of a skill's
    mean gain.

    Args:
        mastery: (n, K) of all skills after each step.
        sample: one piece for each student, n steps in all.
        samples, seed: of the bootstrap.
    """
    if mastery is None:
        return {}
    piece = np.repeat(np.arange(len(sample)), sample.lengths)
    last = np.flatnonzero(np.diff(piece, append=-1))
    bootstrap = StudentBootstrap(np.arange(len(last)), samples, seed)
    at_end = mastery[last].astype(np.float64)
    same = piece[1:] == piece[:-1]
    gained = np.diff(mastery.astype(np.float64), axis=0)[same]
    count = sample.lengths - 1
    first = np.cumsum(count) - count
    mean_gain = np.add.reduceat(gained, first) / count[:, None]
    of_mastery = next_answer_correlations(mastery.mean(axis=1), sample)
    of_clock = next_answer_correlations(step_numbers(sample), sample)
    return {
        "mastery_correlation": bootstrap.mean(of_mastery),
        "mastery_minus_clock": bootstrap.mean(of_mastery - of_clock),
        "mastery_spread_skills": bootstrap.mean(at_end.std(axis=1)),
        "mastery_spread_students": Estimate(float(at_end.std(axis=0).mean())),
        "gain_spread_skills": bootstrap.mean(np.add.reduceat(gained.std(axis=1), first) / count),
        "gain_spread_students": Estimate(float(mean_gain.std(axis=0).mean())),
    }


def clock_figures(sample: Sequences, samples: int, seed: int) -> dict[str, Estimate]:
    """Return what the step number alone correlates with the next answer."""
    bootstrap = StudentBootstrap(np.arange(len(sample)), samples, seed)
    of_clock = next_answer_correlations(step_numbers(sample), sample)
    return {"mastery_correlation": bootstrap.mean(of_clock)}


def step_numbers(sample: Sequences) -> FloatArray:
    """Return the place of each of n steps in its sequence: what a bare clock knows."""
    return np.concatenate([np.arange(n, dtype=np.float64) for n in sample.lengths.tolist()])


def next_answer_correlations(series: Series, sample: Sequences) -> FloatArray:
    """Return each student's correlation of values (n,) after each step with what follows, or nan.

    Args:
        series: one value a step.
        sample: one piece for each student, n steps in all.
    """
    piece = np.repeat(np.arange(len(sample)), sample.lengths)
    rows = rows_of_pieces(sample)
    steps = np.flatnonzero(piece[1:] == piece[:-1])
    # the skills of one question share its answer: only the first of them is predicted
    steps = steps[sample.rows.order[rows[steps]] != sample.rows.order[rows[steps + 1]]]
    of_students = np.full(len(sample), np.nan)
    of_students[np.unique(piece[steps])] = within_student_correlations(
        series[steps], sample.rows.response[rows[steps + 1]], piece[steps]
    )
    return of_students


def rank_correlation(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], bootstrap: StudentBootstrap
) -> Estimate:
    """Spearman correlation of two (n,) series, ranked once over all of them.

    The interval weights those ranks, for to rank every resample anew would take long.
    """
    from scipy.stats import rankdata

    x, y = (rankdata(v) - (len(v) + 1) / 2 for v in (a, b))

    def correlation(w: FloatArray) -> list[float]:
        total = w.sum()
        mx, my = (w @ x) / total, (w @ y) / total
        cov = (w @ (x * y)) / total - mx * my
        var = ((w @ (x * x)) / total - mx**2) * ((w @ (y * y)) / total - my**2)
        return [float(cov / np.sqrt(var)) if var > 0 else float("nan")]

    return bootstrap.estimate(correlation)[0]
