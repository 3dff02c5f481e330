"""One student of GainSum: what the past says, kept answer by answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gainakt.data.batches import Batch
from gainakt.data.rows import NONE, UNKNOWN, Rows, asked_next
from gainakt.models.buffer import Buffer
from gainakt.models.gainsum.asked import Asked
from gainakt.models.gainsum.block import QuestionBlock
from gainakt.models.gainsum.evidence import Evidence
from gainakt.models.gainsum.history import HistoryState, describe, mean_by
from gainakt.models.interface import student_batch


class ReadsOneStudent(Protocol):
    """What the state asks of the model."""

    n_skills: int
    n_heads: int
    reads_answers: bool
    embed_skill: nn.Embedding
    reads_times: bool
    decay: nn.Parameter
    query: nn.Linear
    block: QuestionBlock

    def read_past(self, batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Evidence]: ...
    def question_tokens(self, asked: Asked, features: Tensor) -> Tensor: ...
    def embed_asked(self, asked: Asked) -> Tensor: ...
    def weigh_answers(
        self, interaction: Tensor, answered: Asked, response: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def logits_after(
        self,
        states: Tensor,
        asked: Asked,
        keys: Tensor,
        gains: Tensor,
        answered: Asked,
    ) -> Tensor: ...


class Prepared(NamedTuple):
    """M questions that may be asked next: the skills and the code of each, as tensors, states
    (M, d), own parts.
    """

    known: list[tuple[list[int], int]]
    asked: Asked
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
        self.skills = Buffer(torch.empty(0, dtype=torch.int64, device=like.device), 1)
        self._asked: Prepared | None = None

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
        for number in range(len(rows)):
            self._observe(rows.take(slice(number, number + 1)))

    def _read(self, rows: Rows) -> None:
        """Take in the first answers all at once."""
        batch = student_batch(rows, self.keys.rows.device)
        self.count = len(rows)
        (_, keys, values), evidence = self.model.read_past(batch)
        # the question after the last answer is not asked yet
        self.question_keys.append(keys[:-1])
        self.question_values.append(values[:-1])
        answered = Asked.at(batch)
        self._remember(answered, evidence.keys, evidence.gains)
        known = zip(skills_of(answered), rows.response.tolist(), times_of(rows), strict=True)
        for skills, response, time in known:
            self.history.observe(skills, response, time)

    def _observe(self, answer: Rows) -> None:
        """Take in one more answer."""
        model = self.model
        answered = Asked.in_rows(answer, self.keys.rows.device)
        known = _known(answered)[0]
        if self.count == 0:
            interaction = model.embed_asked(answered)
        else:
            # most often it was predicted just before
            if self._asked is None or known not in self._asked.known:
                self._asked = self._ask(answered)
            place = self._asked.known.index(known)
            one = slice(place, place + 1)
            interaction = self._asked.states[one]
            self.question_keys.append(self._asked.keys[one])
            self.question_values.append(self._asked.values[one])
        right = int(answer.response[0])
        response = torch.full_like(answered.skill, right)
        self._remember(answered, *model.weigh_answers(interaction, answered, response))
        self.history.observe(known[0], right, *times_of(answer))
        self.count += 1
        self._asked = None

    def _remember(self, answered: Asked, keys: Tensor, gains: Tensor) -> None:
        self.keys.append(keys)
        self.gains.append(gains)
        members, known = answered.members, self.skills.rows
        wider = members.shape[1] - known.shape[1]
        if wider > 0:
            self.skills = Buffer(members, members.shape[1])
            self.skills.append(nn.functional.pad(known, (0, wider), value=NONE))
        self.skills.append(nn.functional.pad(members, (0, max(-wider, 0)), value=NONE))

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `asked` were asked next."""
        wanted = Asked.in_rows(asked, self.keys.rows.device)
        if self.model.reads_times:
            time = np.array(times_of(asked))
            since = self.history.since(wanted.members.cpu().numpy(), time)
            wanted = wanted._replace(since=torch.from_numpy(since).to(wanted.skill.device))
        self._asked = prepared = self._ask(wanted)
        skills = self.skills.rows
        answered = Asked.of(skills[:, 0], skills[:, 1:])
        past = (self.keys.rows, self.gains.rows, answered)
        return self.model.logits_after(prepared.states, prepared.asked, *past)

    def mastery(self, time: int = 0) -> Tensor:
        """Return the mastery (K,) of every skill: the probability if it were asked next."""
        return self.logits(asked_next(range(self.model.n_skills), time=time)).sigmoid()

    def _ask(self, asked: Asked) -> Prepared:
        model, place = self.model, self.count - 1
        format = (self.keys.rows.dtype, self.keys.rows.device)
        if asked.others is None:
            features = describe(
                self.history.past(asked.skill.tolist(), *format), answers=model.reads_answers
            )
        else:
            skill, of, share = asked.by_skill(0)
            past = self.history.past(skill.tolist(), *format)
            every = describe(past, answers=model.reads_answers)
            features = mean_by(every, of, share, len(asked.skill))
        tokens = model.question_tokens(asked, features)
        # the question asked after step t stands at place t
        query, keys, values = model.block.parts(tokens, torch.full_like(asked.skill, place))
        before = (self.question_keys.rows, self.question_values.rows)
        k, v = (x.transpose(0, 1) for x in before)
        states = model.block.after(k, v, tokens, query, keys, values)
        return Prepared(_known(asked), asked, states, keys, values)


def times_of(rows: Rows) -> list[int]:
    """Return the times of rows, 0 where they are not known."""
    return [0] * len(rows) if rows.time is None else rows.time.tolist()


def skills_of(asked: Asked) -> list[list[int]]:
    """Return the codes of each question's skills."""
    if asked.others is None:
        return [[skill] for skill in asked.skill.tolist()]
    return [[code for code in codes if code != NONE] for codes in asked.members.tolist()]


def _known(asked: Asked) -> list[tuple[list[int], int]]:
    """What tells questions apart: their skills and codes."""
    skills = skills_of(asked)
    questions = [UNKNOWN] * len(skills) if asked.question is None else asked.question.tolist()
    return list(zip(skills, questions, strict=True))
