"""The constraint terms: what mastery and gains must satisfy. Each is a mean over valid steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gainakt.data.batches import Batch
from gainakt.models.interface import GAIN_RATE
from gainakt.objectives.statistics import masked_mean

PerSkill = Float[Tensor, "N K"]
Scalar = Float[Tensor, ""]

# Gains at right answers must exceed those at wrong ones by this much.
GAIN_MARGIN = 0.1


def of_practised_skill(values: PerSkill, batch: Batch) -> Float[Tensor, " N"]:
    """Return (N,): of (N, K) `values`, the column of the skill practised at each step."""
    return values.gather(1, batch.skill[:, None]).squeeze(1)


def non_negative(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """mean relu(-g)."""
    return masked_mean((-gains).relu(), batch.valid)


def monotonicity(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """mean relu(m_t - m_{t+1}) over pairs of steps within a sequence."""
    return masked_mean((mastery[:-1] - mastery[1:]).relu(), batch.pairs(1))


def mastery_performance(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """mean of 1 - m_t[q_t] over right answers plus mean of m_t[q_t] over wrong ones."""
    practised = of_practised_skill(mastery, batch)
    right = batch.valid & (batch.response == 1)
    wrong = batch.valid & (batch.response == 0)
    return masked_mean(1 - practised, right) + masked_mean(practised, wrong)


def gain_performance(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """relu(mean g_t[q_t] over wrong - mean g_t[q_t] over right + 0.1)."""
    practised = of_practised_skill(gains, batch)
    right = masked_mean(practised, batch.valid & (batch.response == 1))
    wrong = masked_mean(practised, batch.valid & (batch.response == 0))
    return (wrong - right + GAIN_MARGIN).relu()


def sparsity(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """mean g_t[k] over the skills k that are not practised at t; 0 with a single skill."""
    others = gains.sum(dim=1) - of_practised_skill(gains, batch)
    return masked_mean(others / max(gains.shape[1] - 1, 1), batch.valid)


def consistency(mastery: PerSkill, gains: PerSkill, batch: Batch) -> Scalar:
    """mean abs((m_{t+1} - m_t) - 0.1 g_{t+1}) over pairs of steps within a sequence."""
    change = mastery[1:] - mastery[:-1]
    return masked_mean((change - GAIN_RATE * gains[1:]).abs(), batch.pairs(1))


# By the name of the weight without "_loss_weight"; a new term is a function and a line here.
CONSTRAINTS: dict[str, Callable[[Tensor, Tensor, Batch], Tensor]] = {
    "non_negative": non_negative,
    "monotonicity": monotonicity,
    "mastery_performance": mastery_performance,
    "gain_performance": gain_performance,
    "sparsity": sparsity,
    "consistency": consistency,
}


def constraint_loss(
    mastery: PerSkill, gains: PerSkill, batch: Batch, weights: dict[str, float | Tensor]
) -> Scalar:
    """Weighted sum of the constraint terms; a term of weight 0 is not computed.

    Args:
        mastery, gains: (N, K).
        batch: the steps they belong to.
        weights: by term; a tensor where the weight changes within an epoch.
    """
    terms = [
        weight * CONSTRAINTS[name](mastery, gains, batch)
        for name, weight in weights.items()
        if isinstance(weight, Tensor) or weight > 0
    ]
    return torch.stack(terms).sum() if terms else mastery.new_zeros(())
