"""Item response theory: a student's ability and an item's easiness, and nothing of learning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import FloatArray
from gainakt.config import Config, IRTParameters
from gainakt.data.batches import Batch
from gainakt.data.rows import UNKNOWN
from gainakt.data.sequences import Sequences, rows_of_pieces
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.gainsum.asked import Asked
from gainakt.models.interface import FittedTracer, ModelOutput

# Precision of what is assumed before any answer: abilities, easiness of skills, and of questions
# beyond their skills', each normal around 0.
ABILITY, SKILL, QUESTION = 1.0, 0.01, 2.0


class IRT(FittedTracer):
    """logit = ability + e(skills) + d(question): the Rasch model, one ability a student.

    Easiness is fitted with the training students' abilities, at the most probable values. The
    ability of a student to predict is followed answer by answer: with p the prediction, every
    answer r adds p (1 - p) to the precision and (r - p) / precision to the ability, a Newton step
    towards the most probable one. What a student learns is not modelled, nor which skill it is:
    the floor that tracing must beat. Source: Rasch 1960; van der Linden and Hambleton 1997.
    """

    pools_skills = True

    def __init__(self, n_skills: int, n_questions: int = 0) -> None:
        super().__init__()
        self.n_skills, self.n_questions = n_skills, n_questions
        self.register_buffer("ease_of_skill", torch.zeros(n_skills, dtype=torch.float64))
        self.register_buffer("ease_of_question", torch.zeros(n_questions + 1, dtype=torch.float64))

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        asked = Asked.next_of(batch, batch.next_question)
        return ModelOutput(self._abilities(batch) + self._easiness(asked))

    def mastery(self, batch: Batch, skills: Tensor | None = None) -> Tensor:
        """Return the probability (N, M) of a right answer to a typical question on each skill."""
        ease = self.get_buffer("ease_of_skill")
        chosen = ease if skills is None else ease[skills]
        return (self._abilities(batch)[:, None] + chosen).sigmoid()

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Tensor:
        """Return that probability (N,) for the skills asked next, without the question."""
        asked = Asked.next_of(batch)
        return (self._abilities(batch) + self._easiness(asked)).sigmoid()

    def _abilities(self, batch: Batch) -> Tensor:
        """The ability (N,) after every step."""
        ease = self._easiness(Asked.at(batch, batch.question))
        return batch.by_rectangle(_followed, ease, batch.response.to(ease))

    def _easiness(self, asked: Asked) -> Tensor:
        table = torch.nn.Embedding.from_pretrained(self.get_buffer("ease_of_skill")[:, None])
        ease = asked.mean(table).squeeze(-1)
        if asked.question is None or not self.n_questions:
            return ease
        return ease + self.get_buffer("ease_of_question")[asked.question]

    def fit(self, training: Sequences) -> float:
        """Learn from sequences; return the mean log loss of what was learnt, in nats."""
        from scipy.optimize import minimize

        index = rows_of_pieces(training)
        rows = training.rows.take(index)
        _, student = np.unique(np.repeat(training.students, training.lengths), return_inverse=True)
        skill, place, share = (
            x.numpy() for x in Asked.in_rows(rows, torch.device("cpu")).by_skill(self.n_skills)
        )
        question = np.zeros(len(rows), np.int64)
        if rows.question is not None and self.n_questions:
            question = rows.question.astype(np.int64)
        sizes = (int(student.max()) + 1, self.n_skills, self.n_questions + 1)
        bounds = np.cumsum(sizes)[:-1]
        precision = np.repeat((ABILITY, SKILL, QUESTION), sizes)
        answer = rows.response.astype(np.float64)

        def loss(w: FloatArray) -> tuple[float, FloatArray]:
            ability, of_skill, of_question = np.split(w, bounds)
            logits = ability[student] + of_question[question]
            logits += np.bincount(place, share * of_skill[skill], len(answer))
            error = 1 / (1 + np.exp(-logits)) - answer
            value = np.logaddexp(0, logits).sum() - logits @ answer + precision @ (w * w) / 2
            of_unknown = np.bincount(question, error, sizes[2])
            of_unknown[UNKNOWN] = 0.0
            slope = np.concatenate(
                [
                    np.bincount(student, error, sizes[0]),
                    np.bincount(skill, share * error[place], sizes[1]),
                    of_unknown,
                ]
            )
            return value / len(answer), (slope + precision * w) / len(answer)

        closely = {"ftol": 1e-12, "gtol": 1e-8, "maxiter": 500}
        found = minimize(loss, np.zeros(sum(sizes)), jac=True, method="L-BFGS-B", options=closely)
        _, of_skill, of_question = np.split(found.x, bounds)
        self.get_buffer("ease_of_skill").copy_(torch.from_numpy(of_skill))
        self.get_buffer("ease_of_question").copy_(torch.from_numpy(of_question))
        return float(found.fun)


def _followed(ease: Tensor, response: Tensor) -> Tensor:
    """The ability (rows, T) after each of T answers to items of some easiness."""
    ability, precision = torch.zeros_like(ease[:, 0]), torch.full_like(ease[:, 0], ABILITY)
    after = []
    for item, answer in zip(ease.unbind(1), response.unbind(1), strict=True):
        p = (ability + item).sigmoid()
        precision = precision + p * (1 - p)
        ability = ability + (answer - p) / precision
        after.append(ability)
    return torch.stack(after, dim=1)


def build(config: Config, vocabulary: Vocabulary) -> IRT:
    """Build the learner; see `gainakt.models.build_model`."""
    assert isinstance(config.model, IRTParameters)
    return IRT(vocabulary.n_skills, vocabulary.n_questions if config.model.question_ids else 0)
