"""One student of GainSum: what the past says, kept answer by answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gainakt.arrays import IntArray
from gainakt.models.gainsum.history import HistoryState, describe
from gainakt.models.interface import histories_batch

if TYPE_CHECKING:
    from gainakt.models.gainsum.model import GainSum


class Asked(NamedTuple):
    """Questions that may be asked next: skills, also as codes (M,), states (M, d), own parts."""

    skills: list[int]
    codes: Tensor
    states: Tensor
    keys: Tensor
    values: Tensor


class GainSumState:
    """A student's state: history, keys and values of the questions, evidence of the answers.

    A question is read against what is kept, by the functions that read a batch; only the question
    that is then asked and its answer are added to it.
    """

    def __init__(self, model: GainSum, length: int) -> None:
        self.model = model
        self.count = 0
        self.history = HistoryState(model.n_skills)
        like = model.decay
        width = model.query.in_features
        block = (length, model.block.n_heads, width // model.block.n_heads)
        heads = (length, model.n_heads)
        self.question_keys = like.new_empty(block)
        self.question_values = like.new_empty(block)
        self.keys = like.new_empty(*heads, width // model.n_heads)
        self.gains = like.new_empty(heads)
        self.skills = torch.empty(length, dtype=torch.int64, device=like.device)
        self._asked: Asked | None = None

    def extend(self, skills: IntArray, responses: IntArray) -> None:
        """Take in the answers (n,) that come first, all at once."""
        assert self.count == 0
        batch = histories_batch(skills[None], responses[None], self.skills.device)
        n = self.count = len(skills)
        (_, keys, values), evidence = self.model.read_past(batch)
        # the question after the last answer is not asked yet: its place is the next one's
        self.question_keys[:n], self.question_values[:n] = keys, values
        self.keys[:n], self.gains[:n], self.skills[:n] = evidence.keys, evidence.gains, batch.skill
        for skill, response in zip(skills.tolist(), responses.tolist(), strict=True):
            self.history.observe(skill, response)

    def observe(self, skill: int, response: int) -> None:
        """Take in one more answer."""
        model, n = self.model, self.count
        numbers = torch.tensor([[skill], [response]], device=self.skills.device)
        if n == 0:
            interaction = model.embed_skill(numbers[0])
        else:
            # most often it was predicted just before
            if self._asked is None or skill not in self._asked.skills:
                self._asked = self._ask([skill])
            place = self._asked.skills.index(skill)
            interaction = self._asked.states[place : place + 1]
            self.question_keys[n - 1] = self._asked.keys[place]
            self.question_values[n - 1] = self._asked.values[place]
        keys, gains = model.weigh_answers(interaction, *numbers)
        self.keys[n], self.gains[n], self.skills[n] = keys[0], gains[0], skill
        self.history.observe(skill, response)
        self.count += 1
        self._asked = None

    def logits(self, skills: list[int]) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `skills` were asked next."""
        n = self.count
        self._asked = self._ask(skills)
        past = (self.keys[:n], self.gains[:n], self.skills[:n])
        return self.model.logits_after(self._asked.states, self._asked.codes, *past)

    def mastery(self) -> Tensor:
        """Return the mastery (K,) of every skill: the probability if it were asked next."""
        return self.logits(list(range(self.model.n_skills))).sigmoid()

    def _ask(self, skills: list[int]) -> Asked:
        model, place = self.model, self.count - 1
        asked = torch.tensor(skills, device=self.skills.device)
        past = self.history.past(skills, self.keys.dtype, self.skills.device)
        tokens = model.question_tokens(asked, describe(past, answers=model.reads_answers))
        # the question asked after step t stands at place t
        query, keys, values = model.block.parts(tokens, torch.full_like(asked, place))
        before = (self.question_keys[:place], self.question_values[:place])
        k, v = (x.transpose(0, 1) for x in before)
        return Asked(
            skills, asked, model.block.after(k, v, tokens, query, keys, values), keys, values
        )
