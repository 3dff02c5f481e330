"""Retention, lag and the variance floor, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gainakt.objectives.refinement import (
    lag_correlations,
    lag_loss,
    mastery_variance,
    retention_loss,
    variance_floor,
)
from tests.helpers import batch_of, lay_out, random_students


def test_retention_by_hand() -> None:
    # 0.14 (0.2 - 0.005 - 0.1)
    loss = retention_loss(0.14, 0.2, 0.005, torch.tensor(0.1))
    assert float(loss) == pytest.approx(0.0133)
    # a fall of less than delta is free
    assert float(retention_loss(0.14, 0.2, 0.005, torch.tensor(0.196))) == 0.0
    assert float(retention_loss(0.14, 0.2, 0.005, torch.tensor(0.5))) == 0.0


def test_retention_teaches_to_correlate() -> None:
    correlation = torch.tensor(0.1, requires_grad=True)
    retention_loss(0.14, 0.2, 0.005, correlation).backward()
    assert correlation.grad is not None and float(correlation.grad) == pytest.approx(-0.14)


def test_lag_correlations_by_hand() -> None:
    batch = batch_of([(0, 1), (0, 0), (0, 1), (0, 1)])
    gains = torch.tensor([[0.1, 0.3], [0.0, 0.2], [0.4, 0.8], [9.0, 9.0]])
    first, second, third = lag_correlations(gains, batch, 3).tolist()
    # mean gains 0.2, 0.1, 0.6 with answers 0, 1, 1: deviations (-1, -2, 3) / 10, (-2, 1, 1) / 3
    # (2 - 2 + 3) / sqrt(14 * 6)
    assert first == pytest.approx(3 / np.sqrt(84), rel=1e-5)
    # mean gains 0.2, 0.1 with answers 1, 1: a constant series
    assert second == 0.0
    # a single pair
    assert third == 0.0


def test_lag_correlations_stay_inside_the_student() -> None:
    lengths = [4, 6, 6, 9]
    students = random_students(lengths, seed=3)
    batch = batch_of(*students)
    rng = np.random.default_rng(5)
    gains = [rng.random((n, 2)) for n in lengths]
    found = lag_correlations(lay_out(batch, *gains), batch, 3).tolist()
    for lag in (1, 2, 3):
        before = [g.mean() for rows in gains for g in rows[:-lag]]
        after = [answer for steps in students for _, answer in steps[lag:]]
        assert found[lag - 1] == pytest.approx(np.corrcoef(before, after)[0, 1], abs=1e-5)


def test_lags_beyond_the_batch_are_zero() -> None:
    batch = batch_of([(0, 1), (0, 0), (0, 1)])
    assert lag_correlations(torch.rand(3, 2), batch, 3)[2] == 0.0


def test_lag_loss_by_hand() -> None:
    correlations = torch.tensor([0.2, -0.1, 0.4])
    # -0.06 (0.5 * 0.2 - 0.3 * 0.1 + 0.2 * 0.4) / 1
    loss = lag_loss(0.06, torch.tensor([0.5, 0.3, 0.2]), correlations)
    assert float(loss) == pytest.approx(-0.009)
    # with two lags: -0.06 (0.1 - 0.03) / 0.8
    loss = lag_loss(0.06, torch.tensor([0.5, 0.3]), correlations[:2])
    assert float(loss) == pytest.approx(-0.00525)


def test_lag_loss_reaches_the_gains() -> None:
    batch = batch_of(*random_students([5, 5]))
    gains = torch.rand(10, 2, requires_grad=True)
    lag_loss(0.06, torch.tensor([0.5, 0.3, 0.2]), lag_correlations(gains, batch, 3)).backward()
    assert gains.grad is not None and bool(gains.grad.any())


def test_mastery_variance_by_hand() -> None:
    batch = batch_of([(0, 1)] * 3, [(0, 1)] * 4)
    assert not bool(batch.valid.all())
    mastery = lay_out(
        batch,
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]],
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5]],
    )
    # mean 0.5; 12 of 14 values are 0.5 away from it
    assert float(mastery_variance(mastery, batch)) == pytest.approx(12 * 0.25 / 14)


def run_of_variances(*variances: float) -> list[tuple[float, int, Any]]:
    """Gate, count and sparsity weight after each batch, from a sparsity weight of 0.2."""
    low, sparsity = torch.tensor(0), torch.tensor(0.2)
    seen = []
    for variance in variances:
        gate, low, sparsity = variance_floor(
            torch.tensor(variance), low, sparsity, floor=1e-4, patience=3, factor=0.5
        )
        seen.append((float(gate), int(low), pytest.approx(float(sparsity))))
    return seen


def test_variance_floor_reduces_sparsity_after_three_in_a_row() -> None:
    low, high = 0.5e-4, 2e-4
    assert run_of_variances(low, low, low, low) == [
        (0.0, 1, 0.2),
        (0.0, 2, 0.2),
        (0.0, 0, 0.1),
        (0.0, 1, 0.1),
    ]
    # the count starts anew after a batch of enough variance
    assert run_of_variances(low, low, high, low, low) == [
        (0.0, 1, 0.2),
        (0.0, 2, 0.2),
        (1.0, 0, 0.2),
        (0.0, 1, 0.2),
        (0.0, 2, 0.2),
    ]
    # three more in a row reduce it again
    assert run_of_variances(*[low] * 6)[-1] == (0.0, 0, 0.05)
    # variance at the floor is enough
    assert run_of_variances(1e-4) == [(1.0, 0, 0.2)]
