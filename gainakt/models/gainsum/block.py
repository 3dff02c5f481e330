"""The block that reads the questions of a sequence, with rotary positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainakt.data.batches import Batch
from gainakt.models.attention import Dropout, attend
from gainakt.models.interface import wide

ROTARY_BASE = 100.0


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Turn vectors by their position, so that products depend on distance (Su et al. 2021).

    Neighbouring elements are one complex number each, turned by position times its speed.

    Args:
        x: (N, H, d), d even.
        position: (N,).
    """
    width, dtype = x.shape[-1], wide(x).dtype
    places = torch.arange(0, width, 2, device=x.device, dtype=dtype)
    speed: Tensor = ROTARY_BASE ** (-places / width)
    angle = position[:, None, None] * speed
    turn = torch.polar(torch.ones_like(angle), angle)
    turned = torch.view_as_complex(wide(x).unflatten(-1, (-1, 2))) * turn
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
        return self.states(batch, tokens, *self.parts(tokens, batch.position))

    def parts(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, each (N, H, d / H), of tokens (N, d) at positions (N,)."""
        joint = self.query_key_value(self.norm_attention(tokens))
        joint = joint.unflatten(-1, (3 * self.n_heads, -1))
        turned, v = joint.split([2 * self.n_heads, self.n_heads], dim=-2)
        q, k = rotate(turned, position).chunk(2, dim=-2)
        return q, k, v

    def states(self, batch: Batch, tokens: Tensor, *parts: Tensor) -> Tensor:
        """Return the states (N, d) of the questions that were asked, from their `parts`."""
        return self._renew(tokens, batch.by_rectangle(attend, *parts, *batch.masks()))

    def instead(self, batch: Batch, tokens: Tensor, others: Tensor) -> Tensor:
        """Return the states (N, d) if `others` (N, d) were asked, each after the same questions."""
        _, keys, values = self.parts(tokens, batch.position)
        own = self.parts(others, batch.position)

        def ask(*views: Tensor) -> Tensor:
            k, v, q, own_k, own_v = (x.transpose(1, 2) for x in views)
            length = q.shape[-2]
            future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu_()
            return attend_to_past_and_self(q, k, v, own_k, own_v, future).transpose(1, 2)

        return self._renew(others, batch.by_rectangle(ask, keys, values, *own))

    def after(self, keys: Tensor, values: Tensor, others: Tensor, *own: Tensor) -> Tensor:
        """Return the states (M, d) if each of `others` were asked after the same t questions.

        Args:
            keys, values: (H, t, d / H) of the questions asked.
            others: (M, d) tokens, all at position t.
            own: their `parts`.
        """
        q, own_k, own_v = (x.transpose(0, 1) for x in own)
        attended = attend_to_past_and_self(q, keys, values, own_k, own_v)
        return self._renew(others, attended.transpose(0, 1))

    def _renew(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.project(attended.flatten(-2)))
        renewed: Tensor = x + self.dropout(self.narrow(F.relu(self.widen(self.norm_forward(x)))))
        return renewed


def attend_to_past_and_self(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    hidden: Tensor | None = None,
) -> Tensor:
    """Attend from M questions to T earlier ones and to themselves, but not to one another.

    Args:
        q, own_k, own_v: (*, M, d).
        k, v: (*, T, d).
        hidden: (M, T) bool, True where an earlier question is not to be seen.

    Returns:
        (*, M, d).
    """
    scores = q @ k.mT
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    own = (q * own_k).sum(dim=-1, keepdim=True)
    weights = (torch.cat([scores, own], dim=-1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    attended: Tensor = weights[..., :-1] @ v + weights[..., -1:] * own_v
    return attended
