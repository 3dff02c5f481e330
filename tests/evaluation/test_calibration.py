"""Calibration error, Brier score and reliability curve by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gainakt.evaluation.calibration import Calibration

P = np.array([0.1, 0.1, 0.3, 0.3, 0.6, 0.6, 0.9, 0.9])
Y = np.array([0, 0, 0, 1, 0, 1, 1, 1])


def test_two_bins_by_hand() -> None:
    # halves: mean .2 against 1 of 4 right, mean .75 against 3 of 4
    calibration = Calibration(Y, P, bins=2)
    assert calibration.error() == pytest.approx((0.05 + 0.0) / 2)
    assert calibration.curve() == [
        {"answers": 4, "probability": pytest.approx(0.2), "share_right": 0.25},
        {"answers": 4, "probability": pytest.approx(0.75), "share_right": 0.75},
    ]
    squares = 2 * 0.01 + 0.09 + 0.49 + 0.36 + 0.16 + 2 * 0.01
    assert calibration.brier() == pytest.approx(squares / 8)


def test_weights_count_answers() -> None:
    weights = np.array([2.0, 0, 1, 0, 3, 1, 1, 0])
    rows = np.repeat(np.arange(8), weights.astype(int))
    calibration = Calibration(Y, P, bins=2)
    gaps = [abs((P[r] - Y[r]).sum()) for r in (rows[rows < 4], rows[rows >= 4])]
    assert calibration.error(weights) == pytest.approx(sum(gaps) / 8)
    assert calibration.brier(weights) == pytest.approx(np.mean((P[rows] - Y[rows]) ** 2))


def test_equal_probabilities_share_one_bin() -> None:
    calibration = Calibration(Y, np.full(8, 0.75))
    assert calibration.error() == pytest.approx(0.25)
    assert len(calibration.curve()) == 1


def test_right_probabilities_are_calibrated_and_extreme_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    assert Calibration(y, p).error() < 0.02
    assert Calibration(y, np.clip(2 * p - 0.5, 0, 1)).error() > 0.1
