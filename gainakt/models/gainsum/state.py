"""One student of GainSum: what the past says, kept answer by answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gainakt.data.batches import Batch
from gainakt.data.rows import UNKNOWN, Rows
from gainakt.models.buffer import Buffer
from gainakt.models.gainsum.block import QuestionBlock
from gainakt.models.gainsum.evidence import Evidence
from gainakt.models.gainsum.history import HistoryState, describe
from gainakt.models.interface import student_batch


class ReadsOneStudent(Protocol):
    """What the state asks of the model."""

    n_skills: int
    n_heads: int
    reads_answers: bool
    embed_skill: nn.Embedding
    decay: nn.Parameter
    query: nn.Linear
    block: QuestionBlock

    def read_past(self, batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Evidence]: ...
    def question_tokens(
        self, asked: Tensor, features: Tensor, question: Tensor | None = None
    ) -> Tensor: ...
    def embed_asked(self, asked: Tensor, question: Tensor | None) -> Tensor: ...
    def weigh_answers(
        self, interaction: Tensor, skill: Tensor, response: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def logits_after(
        self,
        states: Tensor,
        asked: Tensor,
        keys: Tensor,
        gains: Tensor,
        skills: Tensor,
        which: Tensor | None = None,
    ) -> Tensor: ...


class Asked(NamedTuple):
    """One question on skills that may be asked next: these, also as codes (M,), which question as
    code and as (M,), states (M, d), own parts.
    """

    skills: list[int]
    question: int
    codes: Tensor
    which: Tensor
    states: Tensor
    keys: Tensor
    values: Tensor


class GainSumState:
    """A student's state: history, keys and values of the questions, evidence of the answers.

    A question is read against what is kept, by the functions that read a batch; only the question
    that is then asked and its answer are added to it.
    """

    def __init__(self, model: ReadsOneStudent) -> None:
        self.model = model
        self.count = 0
        self.history = HistoryState(model.n_skills)
        like = model.decay
        width = model.query.in_features
        block = (model.block.n_heads, width // model.block.n_heads)
        self.question_keys = Buffer(like, *block)
        self.question_values = Buffer(like, *block)
        self.keys = Buffer(like, model.n_heads, width // model.n_heads)
        self.gains = Buffer(like, model.n_heads)
        self.skills = Buffer(torch.empty(0, dtype=torch.int64, device=like.device))
        self._asked: Asked | None = None

    def __copy__(self) -> GainSumState:
        copied = GainSumState(self.model)
        copied.__dict__ |= {
            name: value.copy() if isinstance(value, Buffer | HistoryState) else value
            for name, value in self.__dict__.items()
        }
        return copied

    def extend(self, rows: Rows) -> None:
        """Take in answers."""
        if self.count == 0 and len(rows) > 1:
            self._read(rows)
            return
        questions = [UNKNOWN] * len(rows) if rows.question is None else rows.question.tolist()
        columns = (rows.skill.tolist(), rows.response.tolist(), questions)
        for skill, response, question in zip(*columns, strict=True):
            self._observe(skill, response, question)

    def _read(self, rows: Rows) -> None:
        """Take in the first answers all at once."""
        batch = student_batch(rows, self.keys.rows.device)
        self.count = len(rows)
        (_, keys, values), evidence = self.model.read_past(batch)
        # the question after the last answer is not asked yet
        self.question_keys.append(keys[:-1])
        self.question_values.append(values[:-1])
        self.keys.append(evidence.keys)
        self.gains.append(evidence.gains)
        self.skills.append(batch.skill)
        for skill, response in zip(rows.skill.tolist(), rows.response.tolist(), strict=True):
            self.history.observe(skill, response)

    def _observe(self, skill: int, response: int, question: int) -> None:
        """Take in one more answer."""
        model = self.model
        numbers = torch.tensor([[skill], [response], [question]], device=self.keys.rows.device)
        if self.count == 0:
            interaction = model.embed_asked(numbers[0], numbers[2])
        else:
            # most often it was predicted just before
            known = self._asked
            if known is None or known.question != question or skill not in known.skills:
                self._asked = self._ask([skill], question)
            assert self._asked is not None
            place = self._asked.skills.index(skill)
            one = slice(place, place + 1)
            interaction = self._asked.states[one]
            self.question_keys.append(self._asked.keys[one])
            self.question_values.append(self._asked.values[one])
        keys, gains = model.weigh_answers(interaction, *numbers[:2])
        self.keys.append(keys)
        self.gains.append(gains)
        self.skills.append(numbers[0])
        self.history.observe(skill, response)
        self.count += 1
        self._asked = None

    def logits(self, skills: list[int], question: int = UNKNOWN) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `skills` were asked next."""
        self._asked = asked = self._ask(skills, question)
        past = (self.keys.rows, self.gains.rows, self.skills.rows)
        return self.model.logits_after(asked.states, asked.codes, *past, asked.which)

    def mastery(self) -> Tensor:
        """Return the mastery (K,) of every skill: the probability if it were asked next."""
        return self.logits(list(range(self.model.n_skills))).sigmoid()

    def _ask(self, skills: list[int], question: int) -> Asked:
        model, place = self.model, self.count - 1
        asked = torch.tensor(skills, device=self.keys.rows.device)
        past = self.history.past(skills, self.keys.rows.dtype, self.keys.rows.device)
        which = torch.full_like(asked, question)
        tokens = model.question_tokens(asked, describe(past, answers=model.reads_answers), which)
        # the question asked after step t stands at place t
        query, keys, values = model.block.parts(tokens, torch.full_like(asked, place))
        before = (self.question_keys.rows, self.question_values.rows)
        k, v = (x.transpose(0, 1) for x in before)
        states = model.block.after(k, v, tokens, query, keys, values)
        return Asked(skills, question, asked, which, states, keys, values)
