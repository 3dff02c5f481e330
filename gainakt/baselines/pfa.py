"""Performance factors analysis: right and wrong answers to a skill, counted and weighed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import FloatArray
from gainakt.config import Config
from gainakt.data.batches import Batch, evaluation_batches
from gainakt.data.sequences import Sequences
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.gainsum.asked import Asked
from gainakt.models.gainsum.history import past_of_batch
from gainakt.models.interface import FittedTracer, ModelOutput

# Pull of all weights towards zero, in answers.
RIDGE = 0.1


class Counts(NamedTuple):
    """What is asked after N steps, skill by skill (P,): of which step, and log(1 + n) of the right
    and the wrong answers before.
    """

    skill: Tensor
    step: Tensor
    right: Tensor
    wrong: Tensor


class PFA(FittedTracer):
    """logit = sum over skills k of easy_k + up_k log(1 + right_k) + down_k log(1 + wrong_k).

    The skills are those of the question; right_k and wrong_k count the student's answers on the
    skill so far. Source: Pavlik, Cen and Koedinger 2009, Performance factors analysis: a new
    alternative to knowledge tracing, eq. 2, which takes the counts as they are; by their logarithm
    in Gervet et al. 2020, for one answer more of many says little.
    """

    pools_skills = True

    def __init__(self, n_skills: int) -> None:
        super().__init__()
        self.n_skills = n_skills
        # before it has learnt, right answers speak for a student and wrong ones against
        weights = torch.tensor([[0.0, 0.1, -0.1]], dtype=torch.float64).repeat(n_skills, 1)
        self.register_buffer("weights", weights)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        asked = self._counts(batch)
        easy, up, down = self.get_buffer("weights")[asked.skill].unbind(dim=1)
        terms = easy + up * asked.right + down * asked.wrong
        return ModelOutput(terms.new_zeros(len(batch.skill)).index_add(0, asked.step, terms))

    def _counts(self, batch: Batch) -> Counts:
        skill, step, share = Asked.next_of(batch).by_skill(self.n_skills)
        real = share > 0  # a GPU keeps places without a skill
        skill, step = skill[real], step[real]
        past = past_of_batch(batch, skill, self.n_skills, torch.float64, step)
        right, wrong = past.right, past.attempts - past.right
        return Counts(skill, step, right.log1p(), wrong.log1p())

    def fit(self, training: Sequences) -> float:
        """Learn from sequences; return the mean log loss of what was learnt, in nats."""
        from scipy.optimize import minimize

        parts: list[tuple[FloatArray, ...]] = []
        answers: list[FloatArray] = []
        for batch in evaluation_batches(training):
            asked, scored = self._counts(batch), batch.has_next
            place = torch.cumsum(scored, dim=0) - 1 + sum(map(len, answers))
            kept = scored[asked.step]
            columns = (asked.skill, place[asked.step], asked.right, asked.wrong)
            parts.append(tuple(column[kept].numpy() for column in columns))
            answers.append(batch.next_response[scored].double().numpy())
        skill, step, right, wrong = (np.concatenate(x) for x in zip(*parts, strict=True))
        answer, n = np.concatenate(answers), self.n_skills

        def loss(w: FloatArray) -> tuple[float, FloatArray]:
            easy, up, down = w.reshape(3, n)
            terms = easy[skill] + up[skill] * right + down[skill] * wrong
            logits = np.bincount(step, terms, len(answer))
            error = 1 / (1 + np.exp(-logits)) - answer
            value = np.logaddexp(0, logits).sum() - logits @ answer + RIDGE / 2 * w @ w
            of = error[step]
            slope = [np.bincount(skill, of * x, n) for x in (1.0, right, wrong)]
            return value / len(answer), (np.concatenate(slope) + RIDGE * w) / len(answer)

        closely = {"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1000}
        found = minimize(loss, np.zeros(3 * n), jac=True, method="L-BFGS-B", options=closely)
        self.get_buffer("weights").copy_(torch.from_numpy(found.x.reshape(3, n).T))
        return float(found.fun)


def build(config: Config, vocabulary: Vocabulary) -> PFA:
    """Build the learner; see `gainakt.models.build_model`."""
    return PFA(vocabulary.n_skills)
