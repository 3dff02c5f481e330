"""Calibration error, Brier score and reliability curve by hand."""

from __future__ import annotations

import math

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


def _students(
    rng: np.random.Generator, students: int, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whose answers, true probabilities, answers; the answers of a student go together."""
    logit = np.repeat(rng.normal(0, 1, students), steps) + rng.normal(0, 1, students * steps)
    p = 1 / (1 + np.exp(-logit))
    return np.repeat(np.arange(students), steps), p, (rng.random(len(p)) < p).astype(int)


def test_what_chance_adds_by_hand() -> None:
    # one bin: gap 1/4 * (-.5 - .5 + .5 + .5 ...) of four students with one answer each
    p, y = np.full(4, 0.5), np.array([1, 1, 1, 0])
    found = Calibration(y, p).corrected(np.arange(4), samples=200_000, seed=0)
    # gaps by student -.5, -.5, -.5, .5 over 4: -.125 three times, .125; sum -.25, mean -.0625
    # squared deviations 3 * .0625^2 + .1875^2 = .046875, times 4/3: variance .0625
    assert found.observed == pytest.approx(0.25)
    assert found.floor == pytest.approx(math.sqrt(2 / math.pi) * 0.25, rel=0.01)
    # with one bin, errors e look like |N(e, .25)|: none looks as large as ... only 0 is below
    assert found.low == 0.0
    # |N(e, .25)| is under .25 with 2.5%: e = .25 + 1.96 * .25
    assert found.high == pytest.approx(0.25 + 1.96 * 0.25, rel=0.02)


SHAPES = {
    "calibrated": lambda p: p,
    "too high everywhere": lambda p: np.clip(p + 0.02, 0, 1),
    "too sure": lambda p: 1 / (1 + np.exp(-1.2 * np.log(p / (1 - p)))),
    "wrong in one bin": lambda p: np.where(p > 0.85, p - 0.05, p),
    "far off": lambda p: np.clip(2 * p - 0.5, 0.01, 0.99),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_holds_the_true_error(shape: str) -> None:
    rng = np.random.default_rng(1)
    bend = SHAPES[shape]
    _, p, _ = _students(rng, 50_000, 10)
    stated = bend(p)
    inner = np.quantile(stated, np.arange(1, 10) / 10)
    bins = np.searchsorted(np.unique(inner), stated, side="right")
    true = np.abs(np.bincount(bins, stated - p)).sum() / len(p)
    trials = 200
    held, values, observed = 0, [], []
    for trial in range(trials):
        student, p, y = _students(rng, 80, 15)
        found = Calibration(y, bend(p)).corrected(student, samples=400, seed=trial)
        held += found.low <= true + 1e-4 and true <= found.high
        values.append(found.value)
        observed.append(found.observed)
    # 95% of 200 is 190; a binomial count is above 181 in 99.7% of cases
    assert held >= 182
    assert abs(np.mean(values) - true) < abs(np.mean(observed) - true) + 0.001


def test_students_of_calibrated_probabilities_show_the_floor() -> None:
    rng = np.random.default_rng(2)
    found = [
        Calibration(y, p).corrected(student, samples=300, seed=0)
        for student, p, y in (_students(rng, 200, 20) for _ in range(30))
    ]
    floor = np.mean([f.floor for f in found])
    assert np.mean([f.observed for f in found]) == pytest.approx(floor, rel=0.1)
