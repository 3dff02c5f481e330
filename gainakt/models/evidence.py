"""The sum of evidence: what share each past answer has in it, and the sum itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def attention_weights(
    query: Tensor,
    keys: Tensor,
    is_same: Tensor,
    same: Tensor,
    decay: Tensor,
    visible: Tensor | None = None,
    *,
    causal: bool = True,
) -> Tensor:
    """Return the share of each past answer in the evidence, alpha (rows, H, M, T).

    alpha_h(t, i) = softmax over the past i of
    query(t, k) . key(i) / sqrt(d_h) - decay_h (t - i) + same_h [s_i = k].

    A softmax ignores what its scores have in common, so decay_h i serves for -decay_h (t - i).

    Args:
        query: (rows, M, H, d_h).
        keys: (rows, T, H, d_h).
        is_same: (rows, M, T), 1 where the skill of step i is the one asked.
        same, decay: (H,).
        visible: (rows, M, T) bool, the past where it is not the whole row up to t (see Batch).
        causal: M = T and question t is asked after step t, so its past is the steps up to t;
            otherwise every question is asked after all T.
    """
    rows, length, heads, width = query.shape
    fading = decay[:, None, None] * _steps(keys)
    if visible is not None:
        fading = fading + torch.where(visible, 0.0, -torch.inf)[:, None]
    elif causal:
        fading = fading + torch.full((length, length), -torch.inf, device=query.device).triu_(1)
    bias = torch.addcmul(fading, same[:, None, None], is_same[:, None])
    scores = torch.baddbmm(
        bias.flatten(0, 1), _by_head(query), _by_head(keys).mT, alpha=width**-0.5
    )
    weights: Tensor = scores.softmax(dim=-1).unflatten(0, (rows, heads))
    return weights


def sum_evidence(
    query: Tensor,
    keys: Tensor,
    gains: Tensor,
    is_same: Tensor,
    same: Tensor,
    decay: Tensor,
    visible: Tensor | None = None,
    *,
    causal: bool = True,
) -> Tensor:
    """Return sum over past i of alpha_h(t, i) gain_h(i), (rows, M, H).

    Args:
        query, keys, is_same, same, decay, visible, causal: see `attention_weights`.
        gains: (rows, T, H), signed.
    """
    if causal:
        result: Tensor = _EvidenceSum.apply(  # type: ignore[no-untyped-call]
            query, keys, gains, is_same, same, decay, visible
        )
        return result
    alpha = attention_weights(query, keys, is_same, same, decay, causal=False)
    return (alpha @ gains.transpose(1, 2)[..., None]).squeeze(-1).transpose(1, 2)


class _EvidenceSum(torch.autograd.Function):
    """The sum with its gradient in closed form: half the time, and no score kept but alpha.

    With e_t = sum_i alpha(t, i) g_i, the gradient of score (t, i) is alpha(t, i) (g_i - e_t) of
    that of e_t.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        gains: Tensor,
        is_same: Tensor,
        same: Tensor,
        decay: Tensor,
        visible: Tensor | None,
    ) -> Tensor:
        alpha = attention_weights(query, keys, is_same, same, decay, visible).flatten(0, 1)
        by_head = gains.transpose(1, 2).flatten(0, 1)[:, None]  # (rows H, 1, T)
        # a row before a matrix: several times as fast as a column behind it, here and below
        evidence: Tensor = by_head @ alpha.mT
        ctx.save_for_backward(query, keys, is_same, alpha, by_head, evidence)
        return evidence.view(len(query), -1, query.shape[1]).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, is_same, alpha, gains, evidence = ctx.saved_tensors
        rows, _, heads, width = query.shape
        gradient = gradients[0].transpose(1, 2).flatten(0, 1)[:, None]  # (rows H, 1, T)
        of_gains = (gradient @ alpha).view(rows, heads, -1)
        of_scores = (gains - evidence.mT).mul_(gradient.mT).mul_(alpha)
        of_query = torch.bmm(of_scores, _by_head(keys)) * width**-0.5
        of_keys = torch.bmm(of_scores.mT, _by_head(query)) * width**-0.5
        of_same = is_same.flatten(1)[:, None] @ of_scores.view(rows, heads, -1).mT
        of_decay = of_scores.sum(dim=1) @ _steps(query)
        return (
            _by_step(of_query, rows),
            _by_step(of_keys, rows),
            of_gains.transpose(1, 2),
            None,
            of_same.sum(dim=0)[0],
            of_decay.view(rows, heads).sum(dim=0),
            None,
        )


def _steps(query: Tensor) -> Tensor:
    """0 .. T - 1 of a (rows, T, H, d_h) tensor, in its number format."""
    return torch.arange(query.shape[1], device=query.device, dtype=query.dtype)


def _by_head(x: Tensor) -> Tensor:
    """(rows, T, H, d_h) as (rows H, T, d_h)."""
    return x.transpose(1, 2).flatten(0, 1)


def _by_step(x: Tensor, rows: int) -> Tensor:
    """(rows H, T, d_h) as (rows, T, H, d_h)."""
    split: Tensor = x.unflatten(0, (rows, -1))
    return split.transpose(1, 2)
