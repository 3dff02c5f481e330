"""Every constraint term on one small batch, computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gainakt.objectives.constraint import CONSTRAINTS, constraint_loss
from tests.helpers import batch_of, lay_out

# Two students over two skills; the first is one step shorter, so the batch has a padding step.
FIRST = [(0, 1), (1, 0), (0, 1)]
SECOND = [(1, 0), (1, 1), (0, 0), (1, 1)]
BATCH = batch_of(FIRST, SECOND)
MASTERY = lay_out(
    BATCH,
    [[0.5, 0.2], [0.6, 0.1], [0.4, 0.3]],
    [[0.1, 0.9], [0.3, 0.7], [0.3, 0.8], [0.2, 0.9]],
)
GAINS = lay_out(
    BATCH,
    [[0.2, 0.1], [0.0, 0.3], [0.4, -0.1]],
    [[0.1, 0.5], [-0.3, 0.2], [0.6, 0.0], [0.1, 0.7]],
)

BY_HAND = {
    # relu(-g): 0.1 and 0.3, over 7 steps of 2 skills
    "non_negative": 0.4 / 14,
    # falls: 0.1 and 0.2 in the first student, 0.2 and 0.1 in the second; 5 pairs of 2 skills
    "monotonicity": 0.6 / 10,
    # right: 1 - 0.5, 1 - 0.4, 1 - 0.7, 1 - 0.9; wrong: 0.1, 0.9, 0.3
    "mastery_performance": 1.5 / 4 + 1.3 / 3,
    # wrong: 0.3, 0.5, 0.6; right: 0.2, 0.4, 0.2, 0.7
    "gain_performance": 1.4 / 3 - 1.5 / 4 + 0.1,
    # other skill: 0.1, 0, -0.1; 0.1, -0.3, 0, 0.1
    "sparsity": -0.1 / 7,
    # changes less a tenth of the gain, both skills of each of the 5 pairs:
    # (.1, -.1) - (0, .03), (-.2, .2) - (.04, -.01)
    # (.2, -.2) - (-.03, .02), (0, .1) - (.06, 0), (-.1, .1) - (.01, .07)
    "consistency": (0.1 + 0.13 + 0.24 + 0.21 + 0.23 + 0.22 + 0.06 + 0.1 + 0.11 + 0.03) / 10,
}


def test_the_batch_has_padding() -> None:
    assert len(BATCH.rectangles) == 1
    assert int((~BATCH.valid).sum()) == 1


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_terms_by_hand(name: str) -> None:
    assert float(CONSTRAINTS[name](MASTERY, GAINS, BATCH)) == pytest.approx(BY_HAND[name], rel=1e-5)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_padding_never_counts(name: str) -> None:
    """Whatever stands on padding, even not-a-number, the term and its gradient are the same."""

    def value_and_gradient(padding: float) -> tuple[Tensor, Tensor, Tensor]:
        mastery, gains = MASTERY.clone(), GAINS.clone()
        mastery[~BATCH.valid] = padding
        gains[~BATCH.valid] = padding
        mastery.requires_grad_()
        gains.requires_grad_()
        term = CONSTRAINTS[name](mastery, gains, BATCH)
        grads = torch.autograd.grad(term, (mastery, gains), allow_unused=True)
        of_valid = [g[BATCH.valid] if g is not None else torch.zeros(()) for g in grads]
        return term.detach(), of_valid[0], of_valid[1]

    reference = value_and_gradient(0.5)
    for padding in (-7.0, float("nan"), float("inf")):
        for same, expected in zip(value_and_gradient(padding), reference, strict=True):
            assert torch.equal(same, expected)


@pytest.mark.parametrize(
    ("name", "reaches_mastery", "reaches_gains"),
    [
        ("non_negative", False, True),
        ("monotonicity", True, False),
        ("mastery_performance", True, False),
        ("gain_performance", False, True),
        ("sparsity", False, True),
        ("consistency", True, True),
    ],
)
def test_terms_teach(name: str, reaches_mastery: bool, reaches_gains: bool) -> None:
    """On raw tensors every term has a gradient.

    On this model's own outputs three of them are 0 or nearly so by construction (gains pass a relu,
    mastery is their sum), so only raw tensors can show that they push in the right place.
    """
    mastery, gains = MASTERY.clone().requires_grad_(), GAINS.clone().requires_grad_()
    term = CONSTRAINTS[name](mastery, gains, BATCH)
    of_mastery, of_gains = torch.autograd.grad(term, (mastery, gains), allow_unused=True)
    assert (of_mastery is not None and bool(of_mastery.any())) == reaches_mastery
    assert (of_gains is not None and bool(of_gains.any())) == reaches_gains
    with torch.no_grad():
        moved = [
            values if grad is None else values - 1e-3 * grad
            for values, grad in ((mastery, of_mastery), (gains, of_gains))
        ]
        assert CONSTRAINTS[name](moved[0], moved[1], BATCH) < term


def test_gain_performance_is_satisfied_beyond_the_margin() -> None:
    gains = torch.where(BATCH.response[:, None] == 1, 0.31, 0.2).expand(-1, 2)
    assert float(CONSTRAINTS["gain_performance"](MASTERY, gains, BATCH)) == 0.0
    gains = torch.where(BATCH.response[:, None] == 1, 0.25, 0.2).expand(-1, 2)
    # 0.2 - 0.25 + 0.1
    value = float(CONSTRAINTS["gain_performance"](MASTERY, gains, BATCH))
    assert value == pytest.approx(0.05, rel=1e-5)


def test_sparsity_averages_over_the_other_skills() -> None:
    batch = batch_of([(2, 1), (0, 0), (1, 1)])
    gains = torch.tensor([[1.0, 2.0, 40.0], [50.0, 3.0, 4.0], [5.0, 60.0, 6.0]])
    # (1 + 2) / 2, (3 + 4) / 2, (5 + 6) / 2
    assert float(CONSTRAINTS["sparsity"](gains, gains, batch)) == pytest.approx(21 / 6)


def test_a_single_skill_has_nothing_to_be_sparse_about() -> None:
    batch = batch_of([(0, 1), (0, 0), (0, 1)])
    gains = torch.full((3, 1), 2.0)
    assert float(CONSTRAINTS["sparsity"](gains, gains, batch)) == 0.0


def test_falls_between_students_do_not_count() -> None:
    batch = batch_of([(0, 1)] * 3, [(0, 1)] * 3)
    mastery = lay_out(batch, [[0.7], [0.8], [0.9]], [[0.1], [0.2], [0.3]])
    gains = torch.ones_like(mastery)
    assert float(CONSTRAINTS["monotonicity"](mastery, gains, batch)) == 0.0
    assert float(CONSTRAINTS["consistency"](mastery, gains, batch)) == pytest.approx(0.0, abs=1e-7)


def test_the_loss_is_the_weighted_sum() -> None:
    weights: dict[str, float | Tensor] = {
        "monotonicity": 0.1,
        "mastery_performance": 0.8,
        "sparsity": torch.tensor(0.2),
        "consistency": 0.0,
    }
    expected = 0.1 * 0.06 + 0.8 * (1.5 / 4 + 1.3 / 3) + 0.2 * (-0.1 / 7)
    loss = constraint_loss(MASTERY, GAINS, BATCH, weights)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(constraint_loss(MASTERY, GAINS, BATCH, {})) == 0.0
