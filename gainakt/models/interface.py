"""What every model returns and takes: one output type, one signature, one state of a student."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gainakt.data.batches import Batch, make_batch
from gainakt.data.rows import Rows, asked_next
from gainakt.data.sequences import Sequences, whole_histories
from gainakt.data.vocabulary import Vocabulary

GAIN_RATE = 0.1
"""The share of a learning gain that mastery takes up: m_t = min(1, m_{t-1} + 0.1 g_t)."""


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """A model's reading of a batch of N steps; what a model lacks is None.

    logits: (N,) log-odds that the answer after each step is right.
    mastery: (N, K) in [0, 1], each skill's mastery after the step.
    gains: (N, K) >= 0, what the step's interaction added to each skill.
    """

    logits: Float[Tensor, " N"]
    mastery: Float[Tensor, "N K"] | None = None
    gains: Float[Tensor, "N K"] | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Predictions taken apart: logits = prior + sum of contributions, up to rounding.

    logits, prior: (N,) of the skill asked after each step.
    contributions: one (rows, length, length) tensor for each rectangle of the batch; [r, t, i] is
        what the answer at step i adds to the prediction made after step t, 0 for i > t.
    """

    logits: Float[Tensor, " N"]
    prior: Float[Tensor, " N"]
    contributions: tuple[Float[Tensor, "rows length length"], ...]


@runtime_checkable
class StudentState(Protocol):
    """What a model holds of one student's past, to predict the next answer on any skill.

    After the same answers it predicts what `KnowledgeTracer.forward` does, up to rounding. A copy
    goes on independently of the original.
    """

    def extend(self, rows: Rows) -> None:
        """Take in the rows (n,) of one answer or more, in order of time; at least one."""

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `asked` were asked next.

        Args:
            asked: M questions, see `asked_next`; responses and order are not read.
        """

    def mastery(self, time: int = 0) -> Tensor | None:
        """Return the mastery (K,) of every skill, or None where the model has none.

        Args:
            time: when, in milliseconds since 1970; 0 for the last answer's.
        """

    def __copy__(self) -> StudentState:
        """Return a state that goes on by itself."""


class KnowledgeTracer(nn.Module):
    """Base of all models: reads a Batch, and nothing after step n may reach output n.

    `forward` is all that a model must define. What it can say besides, it says by overriding the
    other methods; `by_construction` names the measures of interpretability that its structure
    fixes, whatever its weights (keys of `gainakt.evaluation.interpretability.MEASURES`).
    """

    n_skills: int
    vocabulary: Vocabulary
    by_construction: frozenset[str] = frozenset()
    # whether `forward` keeps to `Batch.visible`, so that a row may hold several sequences
    reads_packed_rows: bool = False
    # whether a question with several skills is one step to it (see `gainakt.data.pooling`)
    pools_skills: bool = False
    # whether a student's past answers change what it says
    reads_history: bool = True
    # whether time that passes does
    reads_times: bool = False

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def mastery(
        self, batch: Batch, skills: Int[Tensor, " M"] | None = None
    ) -> Float[Tensor, "N M"] | None:
        """Return the mastery (N, M) after every step of M skills, all K by default."""
        mastery: Tensor | None = self(batch).mastery
        return mastery if mastery is None or skills is None else mastery[:, skills]

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Float[Tensor, " N"] | None:
        """Return the mastery (N,) of the skill asked next, from the output of the same batch."""
        if output.mastery is None:
            return None
        return output.mastery.gather(1, batch.next_skill[:, None]).squeeze(1)

    def asked_instead(self, batch: Batch, skills: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return the logits (N,) if `skills` were asked next, each step's after the same past.

        By default the skill asked next is read by its prediction alone, and so can be replaced.
        """
        logits: Tensor = self(replace(batch, next_skill=skills, next_others=None)).logits
        return logits

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation | None:
        """Return the predictions taken apart, or None: most models cannot say.

        Args:
            batch: N steps.
            skill: explain this skill's logit after every step; by default the skill asked next.
        """
        return None

    def easiness(self, question: Int[Tensor, " N"]) -> Float[Tensor, " N"] | None:
        """Return what questions add to the log-odds beyond their skills, None where nothing does.

        Args:
            question: codes of N questions.
        """
        return None

    def begin(self) -> StudentState:
        """Return the state of a student without answers.

        By default every question is answered by reading the whole past again; a model that can
        keep what it has computed returns a state of its own.
        """
        return RecomputedState(self)


class FittedTracer(KnowledgeTracer):
    """Base of learners without gradients: they fit all training data at once, then read batches.

    What is fitted lies in buffers, and so is saved, loaded and moved as weights are.
    """

    def fit(self, training: Sequences) -> float:
        """Learn from sequences; return the mean log loss of what was learnt, in nats."""
        raise TypeError(f"{type(self).__name__} does not define fit")


class RecomputedState:
    """A student's answers, read again from the first for every question."""

    def __init__(self, model: KnowledgeTracer, past: tuple[Rows, ...] = ()) -> None:
        self.model = model
        self.past = past

    def extend(self, rows: Rows) -> None:
        """Take in answers."""
        self.past = (*self.past, rows)

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of each of `asked`, from M readings of the past."""
        batch = self._past_and(asked)
        # one rectangle, a row for each question; the step before the last predicts it
        logits: Tensor = self.model(batch).logits
        return logits.view(len(asked), -1)[:, -2]

    def mastery(self, time: int = 0) -> Tensor | None:
        """Return the mastery (K,) after the last answer."""
        mastery = self.model.mastery(self._past_and(asked_next([0], time=time)))
        return None if mastery is None else mastery[-2]

    def __copy__(self) -> RecomputedState:
        return RecomputedState(self.model, self.past)

    def _past_and(self, asked: Rows) -> Batch:
        """The past once for each question asked, whose answer ends it and is never read."""
        past = Rows.join(self.past)
        n, m = len(past), len(asked)
        rows = Rows.join([past, asked.replace(order=np.full(m, past.order[-1] + 1, np.int32))])
        each = np.concatenate([np.append(np.arange(n), n + number) for number in range(m)])
        batch = make_batch(whole_histories(rows.take(each), np.full(m, n + 1)), np.arange(m))
        return batch.to(device_of(self.model))


def codes(rows: Rows, device: torch.device, *names: str) -> list[Any]:
    """Return columns of rows as tensors, None where there is none."""
    found = [rows.present().get(name) for name in names]
    return [None if x is None else torch.tensor(x, dtype=torch.int64).to(device) for x in found]


def student_batch(rows: Rows, device: torch.device) -> Batch:
    """Return the batch of one history."""
    return make_batch(whole_histories(rows, np.array([len(rows)])), np.zeros(1, np.int64)).to(
        device
    )


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's weights are."""
    return next(chain(model.parameters(), model.buffers())).device


def wide(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 where the model computes in it."""
    return values if values.dtype == torch.float64 else values.float()
