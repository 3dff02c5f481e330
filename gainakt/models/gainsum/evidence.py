"""The sum of evidence: what share each past answer has in it, and the sum itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """What the past says, whatever is asked.

    tokens: (N, d) of the questions asked. keys: (N, H, d_h). gains: (N, H), signed.
    """

    tokens: Tensor
    keys: Tensor
    gains: Tensor


class Preference(NamedTuple):
    """Which answers heads prefer, whatever is asked; see `preference`.

    same, decay: (H,), what the skill asked adds to a score, and a step of distance takes from it.
    by_step: (H, 1 or L, L), what distance makes of the scores of questions (down) and answers
    (across), -inf where an answer came after the question.
    """

    same: Tensor
    decay: Tensor
    by_step: Tensor


def preference(same: Tensor, decay: Tensor, length: int, *, causal: bool = True) -> Preference:
    """Return the preference over rows of up to `length` steps.

    A softmax ignores what its scores have in common, so decay_h i serves for -decay_h (t - i).

    Args:
        same, decay: (H,).
        length: L, the longest row.
        causal: question t is asked after step t, so its past is the steps up to t; otherwise all.
    """
    by_step = decay[:, None, None] * _steps(length, decay)
    if causal:
        by_step = by_step + torch.full((length, length), -torch.inf, device=decay.device).triu_(1)
    return Preference(same, decay, by_step)


def attention_weights(
    query: Tensor,
    keys: Tensor,
    is_same: Tensor,
    prefer: Preference,
    visible: Tensor | None = None,
) -> Tensor:
    """Return the share of each past answer in the evidence, alpha (rows, H, M, T).

    alpha_h(t, i) = softmax over the past i of
    query(t, k) . key(i) / sqrt(d_h) - decay_h (t - i) + same_h [s_i = k].

    Args:
        query: (rows, M, H, d_h).
        keys: (rows, T, H, d_h).
        is_same: (rows, M, T), 1 where the skill of step i is the one asked, a share of it where
            questions have several (see `gainakt.models.gainsum.asked.overlap`).
        prefer: over at least T steps.
        visible: (rows, M, T) bool, the past where a row holds several sequences (see Batch).
    """
    alpha = _weights(_by_head(query), _by_head(keys), is_same, prefer, visible)
    split: Tensor = alpha.unflatten(0, (len(query), -1))
    return split


def _weights(
    query: Tensor, keys: Tensor, is_same: Tensor, prefer: Preference, visible: Tensor | None
) -> Tensor:
    """`attention_weights` with query and keys (rows H, M or T, d_h); (rows H, M, T)."""
    by_step = prefer.by_step[:, : query.shape[1], : keys.shape[1]]
    if visible is not None:
        by_step = by_step + torch.where(visible, 0.0, -torch.inf)[:, None]
    bias = torch.addcmul(by_step, prefer.same[:, None, None], is_same[:, None]).flatten(0, 1)
    return bias.baddbmm_(query, keys.mT, alpha=query.shape[-1] ** -0.5).softmax(dim=-1)


def sum_evidence(
    query: Tensor,
    keys: Tensor,
    gains: Tensor,
    is_same: Tensor,
    prefer: Preference,
    visible: Tensor | None = None,
) -> Tensor:
    """Return sum over past i of alpha_h(t, i) gain_h(i), (rows, M, H).

    Args:
        query, keys, is_same, prefer, visible: see `attention_weights`.
        gains: (rows, T, H), signed.
    """
    result: Tensor = _EvidenceSum.apply(  # type: ignore[no-untyped-call]
        query, keys, gains, is_same, prefer.same, prefer.decay, prefer.by_step.detach(), visible
    )
    return result


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
        by_step: Tensor,
        visible: Tensor | None,
    ) -> Tensor:
        rows, length, heads, _ = query.shape
        query, keys = _by_head(query), _by_head(keys)
        gains = gains.transpose(1, 2).flatten(0, 1)[:, None]  # (rows H, 1, T)
        alpha = _weights(query, keys, is_same, Preference(same, decay, by_step), visible)
        # a row before a matrix: several times as fast as a column behind it, here and below
        evidence = torch.bmm(gains, alpha.mT)
        ctx.save_for_backward(query, keys, gains, is_same, alpha, evidence)
        return evidence.view(rows, heads, length).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, gains, is_same, alpha, evidence = ctx.saved_tensors
        rows, _, heads = gradients[0].shape
        gradient = gradients[0].transpose(1, 2).flatten(0, 1)[:, None]  # (rows H, 1, M)
        of_gains = torch.bmm(gradient, alpha).view(rows, heads, -1)
        of_scores = (gains - evidence.mT).mul_(gradient.mT).mul_(alpha)
        share = query.shape[-1] ** -0.5
        of_query = torch.bmm(of_scores, keys).mul_(share)
        of_keys = torch.bmm(of_scores.mT, query).mul_(share)
        of_same = torch.bmm(is_same.flatten(1)[:, None], of_scores.view(rows, heads, -1).mT)
        of_decay = of_scores.sum(dim=1) @ _steps(keys.shape[1], keys)
        return (
            _by_step(of_query, rows),
            _by_step(of_keys, rows),
            of_gains.transpose(1, 2),
            None,
            of_same.sum(dim=0)[0],
            of_decay.view(rows, heads).sum(dim=0),
            None,
            None,
        )


def _steps(length: int, like: Tensor) -> Tensor:
    """0 .. length - 1, where and in which format `like` is."""
    return torch.arange(length, device=like.device, dtype=like.dtype)


def _by_head(x: Tensor) -> Tensor:
    """(rows, T, H, d_h) as (rows H, T, d_h)."""
    return x.transpose(1, 2).flatten(0, 1)


def _by_step(x: Tensor, rows: int) -> Tensor:
    """(rows H, T, d_h) as (rows, T, H, d_h)."""
    split: Tensor = x.unflatten(0, (rows, -1))
    return split.transpose(1, 2)
