"""What tells questions on the same skill apart: an embedding, and how easy each is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gainakt.data.rows import UNKNOWN

# Questions begin close to what is common to their skill.
SPREAD = 0.1


class _Reads(Protocol):
    """Parameters of a model that may tell questions apart."""

    @property
    def d_model(self) -> int: ...
    @property
    def question_ids(self) -> bool: ...
    @property
    def question_dropout(self) -> float: ...


class Questions(nn.Module):
    """What is known of Q questions beside their skills; of an unknown one, nothing: zeros.

    The easiness is that of the Rasch model; the embedding, of width d, is what else there is. In
    training, some questions are taken for unknown ones, so that a question that the model never
    saw is predicted by what its skill says of all of them.
    """

    def __init__(self, count: int, width: int, dropout: float) -> None:
        super().__init__()
        self.share = dropout
        self.embed = nn.Embedding(count + 1, width, padding_idx=UNKNOWN)
        self.easy = nn.Embedding(count + 1, 1, padding_idx=UNKNOWN)
        nn.init.normal_(self.embed.weight, std=SPREAD)
        nn.init.zeros_(self.easy.weight)
        with torch.no_grad():
            self.embed.weight[UNKNOWN] = 0.0

    def drop(self, question: Tensor | None) -> Tensor | None:
        """Return the codes (N,), in training a share of them unknown."""
        if question is None or not self.training or not self.share:
            return question
        dropped = torch.rand(question.shape, device=question.device) < self.share
        return question.masked_fill(dropped, UNKNOWN)

    @classmethod
    def of(cls, parameters: _Reads, count: int) -> Questions | None:
        """Return those of a model's parameters, None where questions are not told apart."""
        if not parameters.question_ids or not count:
            return None
        return cls(count, parameters.d_model, parameters.question_dropout)

    def embedding(self, question: Tensor) -> Tensor:
        """Return what questions (N,) add to the embeddings of their skills, (N, d)."""
        return _of_known(self.embed(question), question)

    def easiness(self, question: Tensor) -> Tensor:
        """Return what questions (N,) add to the log-odds of a right answer, (N,)."""
        return _of_known(self.easy(question), question).squeeze(-1)


def _of_known(values: Tensor, question: Tensor) -> Tensor:
    """Values (N, d) of questions (N,), zeros for unknown ones whatever the weights hold."""
    return values.masked_fill((question == UNKNOWN)[:, None], 0.0)
