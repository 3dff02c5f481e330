"""Means and correlations over the steps that count; padding never does."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

# Below this product of variances a series counts as constant and its correlation is 0.
_CONSTANT = 1e-12


def masked_mean(
    values: Float[Tensor, " N"] | Float[Tensor, "N K"], mask: Bool[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Mean of `values` where `mask` holds; 0 where it holds nowhere.

    Args:
        values: (N,) or (N, K); with K columns the mean is over all of them.
        mask: (N,) bool.
    """
    if values.dim() == 2:
        values = values.mean(dim=1)
    # where, not a product: a non-finite value on padding must not turn into nan * 0
    return values.where(mask, 0.0).sum() / mask.sum().clamp(min=1)


def pearson(
    x: Float[Tensor, " N"], y: Float[Tensor, " N"], mask: Bool[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Pearson correlation of (N,) `x` and `y` where `mask` holds, differentiable in both.

    A constant series correlates 0, with zero gradient.
    """
    x = (x - masked_mean(x, mask)).where(mask, 0.0)
    y = (y - masked_mean(y, mask)).where(mask, 0.0)
    count = mask.sum().clamp(min=1)
    variances = (x.square().sum() / count) * (y.square().sum() / count)
    correlation = (x * y).sum() / count / variances.clamp(min=_CONSTANT).sqrt()
    return correlation.where(variances > _CONSTANT, 0.0)
