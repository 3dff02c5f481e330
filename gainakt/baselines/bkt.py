"""Bayesian Knowledge Tracing (Corbett and Anderson 1995): a hidden state for each skill.

A student masters a skill or does not. Before the first attempt mastery has probability `prior`;
after every attempt an unmastered skill is learnt with probability `learn`, and nothing is
forgotten. A right answer has probability 1 - slip with mastery, `guess` without.

The attempts of one student at one skill are a track. All tracks of all skills are filtered and
smoothed at once, attempt by attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray, IntArray

START = {"prior": 0.5, "learn": 0.1, "guess": 0.2, "slip": 0.1}
# Above one half a guess would mean knowing; within these bounds EM cannot swap the two states.
BOUNDS = {"prior": 0.999, "learn": 0.999, "guess": 0.5, "slip": 0.5}
LEAST = 1e-3
# Attempts' worth of START in every estimate, so that a skill hardly practised has one too.
PSEUDO_ATTEMPTS = 1.0


@dataclass(frozen=True, eq=False)
class BKTParameters:
    """Four probabilities for each skill, (K,) each."""

    prior: FloatArray
    learn: FloatArray
    guess: FloatArray
    slip: FloatArray


class BKTPrediction(NamedTuple):
    """What is believed at each of n answers, (n,) each.

    before, after: mastery of the answer's skill just before it, and after it with what the attempt
    taught. probability: of a right answer, before it.
    """

    before: FloatArray
    probability: FloatArray
    after: FloatArray


class Tracks:
    """Where the attempts of each student at each skill stand among n rows.

    Args:
        skills: (n,) codes under `n_skills`.
        students: (n,) whose answer it is; a student's rows stand in order of time.
        n_skills: K.
    """

    def __init__(self, skills: IntArray, students: IntArray, n_skills: int) -> None:
        track = students.astype(np.int64) * n_skills + skills
        order = np.argsort(track, kind="stable")
        first = np.flatnonzero(np.diff(track[order], prepend=-1))
        self.attempt: npt.NDArray[np.int64] = np.empty(len(track), np.int64)
        self.attempt[order] = np.arange(len(track)) - np.repeat(
            first, np.diff(first, append=len(track))
        )
        # the rows of each attempt number, every time in the order of their tracks
        by_attempt = np.lexsort((track, self.attempt))
        counts = np.bincount(self.attempt)
        rows = np.split(by_attempt, np.cumsum(counts)[:-1])
        self.first = rows[0]
        # for each later attempt number its rows, and beside them the rows of the attempt before
        self.steps = [
            (now, before[np.searchsorted(track[before], track[now])])
            for before, now in pairwise(rows)
        ]


def predict_bkt(
    parameters: BKTParameters,
    skills: IntArray,
    responses: IntArray,
    students: IntArray,
    tracks: Tracks | None = None,
) -> BKTPrediction:
    """Filter forward through every track.

    Args:
        parameters: of K skills.
        skills, responses, students: (n,), as for `fit_bkt`.
        tracks: of these rows, where they are at hand.
    """
    tracks = tracks or Tracks(skills, students, len(parameters.prior))
    learn, guess, slip = (getattr(parameters, name)[skills] for name in ("learn", "guess", "slip"))
    right = responses == 1
    if_known, if_not = np.where(right, 1 - slip, slip), np.where(right, guess, 1 - guess)
    before = parameters.prior[skills]
    after = np.empty_like(before)

    def update(rows: IntArray) -> None:
        known = before[rows] * if_known[rows]
        known /= known + (1 - before[rows]) * if_not[rows]
        after[rows] = known + (1 - known) * learn[rows]

    update(tracks.first)
    for rows, previous in tracks.steps:
        before[rows] = after[previous]
        update(rows)
    return BKTPrediction(before, before * (1 - slip) + (1 - before) * guess, after)


def fit_bkt(
    skills: IntArray,
    responses: IntArray,
    students: IntArray,
    n_skills: int,
    iterations: int = 40,
    tolerance: float = 1e-4,
) -> BKTParameters:
    """Estimate every skill's parameters by expectation maximisation.

    Args:
        skills: (n,) codes under `n_skills`.
        responses: (n,) of 0 and 1.
        students: (n,) whose answer it is; a student's rows stand in order of time.
        n_skills: K.
        iterations: at most so many.
        tolerance: stop once no parameter moves by more.
    """
    tracks = Tracks(skills, students, n_skills)
    fitted = BKTParameters(**{name: np.full(n_skills, value) for name, value in START.items()})
    for _ in range(iterations):
        renewed = _maximise(fitted, skills, responses, students, tracks)
        moved = max(np.abs(getattr(renewed, n) - getattr(fitted, n)).max() for n in START)
        fitted = renewed
        if moved < tolerance:
            break
    return fitted


def _maximise(
    p: BKTParameters, skills: IntArray, responses: IntArray, students: IntArray, tracks: Tracks
) -> BKTParameters:
    """One round: smooth backward, then count what is expected."""
    _, _, after = predict_bkt(p, skills, responses, students, tracks)
    learn = p.learn[skills]
    known = (after - learn) / (1 - learn)  # given the answers up to this one
    smoothed = known.copy()  # given all answers of the track
    learnt, unknown = np.zeros_like(known), np.zeros_like(known)
    for rows, previous in reversed(tracks.steps):
        later = smoothed[rows] / after[previous]
        smoothed[previous] = known[previous] * later
        learnt[previous] = (1 - known[previous]) * learn[previous] * later
        unknown[previous] = 1 - smoothed[previous]
    first = tracks.attempt == 0
    right = responses == 1

    def share(name: str, of: FloatArray, among: FloatArray) -> FloatArray:
        top, bottom = (np.bincount(skills, weights=w, minlength=len(p.prior)) for w in (of, among))
        estimate = (top + PSEUDO_ATTEMPTS * START[name]) / (bottom + PSEUDO_ATTEMPTS)
        return np.clip(estimate, LEAST, BOUNDS[name])

    return BKTParameters(
        prior=share("prior", smoothed * first, first.astype(np.float64)),
        learn=share("learn", learnt, unknown),
        guess=share("guess", (1 - smoothed) * right, 1 - smoothed),
        slip=share("slip", smoothed * ~right, smoothed),
    )
