"""The alignment loss: mastery and gains should go with the student's next answers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gainakt.data.batches import Batch
from gainakt.objectives.statistics import pearson

# The adaptive factor rises by this much for each unit the correlation is too low ...
ADAPTIVE_SLOPE = 4.0
# ... up to this.
ADAPTIVE_LIMIT = 3.0


def residual_performance(batch: Batch, window: int) -> Float[Tensor, " N"]:
    """The next answer minus its centred moving average over `window` steps of its own sequence.

    At the ends of a sequence the average is over the steps that exist.

    Returns:
        (N,), meaningful where `batch.has_next`.
    """
    answer = batch.next_response.float().where(batch.has_next, 0.0)
    total, count = answer.clone(), batch.has_next.float()
    for offset in range(1, min(window // 2, len(answer) - 1) + 1):
        together = batch.pairs(offset) & batch.has_next[:-offset] & batch.has_next[offset:]
        # each pair of steps lends its answers to one another
        total[:-offset] += answer[offset:] * together
        count[:-offset] += together
        total[offset:] += answer[:-offset] * together
        count[offset:] += together
    return answer - total / count.clamp(min=1)


def performance(batch: Batch, residual_window: int | None) -> Float[Tensor, " N"]:
    """What mastery and gains are correlated with, (N,): r_{t+1}, or its residual."""
    if residual_window is None:
        return batch.next_response.float()
    return residual_performance(batch, residual_window)


def batch_correlations(
    mastery: Float[Tensor, "N K"],
    gains: Float[Tensor, "N K"],
    batch: Batch,
    target: Float[Tensor, " N"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """corr(mean_k m_t, perf) and corr(mean_k g_t, perf) over the steps with a next answer."""
    return (
        pearson(mastery.mean(dim=1), target, batch.has_next),
        pearson(gains.mean(dim=1), target, batch.has_next),
    )


def adaptive_factor(correlation: Tensor, minimum: float) -> Tensor:
    """min(3, 1 + 4 (minimum - c)) while c is under the minimum, else 1."""
    return (1 + ADAPTIVE_SLOPE * (minimum - correlation).relu()).clamp(max=ADAPTIVE_LIMIT)


def alignment_loss(
    weight: float | Tensor, mastery_correlation: Tensor, gain_correlation: Tensor
) -> Tensor:
    """-w (corr(mean_k m_t, perf) + corr(mean_k g_t, perf))."""
    return -weight * (mastery_correlation + gain_correlation)
