"""The block that reads the questions of a sequence, with rotary positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainakt.data.batches import Batch
from gainakt.models.attention import Dropout, attend

ROTARY_BASE = 100.0


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Turn vectors by their position, so that products depend on distance (Su et al. 2021).

    Neighbouring elements are one complex number each, turned by position times its speed.

    Args:
        x: (N, H, d), d even.
        position: (N,).
    """
    width = x.shape[-1]
    speed: Tensor = ROTARY_BASE ** (-torch.arange(0, width, 2, device=x.device) / width)
    angle = position[:, None, None] * speed
    turn = torch.polar(torch.ones_like(angle), angle)
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * turn
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


class QuestionBlock(nn.Module):
    """One causal transformer block over the questions of a sequence.

    x' = x + drop(W attention(LN(x))), state = x' + drop(FFN(LN(x'))). The question asked after step
    t sees itself and the questions asked before it.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = Dropout(dropout)
        self.norm_attention = nn.LayerNorm(d_model)
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_forward = nn.LayerNorm(d_model)
        self.widen = nn.Linear(d_model, d_ff)
        self.narrow = nn.Linear(d_ff, d_model)

    def forward(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Return the states (N, d) of the questions that were asked."""
        attended = batch.by_rectangle(attend, *self._parts(batch, tokens), *batch.masks())
        return self._renew(tokens, attended)

    def instead(self, batch: Batch, tokens: Tensor, others: Tensor) -> Tensor:
        """Return the states (N, d) if `others` (N, d) were asked, each after the same questions."""
        _, keys, values = self._parts(batch, tokens)
        own = self._parts(batch, others)
        return self._renew(others, batch.by_rectangle(_attend_instead, keys, values, *own))

    def _parts(self, batch: Batch, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (N, H, d / H)."""
        joint = self.query_key_value(self.norm_attention(tokens))
        q, k, v = (x.unflatten(-1, (self.n_heads, -1)) for x in joint.chunk(3, dim=-1))
        return rotate(q, batch.position), rotate(k, batch.position), v

    def _renew(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.project(attended.flatten(-2)))
        renewed: Tensor = x + self.dropout(self.narrow(F.gelu(self.widen(self.norm_forward(x)))))
        return renewed


def _attend_instead(*parts: Tensor) -> Tensor:
    k, v, q, own_k, own_v = (x.transpose(1, 2) for x in parts)
    future = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu_()
    scores = (q @ k.mT).masked_fill(future, -torch.inf)
    own = (q * own_k).sum(dim=-1, keepdim=True)
    weights = (torch.cat([scores, own], dim=-1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    attended: Tensor = weights[..., :-1] @ v + weights[..., -1:] * own_v
    return attended.transpose(1, 2)
