"""The parts that attention models are built from, bottom up."""

from __future__ import annotations

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

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)

    return batch.by_rectangle(attend, queries, keys, values)


def feed_forward(d_model: int, d_ff: int, dropout: float) -> nn.Sequential:
    """Return Linear(d, d_ff), ReLU, dropout, Linear(d_ff, d)."""
    return nn.Sequential(
        nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model)
    )
