"""The total loss of a batch: main, constraint, alignment, lag and retention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gainakt.config import Config
from gainakt.data.batches import Batch
from gainakt.models.interface import ModelOutput
from gainakt.objectives.alignment import (
    adaptive_factor,
    alignment_loss,
    batch_correlations,
    performance,
)
from gainakt.objectives.constraint import CONSTRAINTS, constraint_loss
from gainakt.objectives.refinement import (
    lag_correlations,
    lag_loss,
    mastery_variance,
    retention_loss,
    variance_floor,
)
from gainakt.objectives.schedule import EpochWeights
from gainakt.objectives.statistics import masked_mean

TERMS = ("main", "constraint", "alignment", "lag", "retention")


@dataclass(frozen=True, eq=False)
class BatchWeights:
    """Weights that move from batch to batch, as tensors on the model's device."""

    sparsity: Tensor
    low_variance_batches: Tensor

    @classmethod
    def start(
        cls, sparsity: float, device: torch.device, low_variance_batches: int = 0
    ) -> BatchWeights:
        """Return the weights before the first batch, or where a saved run stood."""
        return cls(
            torch.tensor(sparsity, device=device),
            torch.tensor(low_variance_batches, device=device),
        )

    def copy(self) -> BatchWeights:
        """Return weights whose tensors are nobody else's."""
        return BatchWeights(self.sparsity.clone(), self.low_variance_batches.clone())


@dataclass(frozen=True, eq=False)
class Losses:
    """The weighted terms of a batch's loss, and what is watched on the way; scalar tensors.

    `lag_correlations` is (max_lag,). What the model or the epoch does not give is None.
    """

    main: Tensor
    constraint: Tensor
    alignment: Tensor
    lag: Tensor
    retention: Tensor
    mastery_correlation: Tensor | None = None
    gain_correlation: Tensor | None = None
    lag_correlations: Tensor | None = None
    mastery_variance: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The loss that is minimised: the sum of the terms."""
        return self.main + self.constraint + self.alignment + self.lag + self.retention

    def terms(self) -> Tensor:
        """Return the terms in the order of TERMS, (5,), detached."""
        return torch.stack([getattr(self, name).detach() for name in TERMS])


def prediction_loss(output: ModelOutput, batch: Batch) -> Tensor:
    """Binary cross entropy with logits on the next answer, mean over the steps that have one."""
    each = F.binary_cross_entropy_with_logits(output.logits, batch.target, reduction="none")
    return masked_mean(each, batch.has_next)


def total_loss(
    output: ModelOutput, batch: Batch, config: Config, weights: EpochWeights, moving: BatchWeights
) -> tuple[Losses, BatchWeights]:
    """Compute every term of the objective for one batch.

    Args:
        output: the model's reading of `batch`.
        batch: the steps.
        config: weights and switches.
        weights: this epoch's schedule.
        moving: the weights that the variance floor moves from batch to batch.
    """
    main = prediction_loss(output, batch)
    zero = main.new_zeros(())
    mastery, gains = output.mastery, output.gains
    if mastery is None or gains is None:
        lag, correlations = _lag(gains, batch, config, weights, zero)
        return Losses(main, zero, zero, lag, zero, lag_correlations=correlations), moving

    refinement = config.refinement
    variance = mastery_variance(mastery, batch)
    gate, low, sparsity = variance_floor(
        variance,
        moving.low_variance_batches,
        moving.sparsity,
        floor=refinement.variance_floor,
        patience=refinement.variance_floor_patience,
        factor=refinement.variance_floor_reduce_factor,
    )
    constraint = constraint_loss(
        mastery, gains, batch, _constraint_weights(config, weights, moving.sparsity)
    )
    residual = config.global_alignment.use_residual_alignment
    target = performance(
        batch, config.global_alignment.alignment_residual_window if residual else None
    )
    of_mastery, of_gain = batch_correlations(mastery, gains, batch, target)
    alignment = zero
    if weights.aligns:
        weight: float | Tensor = weights.alignment
        if weights.adaptive:
            known = weights.reference
            reference = of_mastery.detach() if known is None else zero + known
            weight = weight * adaptive_factor(reference, config.alignment.alignment_min_correlation)
        alignment = alignment_loss(weight, of_mastery, of_gain) * gate
    retention = zero
    if weights.retention_peak is not None:
        retention = retention_loss(
            refinement.retention_weight,
            weights.retention_peak,
            refinement.retention_delta,
            of_mastery,
        )
    lag, correlations = _lag(gains, batch, config, weights, zero)
    losses = Losses(
        main,
        constraint,
        alignment,
        lag,
        retention,
        mastery_correlation=of_mastery.detach(),
        gain_correlation=of_gain.detach(),
        lag_correlations=correlations,
        mastery_variance=variance.detach(),
    )
    return losses, BatchWeights(sparsity, low)


def _constraint_weights(
    config: Config, weights: EpochWeights, sparsity: Tensor
) -> dict[str, float | Tensor]:
    group = config.interpretability
    if not group.enhanced_constraints:
        return {}
    fixed = {name: getattr(group, f"{name}_loss_weight") for name in CONSTRAINTS}
    scale = weights.performance_scale
    return fixed | {
        "mastery_performance": group.mastery_performance_loss_weight * scale,
        "gain_performance": group.gain_performance_loss_weight * scale,
        "sparsity": sparsity,
        "consistency": weights.consistency,
    }


def _lag(
    gains: Tensor | None, batch: Batch, config: Config, weights: EpochWeights, zero: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The lag loss, and the correlations themselves, recorded in every epoch."""
    if gains is None:
        return zero, None
    refinement = config.refinement
    correlations = lag_correlations(gains, batch, refinement.lag_max_lag)
    if not weights.lag:
        return zero, correlations.detach()
    relative = torch.stack(
        [
            # filled there: a copy from the host would hold it up
            correlations.new_full((), weight)
            for weight in (
                refinement.lag_l1_weight,
                refinement.lag_l2_weight,
                refinement.lag_l3_weight,
            )
        ][: refinement.lag_max_lag]
    )
    return lag_loss(refinement.lag_gain_weight, relative, correlations), correlations.detach()
