"""What every model returns and takes: one output type, one signature, one state of a student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gainakt.arrays import IntArray
from gainakt.data.batches import Batch, make_batch
from gainakt.data.rows import one_student
from gainakt.data.sequences import whole_histories

GAIN_RATE = 0.1
"""The share of a learning gain that mastery takes up: m_t = min(1, m_{t-1} + 0.1 g_t)."""


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """A model's reading of a batch of N steps; what a model lacks is None.

    logits: (N,) log-odds that the answer after each step is right.
    mastery: (N, K) in [0, 1], each skill's mastery after the step.
    gains: (N, K) >= 0, what the step's interaction added to each skill.
    """

    logits: Tensor
    mastery: Tensor | None = None
    gains: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Predictions taken apart: logits = prior + sum of contributions, up to rounding.

    logits, prior: (N,) of the skill asked after each step.
    contributions: one (rows, length, length) tensor for each rectangle of the batch; [r, t, i] is
        what the answer at step i adds to the prediction made after step t, 0 for i > t.
    """

    logits: Tensor
    prior: Tensor
    contributions: tuple[Tensor, ...]


class StudentState(Protocol):
    """What a model holds of one student's past, to predict the next answer on any skill.

    After the same answers it predicts what `KnowledgeTracer.forward` does, up to rounding. It
    takes in at most as many answers as it was begun for.
    """

    def extend(self, skills: IntArray, responses: IntArray) -> None:
        """Take in the answers (n,) that come first, all at once."""

    def observe(self, skill: int, response: int) -> None:
        """Take in one more answer, 0 or 1, to a question on `skill`."""

    def logits(self, skills: list[int]) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `skills` were asked next."""

    def mastery(self) -> Tensor | None:
        """Return the mastery (K,) of every skill, or None where the model has none."""


class KnowledgeTracer(nn.Module):
    """Base of all models: reads a Batch, and nothing after step n may reach output n.

    `forward` is all that a model must define. What it can say besides, it says by overriding the
    other methods; `by_construction` names the measures of interpretability that its structure
    fixes, whatever its weights (keys of `gainakt.evaluation.interpretability.MEASURES`).
    """

    n_skills: int
    by_construction: frozenset[str] = frozenset()
    # whether `forward` keeps to `Batch.visible`, so that a row may hold several sequences
    reads_packed_rows: bool = False

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def mastery(self, batch: Batch, skills: Tensor | None = None) -> Tensor | None:
        """Return the mastery (N, M) after every step of M skills, all K by default."""
        mastery: Tensor | None = self(batch).mastery
        return mastery if mastery is None or skills is None else mastery[:, skills]

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Tensor | None:
        """Return the mastery (N,) of the skill asked next, from the output of the same batch."""
        if output.mastery is None:
            return None
        return output.mastery.gather(1, batch.next_skill[:, None]).squeeze(1)

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation | None:
        """Return the predictions taken apart, or None: most models cannot say.

        Args:
            batch: N steps.
            skill: explain this skill's logit after every step; by default the skill asked next.
        """
        return None

    def begin(self, length: int) -> StudentState:
        """Return the state of a student without answers, with room for `length` of them.

        By default every question is answered by reading the whole past again; a model that can
        keep what it has computed returns a state of its own.
        """
        return RecomputedState(self)


class RecomputedState:
    """A student's answers, read again from the first for every question."""

    def __init__(self, model: KnowledgeTracer) -> None:
        self.model = model
        self.skills: list[int] = []
        self.responses: list[int] = []

    def extend(self, skills: IntArray, responses: IntArray) -> None:
        """Take in the answers (n,) that come first."""
        self.skills += skills.tolist()
        self.responses += responses.tolist()

    def observe(self, skill: int, response: int) -> None:
        """Take in one more answer."""
        self.skills.append(skill)
        self.responses.append(response)

    def logits(self, skills: list[int]) -> Tensor:
        """Return the log-odds (M,) for each of `skills`, from M readings of the past."""
        batch = self._past_and(skills)
        length = len(self.skills) + 1
        # one rectangle, a row for each skill; the step before the last predicts it
        logits: Tensor = self.model(batch).logits
        return logits.view(len(skills), length)[:, -2]

    def mastery(self) -> Tensor | None:
        """Return the mastery (K,) after the last answer."""
        mastery = self.model.mastery(self._past_and([0]))
        return None if mastery is None else mastery[-2]

    def _past_and(self, asked: list[int]) -> Batch:
        """The past once for each skill asked, which ends it with an answer that is never read."""
        skills = np.array([[*self.skills, skill] for skill in asked])
        responses = np.array([[*self.responses, 0]] * len(asked))
        return histories_batch(skills, responses, next(self.model.parameters()).device)


def histories_batch(skills: IntArray, responses: IntArray, device: torch.device) -> Batch:
    """Return the batch of histories of one length, as one rectangle.

    Args:
        skills, responses: (rows, T).
        device: where to compute.
    """
    rows, length = skills.shape
    past = one_student(skills.reshape(-1), responses.reshape(-1))
    sequences = whole_histories(past, np.full(rows, length))
    return make_batch(sequences, np.arange(rows)).to(device)


def wide(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 where the model computes in it."""
    return values if values.dtype == torch.float64 else values.float()
