"""What is asked: N questions with one skill or several, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gainakt.data.batches import Batch
from gainakt.data.rows import NONE, Rows
from gainakt.models.interface import codes

Likeness = Callable[[Tensor, Tensor], Tensor]


class Asked(NamedTuple):
    """N questions.

    skill: (N,), the first of each. others: (N, S - 1), the further ones, `NONE` where there are
    fewer; None where no question has one. question: (N,) which they are, None where that is not
    told apart. since: (N,) milliseconds since the last answer on one of the skills, None where time
    plays no part.
    """

    skill: Tensor
    others: Tensor | None = None
    question: Tensor | None = None
    since: Tensor | None = None

    @classmethod
    def of(cls, skill: Tensor, others: Tensor | None, question: Tensor | None = None) -> Asked:
        """Return questions from the columns of a batch."""
        return cls(skill, others if others is not None and others.shape[1] else None, question)

    @classmethod
    def next_of(cls, batch: Batch, question: Tensor | None = None) -> Asked:
        """Return what is asked after each step of a batch."""
        return cls.of(batch.next_skill, batch.next_others, question)

    @classmethod
    def at(cls, batch: Batch, question: Tensor | None = None) -> Asked:
        """Return what was answered at each step of a batch."""
        return cls.of(batch.skill, batch.others, question)

    @classmethod
    def in_rows(cls, rows: Rows, device: torch.device) -> Asked:
        """Return the questions of rows."""
        return cls.of(*codes(rows, device, "skill", "others", "question"))

    @property
    def members(self) -> Tensor:
        """The skills (N, S) of each, `NONE` where there are fewer."""
        first = self.skill[:, None]
        return first if self.others is None else torch.cat([first, self.others], dim=1)

    def one(self, place: int) -> Asked:
        """Return the question at a place by itself."""
        return Asked(*(None if x is None else x[place : place + 1] for x in self))  # type: ignore[arg-type]

    def mean(self, embedding: nn.Embedding, shift: Tensor | int = 0) -> Tensor:
        """Return the mean (N, d) of the embeddings of each question's skills.

        Args:
            embedding: of skill codes.
            shift: (N,), what is added to the codes.
        """
        first: Tensor = embedding(self.skill + shift)
        if self.others is None:
            return first
        known = (self.others != NONE).to(first.dtype)
        codes = self.others.clamp(min=0) + (shift if isinstance(shift, int) else shift[:, None])
        rest = (embedding(codes) * known[..., None]).sum(dim=1)
        mean: Tensor = (first + rest) / (1 + known.sum(dim=1, keepdim=True))
        return mean

    def by_skill(self, none: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return skill, place and share, (P,) each, of every question's every skill.

        Args:
            none: the code that stands for a missing skill, whose share is 0. A CPU leaves those
                out, a GPU keeps every shape.
        """
        members = self.members
        known = members != NONE
        places = torch.arange(len(members), device=members.device)[:, None].expand_as(members)
        share = (known / known.sum(dim=1, keepdim=True)).flatten()
        skill, place = torch.where(known, members, none).flatten(), places.flatten()
        if members.is_cuda:
            return skill, place, share
        kept = known.flatten().nonzero()[:, 0]
        return skill[kept], place[kept], share[kept]


def overlap(asked: Tensor, answered: Tensor) -> Tensor:
    """Return the share (*, M, T) of skills in common, |K_i and K_q| / |K_i or K_q|.

    Args:
        asked: (*, M, S) codes of skills, `NONE` where there are fewer.
        answered: (*, T, S') likewise.
    """
    both = torch.zeros((), device=asked.device)
    for one in asked.unbind(-1):
        for other in answered.unbind(-1):
            equal = (one[..., :, None] == other[..., None, :]) & (one != NONE)[..., :, None]
            both = both + equal
    of_asked, of_answered = ((x != NONE).sum(dim=-1) for x in (asked, answered))
    either = of_asked[..., :, None] + of_answered[..., None, :] - both
    return both / either


def likeness(answered: Asked, asked: Asked) -> tuple[Tensor, Tensor, Likeness]:
    """Return answers and questions as (N, ...) tensors, and what compares views of them.

    The function takes (rows, T, ...) answers and (rows, M, ...) questions and returns the overlap
    (rows, M, T) of their skills: 1 where they are the same.
    """
    if answered.others is None and asked.others is None:
        return answered.skill, asked.skill, lambda i, q: q[:, :, None] == i[:, None]
    members = answered.members, asked.members
    if asked.skill.is_cuda:
        return members[0], members[1], lambda i, q: overlap(q, i)
    # there are few sets of skills, so that each pair of them is compared once
    (past, sets), (wanted, others) = map(_distinct, members)
    table = overlap(others, sets)
    return past, wanted, lambda i, q: table[q[:, :, None], i[:, None]]


def _distinct(members: Tensor) -> tuple[Tensor, Tensor]:
    """Number the sets of skills: the number (N,) of each, and the sets (U, S)."""
    members = members.sort(dim=1).values
    number = torch.zeros_like(members[:, 0])
    base = int(members.max()) + 2
    for column in members.unbind(1):
        number = (number * base + column + 1).unique(return_inverse=True)[1]
    sets = members.new_empty(int(number.max()) + 1, members.shape[1])
    sets[number] = members
    return number, sets
