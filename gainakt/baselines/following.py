"""What learners without gradients share: each skill's mastery follows its own answers alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.tracks import Tracks
from gainakt.data.batches import Batch
from gainakt.data.sequences import Sequences, rows_of_pieces
from gainakt.models.interface import FittedTracer, ModelOutput

# A probability is never closer to 0 or 1 than this, so that its log-odds are finite.
LEAST = 1e-6


class FollowingTracer(FittedTracer):
    """Base of learners that keep one number for each skill of a student.

    A learner says where mastery starts, what an answer makes of it, and how probable a right answer
    is given it; predictions, mastery of any skill, sessions and checks follow from these.
    """

    def start(self) -> FloatArray:
        """Return the mastery (K,) of every skill before any answer."""
        raise TypeError(f"{type(self).__name__} does not define start")

    def after(self, skills: IntArray, responses: IntArray, students: IntArray) -> FloatArray:
        """Return the mastery (n,) of each answer's skill after it.

        Args:
            skills, responses: (n,) codes, and answers of 0 and 1.
            students: (n,) whose they are; a student's rows stand in order of time.
        """
        raise TypeError(f"{type(self).__name__} does not define after")

    def chance(self, mastery: FloatArray, skills: IntArray) -> FloatArray:
        """Return the probability (...) of a right answer, given mastery (...) of skills (...)."""
        return mastery

    def estimate(self, skills: IntArray, responses: IntArray, students: IntArray) -> None:
        """Fit to answers; see `after` for the arguments."""
        raise TypeError(f"{type(self).__name__} does not define estimate")

    def fit(self, training: Sequences) -> float:
        """Learn from sequences; return the mean log loss of what was learnt, in nats."""
        rows = training.rows.take(rows_of_pieces(training))
        student = np.repeat(np.arange(len(training)), training.lengths)
        self.estimate(rows.skill, rows.response, student)
        mastery = self.before(rows.skill, rows.response, student)
        p = np.clip(self.chance(mastery, rows.skill), LEAST, 1 - LEAST)
        return float(-np.log(np.where(rows.response == 1, p, 1 - p)).mean())

    def before(self, skills: IntArray, responses: IntArray, students: IntArray) -> FloatArray:
        """Return the mastery (n,) of each answer's skill before it; see `after`."""
        after = self.after(skills, responses, students)
        before = self.start()[skills]
        for now, previous in Tracks(skills, students, self.n_skills).steps:
            before[now] = after[previous]
        return before

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        asked = batch.next_skill.cpu().numpy()
        p = np.clip(self.chance(self._of(batch, asked[:, None])[:, 0], asked), LEAST, 1 - LEAST)
        return ModelOutput(torch.from_numpy(np.log(p / (1 - p))).to(batch.skill.device))

    def mastery(self, batch: Batch, skills: Tensor | None = None) -> Tensor:
        """Return the mastery (N, M) after every step of M skills, all K by default."""
        wanted = np.arange(self.n_skills) if skills is None else skills.cpu().numpy()
        asked = np.broadcast_to(wanted, (len(batch.skill), len(wanted)))
        return torch.from_numpy(self._of(batch, asked)).to(batch.skill.device)

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Tensor:
        """Return the mastery (N,) of the skill asked next."""
        asked = batch.next_skill.cpu().numpy()[:, None]
        return torch.from_numpy(self._of(batch, asked)[:, 0]).to(batch.skill.device)

    def _of(self, batch: Batch, asked: IntArray) -> FloatArray:
        """Mastery (N, M) of skills (N, M) after each step: as the last answer on it left it."""
        valid = batch.valid.cpu().numpy()
        steps = (batch.skill, batch.response, batch.sequence, batch.position)
        skill, response, sequence, position = (x.cpu().numpy() for x in steps)
        rows = np.flatnonzero(valid)
        rows = rows[np.lexsort((position[rows], sequence[rows]))]
        after = self.after(skill[rows], response[rows], sequence[rows])
        span = int(position.max()) + 1
        key = (sequence[rows] * self.n_skills + skill[rows]) * span + position[rows]
        order = np.argsort(key)
        wanted = (sequence[:, None] * self.n_skills + asked) * span + position[:, None]
        found = np.searchsorted(key[order], wanted, side="right") - 1
        last = order[np.maximum(found, 0)]
        seen = (found >= 0) & (key[last] // span == wanted // span)
        return np.where(seen, after[last], self.start()[asked])
