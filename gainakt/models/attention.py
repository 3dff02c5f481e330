"""The parts that attention models are built from, bottom up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainakt.data.batches import Batch


def causal_attention(
    batch: Batch, queries: Tensor, keys: Tensor, values: Tensor, n_heads: int
) -> Tensor:
    """Attend from every step to itself and the steps before it in the same sequence.

    Args:
        batch: whose rectangles say where sequences lie.
        queries, keys, values: (N, d), heads side by side.
        n_heads: heads that d is split into.

    Returns:
        (N, d), heads joined again.
    """
    parts = (x.unflatten(-1, (n_heads, -1)) for x in (queries, keys, values))
    return batch.by_rectangle(attend, *parts, *batch.masks()).flatten(-2)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None = None,
    *,
    causal: bool = True,
) -> Tensor:
    """Return what M steps of some rows attend to among T, (rows, M, H, d / H).

    Args:
        queries: (rows, M, H, d / H).
        keys, values: (rows, T, H, d / H).
        visible: (rows, M, T) bool; by default see `causal`.
        causal: M = T, and a step sees itself and all before it in its row; otherwise all T.
    """
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    if visible is None:
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    else:
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None])
    return attended.transpose(1, 2)


class Dropout(nn.Module):
    """Dropout that draws 16 random bits an element from torch's generator.

    On a CPU it takes a quarter of the time of torch's own, which draws every element apart; the
    share dropped is `p` to within 1/65536, and the rest is scaled by exactly that. On a GPU torch's
    own is a single kernel and serves.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = round(p * 2**16)

    def forward(self, x: Tensor) -> Tensor:
        """Return (...) `x` with elements dropped, in training only."""
        if not self.training or self.threshold == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.p)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        keep = (bits >= self.threshold - 2**15).to(x.dtype)
        return x * keep.mul_(1 / (1 - self.threshold / 2**16))


def feed_forward(d_model: int, d_ff: int, dropout: float) -> nn.Sequential:
    """Return Linear(d, d_ff), ReLU, dropout, Linear(d_ff, d)."""
    return nn.Sequential(
        nn.Linear(d_model, d_ff), nn.ReLU(), Dropout(dropout), nn.Linear(d_ff, d_model)
    )
