"""Models with a leak each, which audits must find."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from gainakt.baselines.skill_mean import SkillMean
from gainakt.config import Config
from gainakt.data.batches import Batch
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import first_rows
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.interface import ModelOutput

LOUD = 3.0


def ahead(batch: Batch, values: Tensor, steps: int) -> Tensor:
    """What each step's row holds so many steps later, 0 behind its end."""
    shifted = values * batch.valid
    return batch.by_rectangle(lambda x: pad(x, (0, steps))[:, steps:], shifted)


class Leaky(SkillMean):
    """A skill's rate, and besides what must not be known."""

    def forward(self, batch: Batch) -> ModelOutput:
        honest = super().forward(batch)
        told = self.told(batch).to(honest.logits)
        return ModelOutput(honest.logits + told, honest.mastery)

    def told(self, batch: Batch) -> Tensor:
        raise NotImplementedError


class ReadsTheFuture(Leaky):
    """The answer after the one that is predicted."""

    def told(self, batch: Batch) -> Tensor:
        return LOUD * (2 * ahead(batch, batch.response, 2) - 1)


class ReadsItsLength(Leaky):
    """How far the end of the history is."""

    def told(self, batch: Batch) -> Tensor:
        return 0.1 * batch.by_rectangle(lambda x: x.flip(1).cumsum(1).flip(1), batch.valid.float())


class ReadsSiblings(Leaky):
    """The answer in the row of the next skill of the question that is asked."""

    def told(self, batch: Batch) -> Tensor:
        assert batch.question is not None and batch.next_question is not None
        same = ahead(batch, batch.question, 2) == batch.next_question
        return LOUD * same * (2 * ahead(batch, batch.response, 2) - 1)


class ReadsTheAnswer(Leaky):
    """The very answer that is predicted, on one skill alone."""

    def told(self, batch: Batch) -> Tensor:
        return LOUD * (batch.next_skill == 0) * (2 * batch.next_response - 1)


class KnowsByHeart(Leaky):
    """What students with such a past answered next: it has seen the test students."""

    known: ClassVar[dict[int, float]] = {}

    @staticmethod
    def mixed(past: int, skill: int, answer: int) -> int:
        return hash((past, skill, answer))

    @classmethod
    def learn(cls, dataset: Dataset, students: list[int]) -> None:
        cls.known.clear()
        first = first_rows(dataset.rows.order, dataset.offsets)
        for student in students:
            past = 0
            for row in range(int(dataset.offsets[student]), int(dataset.offsets[student + 1])):
                skill, answer = int(dataset.rows.skill[row]), int(dataset.rows.response[row])
                if first[row]:
                    cls.known[hash((past, skill))] = 2.0 * answer - 1
                past = cls.mixed(past, skill, answer)

    def told(self, batch: Batch) -> Tensor:
        found = torch.zeros(len(batch.valid))
        for start, rows, length in batch.rectangles:
            for row in range(rows):
                past = 0
                for step in range(start + row * length, start + (row + 1) * length):
                    past = self.mixed(past, int(batch.skill[step]), int(batch.response[step]))
                    asked = hash((past, int(batch.next_skill[step])))
                    found[step] = LOUD * self.known.get(asked, 0.0)
        return found


LEAKS: dict[str, type[Leaky]] = {
    "reads_the_future": ReadsTheFuture,
    "reads_its_length": ReadsItsLength,
    "reads_siblings": ReadsSiblings,
    "reads_the_answer": ReadsTheAnswer,
    "knows_by_heart": KnowsByHeart,
}


def build(config: Config, vocabulary: Vocabulary) -> Leaky:
    """Build the model of the configured name."""
    return LEAKS[config.experiment.model](vocabulary.n_skills)
