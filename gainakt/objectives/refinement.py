"""Retention, lag and the variance floor: what refines the objective later in training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gainakt.data.batches import Batch
from gainakt.objectives.statistics import pearson


def retention_loss(
    weight: float, peak: float | Tensor, delta: float, correlation: Tensor
) -> Tensor:
    """weight * relu(peak - delta - corr_batch(mastery)): do not fall back from the peak."""
    return weight * (peak - delta - correlation).relu()


def lag_correlations(
    gains: Float[Tensor, "N K"], batch: Batch, max_lag: int
) -> Float[Tensor, " L"]:
    """c_l = corr(mean_k gain at t, answer at t + l) for l = 1..max_lag, within sequences.

    Of the rows of one question only the first is an answer: the others were seen with it.

    Returns:
        (max_lag,), differentiable in the gains.
    """
    mean_gain = gains.mean(dim=1)
    answer = batch.response.float()
    correlations = [
        pearson(mean_gain[:-lag], answer[lag:], batch.pairs(lag) & batch.has_next[lag - 1 : -1])
        if lag < len(answer)
        else answer.new_zeros(())
        for lag in range(1, max_lag + 1)
    ]
    return torch.stack(correlations)


def lag_loss(
    weight: float, lag_weights: Float[Tensor, " L"], correlations: Float[Tensor, " L"]
) -> Float[Tensor, ""]:
    """-weight * sum(w_l c_l) / sum(w_l)."""
    return -weight * (lag_weights * correlations).sum() / lag_weights.sum()


def mastery_variance(mastery: Float[Tensor, "N K"], batch: Batch) -> Float[Tensor, ""]:
    """Variance of mastery over all valid steps and skills of a batch."""
    # where, not an index: its shape does not depend on the data, so nothing waits for the device
    count = batch.valid.sum().clamp(min=1) * mastery.shape[1]
    valid = batch.valid[:, None]
    mean = mastery.where(valid, 0.0).sum() / count
    return (mastery - mean).where(valid, 0.0).square().sum() / count


def variance_floor(
    variance: Tensor,
    low_batches: Tensor,
    sparsity_weight: Tensor,
    *,
    floor: float,
    patience: int,
    factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Count batches of too little mastery variance, and lower the sparsity weight after some.

    Args:
        variance: of this batch's mastery.
        low_batches: how many batches in a row were under the floor so far.
        sparsity_weight: current weight.
        floor, patience, factor: `variance_floor`, `..._patience`, `..._reduce_factor`.

    Returns:
        The alignment's gate for this batch (0 under the floor, else 1), and the new `low_batches`
        and `sparsity_weight`. Tensors throughout, so that a GPU never waits for the host.
    """
    low = variance.detach() < floor
    low_batches = torch.where(low, low_batches + 1, 0)
    reduce = low_batches >= patience
    sparsity_weight = torch.where(reduce, sparsity_weight * factor, sparsity_weight)
    return 1.0 - low.float(), torch.where(reduce, 0, low_batches), sparsity_weight
