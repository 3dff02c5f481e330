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

    return batch.by_rectangle(
        lambda q, k, v: attend(q, k, v, n_heads, causal=True), queries, keys, values
    )


def attend(q: Tensor, k: Tensor, v: Tensor, n_heads: int, *, causal: bool = False) -> Tensor:
    """Return (*, M, d) of attention with heads side by side: q (*, M, d); k, v (*, T, d).

    Where `causal`, M = T and a step sees itself and those before it; otherwise all T are seen.
    """
    q, k, v = (x.unflatten(-1, (n_heads, -1)).transpose(-2, -3) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return attended.transpose(-2, -3).flatten(-2)


class Dropout(nn.Module):
    """Dropout that draws 16 random bits an element from torch's generator.

    On a CPU it takes a quarter of the time of torch's own, which draws every element apart; the
    share dropped is `p` to within 1/65536, and the rest is scaled by exactly that.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(p * 2**16)

    def forward(self, x: Tensor) -> Tensor:
        """Return (...) `x` with elements dropped, in training only."""
        if not self.training or self.threshold == 0:
            return x
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
