"""Logistic regression on what the past says in numbers: how far counting alone goes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import FloatArray
from gainakt.baselines.success_rate import skill_rates
from gainakt.config import Config, LogisticParameters
from gainakt.data.batches import Batch, evaluation_batches
from gainakt.data.rows import UNKNOWN
from gainakt.data.sequences import Sequences, rows_of_pieces
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.gainsum.asked import Asked
from gainakt.models.gainsum.history import history_features, n_features
from gainakt.models.interface import FittedTracer, ModelOutput

# A question's log-odds start as if so many answers had been given at its skill's rate.
PSEUDO_ANSWERS = 4.0
# Pull of all weights towards zero, in answers.
RIDGE = 1.0
# More answers than this change no digit that matters.
MOST_ANSWERS = 2_000_000


class Logistic(FittedTracer):
    """logit = w . features(past of the skill asked) + u ease(skill) + v ease(question) + b.

    The features are the counts, streaks and averages that GainSum's prior reads
    (`gainakt.models.gainsum.history.describe`). Easiness is the log-odds of a right answer among
    training students, a question's beyond its skill's and drawn towards it; while the weights are
    learnt, without the answer that is predicted. Source: Gervet et al. 2020, When is deep learning
    the best approach to knowledge tracing?, Best-LR.
    """

    pools_skills = True

    def __init__(self, n_skills: int, n_questions: int = 0) -> None:
        super().__init__()
        self.n_skills, self.n_questions = n_skills, n_questions
        width = n_features(answers=True) + 2
        # before it has learnt, everything counts a little
        self.register_buffer("weight", torch.full((width,), 0.1, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("ease_of_skill", torch.zeros(n_skills, dtype=torch.float64))
        counts = torch.zeros(2, n_questions + 1, dtype=torch.float64)
        # right answers and all answers to each question
        self.register_buffer("answers_to", counts)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        design = self._design(batch)
        return ModelOutput(design @ self.get_buffer("weight").to(design) + self.get_buffer("bias"))

    def fit(self, training: Sequences) -> float:
        """Learn from sequences; return the mean log loss of what was learnt, in nats."""
        from scipy.optimize import minimize

        self._count(training)
        parts = [(self._design(b, own=True), b) for b in evaluation_batches(_sample(training))]
        x = torch.cat([design[b.has_next] for design, b in parts]).numpy()
        y = torch.cat([b.next_response[b.has_next] for _, b in parts]).double().numpy()

        def loss(w: FloatArray) -> tuple[float, FloatArray]:
            logits = x @ w[:-1] + w[-1]
            error = 1 / (1 + np.exp(-logits)) - y
            value = np.logaddexp(0, logits).sum() - logits @ y + RIDGE / 2 * w[:-1] @ w[:-1]
            slope = np.append(error @ x + RIDGE * w[:-1], error.sum())
            return value / len(y), slope / len(y)

        start, closely = np.zeros(x.shape[1] + 1), {"ftol": 1e-13, "gtol": 1e-7, "maxiter": 2000}
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=closely)
        self.get_buffer("weight").copy_(torch.from_numpy(found.x[:-1]))
        self.get_buffer("bias").fill_(found.x[-1])
        return float(found.fun)

    def _count(self, training: Sequences) -> None:
        rows = training.rows.take(rows_of_pieces(training))
        asked = Asked.in_rows(rows, torch.device("cpu"))
        skill, place, _ = (x.numpy() for x in asked.by_skill(self.n_skills))
        rates = skill_rates(skill, rows.response[place].astype(np.float64), self.n_skills)
        self.get_buffer("ease_of_skill").copy_(torch.from_numpy(np.log(rates / (1 - rates))))
        counts = self.get_buffer("answers_to")
        if rows.question is not None and self.n_questions:
            for row, weights in zip(counts, (rows.response, None), strict=True):
                found = np.bincount(rows.question, weights, counts.shape[1])
                row.copy_(torch.from_numpy(found.astype(np.float64)))
            counts[:, UNKNOWN] = 0.0

    def _design(self, batch: Batch, *, own: bool = False) -> Tensor:
        """What is known (N, F + 2) before each next answer; `own` leaves that answer out of it."""
        asked = Asked.next_of(batch, batch.next_question)
        past = history_features(batch, asked, self.n_skills, answers=True, dtype=torch.float64)
        table = torch.nn.Embedding.from_pretrained(self.get_buffer("ease_of_skill")[:, None])
        ease = asked.mean(table)
        question = torch.zeros_like(ease)
        if asked.question is not None and self.n_questions:
            right, count = self.get_buffer("answers_to")[:, asked.question].double()
            if own:
                known = (asked.question != UNKNOWN).double()
                right, count = right - known * batch.next_response, count - known
            rate = ease[:, 0].sigmoid()
            rate = (right + PSEUDO_ANSWERS * rate) / (count + PSEUDO_ANSWERS)
            question = (rate.logit() - ease[:, 0])[:, None]
        return torch.cat([past, ease.to(past), question.to(past)], dim=1)


def _sample(training: Sequences) -> Sequences:
    """Every so many pieces, so that the answers fit into memory."""
    nth = -(-int(training.lengths.sum()) // MOST_ANSWERS)
    return training.take(np.arange(0, len(training), nth))


def build(config: Config, vocabulary: Vocabulary) -> Logistic:
    """Build the learner; see `gainakt.models.build_model`."""
    assert isinstance(config.model, LogisticParameters)
    n_questions = vocabulary.n_questions if config.model.question_ids else 0
    return Logistic(vocabulary.n_skills, n_questions)
