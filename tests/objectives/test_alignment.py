"""The alignment loss: residual performance, correlations and the adaptive factor, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.batches import Batch
from gainakt.objectives.alignment import (
    adaptive_factor,
    alignment_loss,
    batch_correlations,
    performance,
    residual_performance,
)
from gainakt.objectives.statistics import masked_mean, pearson
from tests.helpers import batch_of, lay_out, of_student, random_students

# next answers 1, 0, 1, 1, 0 after a first answer that is never predicted
ONE = [(0, answer) for answer in (1, 1, 0, 1, 1, 0)]
OTHER = [(0, answer) for answer in (0, 0, 0, 1)]


def residuals(batch: Batch, index: int, window: int) -> list[float]:
    values = residual_performance(batch, window)
    return of_student(batch, values, index)[:-1].tolist()


def test_residual_performance_by_hand() -> None:
    # averages over 3, cut at both ends: 1/2, 2/3, 2/3, 2/3, 1/2
    expected = [1 / 2, -2 / 3, 1 / 3, 1 / 3, -1 / 2]
    assert residuals(batch_of(ONE), 0, 3) == pytest.approx(expected)
    # averages over 5: (1+0+1)/3, (1+0+1+1)/4, 3/5, (0+1+1+0)/4, (1+1+0)/3
    expected = [1 / 3, -3 / 4, 2 / 5, 1 / 2, -2 / 3]
    assert residuals(batch_of(ONE), 0, 5) == pytest.approx(expected)
    # a window of 1 holds the answer alone
    assert residuals(batch_of(ONE), 0, 1) == [0.0] * 5
    # a window over the whole sequence leaves the distance from its mean, 3/5
    assert residuals(batch_of(ONE), 0, 99) == pytest.approx([0.4, -0.6, 0.4, 0.4, -0.6])


def test_residual_performance_stays_inside_the_student() -> None:
    alone = residuals(batch_of(ONE), 0, 5)
    assert residuals(batch_of(ONE, OTHER), 0, 5) == pytest.approx(alone)
    assert residuals(batch_of(OTHER, ONE), 1, 5) == pytest.approx(alone)
    # neighbours of the same length, so that no padding lies between them
    opposite = [(0, 1 - answer) for _, answer in ONE]
    assert residuals(batch_of(opposite, ONE, opposite), 1, 5) == pytest.approx(alone)
    # next answers 0, 0, 1: averages 1/3 throughout
    assert residuals(batch_of(ONE, OTHER), 1, 5) == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


def test_residual_performance_leaves_out_steps_without_a_target() -> None:
    """The second step's next answer belongs to the same question, so it is no target."""
    batch = batch_of(ONE, orders=[[0, 1, 1, 2, 3, 4]])
    assert batch.has_next.tolist() == [True, False, True, True, True, False]
    values = residual_performance(batch, 3)[batch.has_next]
    # targets 1, -, 1, 1, 0: averages 1, -, 1, 2/3, 1/2
    assert values.tolist() == pytest.approx([0.0, 0.0, 1 / 3, -1 / 2])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(3, 9), min_size=1, max_size=4),
    st.sampled_from([1, 3, 5, 7]),
    st.integers(0, 10_000),
)
def test_residual_performance_equals_the_definition(
    lengths: list[int], window: int, seed: int
) -> None:
    students = random_students(lengths, seed=seed)
    batch = batch_of(*students)
    for index, steps in enumerate(students):
        following = [answer for _, answer in steps][1:]
        half = window // 2
        expected = [
            answer - np.mean(following[max(0, t - half) : t + half + 1])
            for t, answer in enumerate(following)
        ]
        assert residuals(batch, index, window) == pytest.approx(expected, abs=1e-6)


def test_performance_without_residuals_is_the_next_answer() -> None:
    batch = batch_of(ONE)
    assert performance(batch, None)[batch.has_next].tolist() == [1, 0, 1, 1, 0]
    assert torch.equal(performance(batch, 3), residual_performance(batch, 3))


def test_masked_mean_by_hand() -> None:
    mask = torch.tensor([True, False, True])
    assert float(masked_mean(torch.tensor([1.0, float("nan"), 4.0]), mask)) == 2.5
    table = torch.tensor([[1.0, 3.0], [9.0, 9.0], [5.0, 7.0]])
    assert float(masked_mean(table, mask)) == 4.0
    assert float(masked_mean(table, torch.zeros(3, dtype=torch.bool))) == 0.0


def test_pearson_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 500.0])
    y = torch.tensor([1.0, 0.0, 2.0, -500.0])
    mask = torch.tensor([True, True, True, False])
    # deviations (-1, 0, 1) and (0, -1, 1): 1 / sqrt(2 * 2)
    assert float(pearson(x, y, mask)) == pytest.approx(0.5)


def test_pearson_of_a_constant_is_zero_and_teaches_nothing() -> None:
    x = torch.full((4,), 0.3, requires_grad=True)
    y = torch.tensor([1.0, 0.0, 1.0, 1.0])
    value = pearson(x, y, torch.ones(4, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad is not None and x.grad.tolist() == [0.0] * 4


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 40), st.integers(0, 10_000))
def test_pearson_equals_numpy(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    mask = rng.random(n) < 0.8
    mask[:3] = True
    value = pearson(torch.tensor(x), torch.tensor(y), torch.tensor(mask))
    assert float(value) == pytest.approx(np.corrcoef(x[mask], y[mask])[0, 1], abs=1e-6)


def test_batch_correlations_by_hand() -> None:
    batch = batch_of([(0, 1), (0, 1), (1, 0), (0, 1)])  # next answers 1, 0, 1
    mastery = lay_out(batch, [[0.1, 0.3], [0.2, 0.4], [0.4, 0.6], [0.9, 0.9]])
    gains = lay_out(batch, [[0.5, 0.5], [0.0, 0.2], [0.6, 0.4], [7.0, 7.0]])
    of_mastery, of_gain = batch_correlations(mastery, gains, batch, performance(batch, None))
    # mean mastery 0.2, 0.3, 0.5: deviations (-4, -1, 5) / 30; of the answers (1, -2, 1) / 3
    # (-4 + 2 + 5) / sqrt((16 + 1 + 25) (1 + 4 + 1))
    assert float(of_mastery) == pytest.approx(3 / np.sqrt(42 * 6), rel=1e-5)
    # mean gain 0.5, 0.1, 0.5 goes exactly with the answers
    assert float(of_gain) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("correlation", "expected"),
    [
        (0.30, 1.0),  # high enough
        (0.05, 1.0),  # at the minimum
        (0.00, 1.2),  # 1 + 4 (0.05 - 0)
        (-0.20, 2.0),  # 1 + 4 (0.25)
        (-0.45, 3.0),  # 1 + 4 (0.5)
        (-1.00, 3.0),  # 5.2, but never over 3
    ],
)
def test_adaptive_factor_by_hand(correlation: float, expected: float) -> None:
    assert float(adaptive_factor(torch.tensor(correlation), 0.05)) == pytest.approx(expected)


def test_alignment_loss_by_hand() -> None:
    # -0.03125 (0.3 - 0.1)
    loss = alignment_loss(0.03125, torch.tensor(0.3), torch.tensor(-0.1))
    assert float(loss) == pytest.approx(-0.00625)
