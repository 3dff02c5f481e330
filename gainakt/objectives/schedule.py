"""How the objectives' weights move from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gainakt.config import Config

# A rise of the global mastery correlation by this much excuses a large alignment share.
SHARE_CAP_EXCUSE = 0.005
# The share cap never cuts the alignment weight below this.
ALIGNMENT_WEIGHT_FLOOR = 0.05


@dataclass(frozen=True)
class ScheduleState:
    """What the schedules remember between epochs; plain numbers, saved with every checkpoint."""

    alignment_weight: float
    consistency_weight: float
    mastery_correlation: float | None = None
    peak: float | None = None

    @classmethod
    def start(cls, config: Config) -> ScheduleState:
        """Return the state before the first epoch."""
        return cls(
            alignment_weight=config.alignment.alignment_weight,
            consistency_weight=config.interpretability.consistency_loss_weight,
        )


@dataclass(frozen=True)
class EpochWeights:
    """The weights that hold through one epoch, numbers or scalar tensors.

    performance_scale: factor on the two performance losses.
    consistency: weight of the consistency term.
    alignment: weight after its warm-up, before the adaptive factor.
    adaptive: whether the adaptive factor applies, and to which `reference` correlation
        (None: each batch's own).
    retention_peak: the correlation to hold on to, or None while retention rests.
    lag: whether the lag loss applies.
    """

    performance_scale: float | Tensor
    consistency: float | Tensor
    alignment: float | Tensor
    adaptive: bool
    reference: float | Tensor | None
    retention_peak: float | Tensor | None
    lag: bool

    @property
    def aligns(self) -> bool:
        """Whether the alignment loss applies; a tensor is one that may."""
        return isinstance(self.alignment, Tensor) or self.alignment > 0


def performance_scale(epoch: int, warmup: int, epochs: int, cosine: bool) -> float:
    """min(1, epoch / warmup), or 0.5 (1 - cos(pi epoch / epochs)); epochs count from 1."""
    if cosine:
        return 0.5 * (1 - math.cos(math.pi * epoch / epochs))
    return min(1.0, epoch / warmup)


def epoch_weights(config: Config, state: ScheduleState, epoch: int) -> EpochWeights:
    """Return the weights of `epoch` (from 1) by the specification's schedules."""
    alignment, refinement = config.alignment, config.refinement
    warmup = config.interpretability.warmup_constraint_epochs
    retains = refinement.enable_retention_loss and epoch > warmup
    ramp = min(1.0, epoch / alignment.alignment_warmup_epochs)
    return EpochWeights(
        performance_scale=performance_scale(
            epoch, warmup, config.training.epochs, config.runtime.enable_cosine_perf_schedule
        ),
        consistency=state.consistency_weight,
        alignment=state.alignment_weight * ramp if alignment.enable_alignment_loss else 0.0,
        adaptive=alignment.adaptive_alignment and epoch > alignment.alignment_warmup_epochs,
        reference=state.mastery_correlation,
        retention_peak=state.peak if retains else None,
        lag=refinement.enable_lag_gain_loss and epoch >= warmup + 2,
    )


def after_epoch(
    config: Config,
    state: ScheduleState,
    epoch: int,
    alignment_share: float,
    mastery_correlation: float | None,
) -> tuple[ScheduleState, list[dict[str, Any]]]:
    """Apply share cap, peak and consistency rebalance after an epoch; report what changed.

    Args:
        config: the run's configuration.
        state: the schedules' memory.
        epoch: the epoch that ended, from 1.
        alignment_share: signed part of the alignment loss in the epoch's total loss.
        mastery_correlation: global mastery correlation after the epoch, None if not measured.
    """
    new = state
    if mastery_correlation is not None:
        peak = mastery_correlation if state.peak is None else max(state.peak, mastery_correlation)
        new = replace(state, mastery_correlation=mastery_correlation, peak=peak)
    if _alignment_is_too_large(config, state, alignment_share, mastery_correlation):
        # a weight that was configured under the floor stays where it is
        cut = state.alignment_weight * config.alignment.alignment_share_decay_factor
        floor = min(ALIGNMENT_WEIGHT_FLOOR, state.alignment_weight)
        new = replace(new, alignment_weight=max(floor, cut))
    refinement = config.refinement
    if (
        epoch >= refinement.consistency_rebalance_epoch
        and mastery_correlation is not None
        and mastery_correlation < refinement.consistency_rebalance_threshold
    ):
        new = replace(new, consistency_weight=refinement.consistency_rebalance_new_weight)
    return new, list(_changes(state, new, epoch))


def _alignment_is_too_large(
    config: Config, state: ScheduleState, share: float, correlation: float | None
) -> bool:
    if abs(share) <= config.alignment.alignment_share_cap:
        return False
    if correlation is None or state.mastery_correlation is None:
        return False
    return correlation - state.mastery_correlation < SHARE_CAP_EXCUSE


def _changes(old: ScheduleState, new: ScheduleState, epoch: int) -> Iterator[dict[str, Any]]:
    for name, event in (
        ("alignment_weight", "share_cap"),
        ("consistency_weight", "consistency_rebalance"),
    ):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield {"epoch": epoch, "event": event, "parameter": name, "from": before, "to": after}
