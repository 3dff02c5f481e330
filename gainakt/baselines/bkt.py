"""Bayesian Knowledge Tracing (Corbett and Anderson 1995): a hidden state for each skill.

A student masters a skill or does not. Before the first attempt mastery has probability `prior`;
after every attempt an unmastered skill is learnt with probability `learn`, and nothing is
forgotten. A right answer has probability 1 - slip with mastery, `guess` without.

The attempts of one student at one skill are a track. All tracks of all skills are filtered and
smoothed at once, attempt by attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.following import FollowingTracer
from gainakt.baselines.tracks import Tracks
from gainakt.config import BKTParameters, Config
from gainakt.data.vocabulary import Vocabulary

START = {"prior": 0.5, "learn": 0.1, "guess": 0.2, "slip": 0.1}
# Above one half a guess would mean knowing; within these bounds EM cannot swap the two states.
BOUNDS = {"prior": 0.999, "learn": 0.999, "guess": 0.5, "slip": 0.5}
LEAST = 1e-3
# Attempts' worth of START in every estimate, so that a skill hardly practised has one too.
PSEUDO_ATTEMPTS = 1.0


@dataclass(frozen=True, eq=False)
class BKTEstimates:
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


def predict_bkt(
    parameters: BKTEstimates,
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
) -> BKTEstimates:
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
    fitted = BKTEstimates(**{name: np.full(n_skills, value) for name, value in START.items()})
    for _ in range(iterations):
        renewed = _maximise(fitted, skills, responses, students, tracks)
        moved = max(np.abs(getattr(renewed, n) - getattr(fitted, n)).max() for n in START)
        fitted = renewed
        if moved < tolerance:
            break
    return fitted


def _maximise(
    p: BKTEstimates, skills: IntArray, responses: IntArray, students: IntArray, tracks: Tracks
) -> BKTEstimates:
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

    return BKTEstimates(
        prior=share("prior", smoothed * first, first.astype(np.float64)),
        learn=share("learn", learnt, unknown),
        guess=share("guess", (1 - smoothed) * right, 1 - smoothed),
        slip=share("slip", smoothed * ~right, smoothed),
    )


class BKT(FollowingTracer):
    """A hidden state for each skill, known or not, which an attempt may turn to known.

    p(right) = m (1 - slip_k) + (1 - m) guess_k, m the belief that skill k is known; Bayes' rule
    renews it after every answer, and then m + (1 - m) learn_k. Source: Corbett and Anderson 1995.
    The four numbers of each skill are fitted by expectation maximisation.
    """

    by_construction = frozenset({"falls_next", "falls_later"})

    def __init__(self, n_skills: int, iterations: int = 40) -> None:
        super().__init__()
        self.n_skills = n_skills
        self.iterations = iterations
        for name, value in START.items():
            self.register_buffer(name, torch.full((n_skills,), value, dtype=torch.float64))

    def estimates(self) -> BKTEstimates:
        """Return the fitted numbers."""
        named = {name: self.get_buffer(name).cpu().double().numpy() for name in START}
        return BKTEstimates(**named)

    def start(self) -> FloatArray:
        """Return the prior (K,)."""
        return self.estimates().prior.copy()

    def after(self, skills: IntArray, responses: IntArray, students: IntArray) -> FloatArray:
        """Return the belief that each answer's skill is known after it."""
        return predict_bkt(self.estimates(), skills, responses, students).after

    def chance(self, mastery: FloatArray, skills: IntArray) -> FloatArray:
        """Return the probability of a right answer."""
        p = self.estimates()
        chance: FloatArray = mastery * (1 - p.slip[skills]) + (1 - mastery) * p.guess[skills]
        return chance

    def estimate(self, skills: IntArray, responses: IntArray, students: IntArray) -> None:
        """Fit by expectation maximisation."""
        fitted = fit_bkt(skills, responses, students, self.n_skills, self.iterations)
        for name in START:
            self.get_buffer(name).copy_(torch.from_numpy(getattr(fitted, name)))


def build(config: Config, vocabulary: Vocabulary) -> BKT:
    """Build the learner; see `gainakt.models.build_model`."""
    assert isinstance(config.model, BKTParameters)
    return BKT(vocabulary.n_skills, config.model.iterations)
