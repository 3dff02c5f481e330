"""The share of right answers that a student has given to a skill so far."""

from __future__ import annotations

import numpy as np
import torch

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.following import FollowingTracer
from gainakt.baselines.tracks import Tracks
from gainakt.config import Config
from gainakt.data.vocabulary import Vocabulary

# The rate starts as if so many answers had been given at the training students' rate.
PSEUDO_ANSWERS = 2.0


def skill_rates(skills: IntArray, responses: IntArray, n_skills: int) -> FloatArray:
    """Return the share (K,) of right answers to each skill, drawn towards that to all of them."""
    count = np.bincount(skills, minlength=n_skills)
    right = np.bincount(skills, responses, n_skills)
    rates: FloatArray = (right + PSEUDO_ANSWERS * responses.mean()) / (count + PSEUDO_ANSWERS)
    return rates


class SuccessRate(FollowingTracer):
    """p = (right_k + 2 r_k) / (n_k + 2), with r_k the training students' rate at the skill.

    right_k and n_k count the student's right and all answers to skill k so far.
    """

    by_construction = frozenset({"mastery_gap", "falls_next", "falls_later"})

    def __init__(self, n_skills: int) -> None:
        super().__init__()
        self.n_skills = n_skills
        self.register_buffer("rate", torch.full((n_skills,), 0.5, dtype=torch.float64))

    def start(self) -> FloatArray:
        """Return the training students' rates (K,)."""
        return self.get_buffer("rate").cpu().double().numpy().copy()

    def after(self, skills: IntArray, responses: IntArray, students: IntArray) -> FloatArray:
        """Return the student's rate at each answer's skill after it."""
        tracks = Tracks(skills, students, self.n_skills)
        so_far = responses.astype(np.float64)
        for now, before in tracks.steps:
            so_far[now] += so_far[before]
        pseudo = PSEUDO_ANSWERS * self.start()[skills]
        rate: FloatArray = (so_far + pseudo) / (tracks.attempt + 1 + PSEUDO_ANSWERS)
        return rate

    def estimate(self, skills: IntArray, responses: IntArray, students: IntArray) -> None:
        """Count the training students' answers."""
        rates = skill_rates(skills, responses, self.n_skills)
        self.get_buffer("rate").copy_(torch.from_numpy(rates))


def build(config: Config, vocabulary: Vocabulary) -> SuccessRate:
    """Build the learner; see `gainakt.models.build_model`."""
    return SuccessRate(vocabulary.n_skills)
