"""Metrics against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference  # type: ignore[import-untyped]

from gainakt.evaluation.metrics import accuracy, auc, brier, log_loss

answers_and_scores = st.lists(
    # few distinct scores, so that ties are common
    st.tuples(st.integers(0, 1), st.integers(-3, 3)),
    min_size=2,
    max_size=60,
)


def test_auc_by_hand() -> None:
    answers = np.array([0, 0, 1, 1])
    # pairs (right, wrong) in order: 0.35 > 0.1, 0.35 < 0.4, 0.8 > 0.1, 0.8 > 0.4
    assert auc(answers, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    # a tie counts half: 1, 1/2, 1, 1
    assert auc(answers, np.array([0.1, 0.4, 0.4, 0.8])) == 0.875
    assert auc(answers, np.zeros(4)) == 0.5
    assert auc(answers, np.array([3.0, 4.0, 1.0, 2.0])) == 0.0


@settings(deadline=None, max_examples=150)
@given(answers_and_scores)
def test_auc_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    answers = np.array([answer for answer, _ in pairs])
    scores = np.array([score for _, score in pairs])
    value = auc(answers, scores.astype(np.float32))
    if len(set(answers.tolist())) == 1:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(reference.roc_auc_score(answers, scores), abs=1e-12)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.bool_])
def test_auc_takes_any_kind_of_answer(kind: type[np.generic]) -> None:
    answers = np.array([0, 1, 1], dtype=kind)
    assert auc(answers, np.array([0.3, 0.2, 0.9])) == 0.5


def test_auc_of_one_class_or_of_nothing_is_undefined() -> None:
    assert math.isnan(auc(np.ones(3), np.arange(3.0)))
    assert math.isnan(auc(np.zeros(3), np.arange(3.0)))
    assert math.isnan(auc(np.zeros(0), np.zeros(0)))


def test_accuracy_by_hand() -> None:
    answers = np.array([1, 1, 0, 0, 0])
    # 0.5 itself is predicted right
    assert accuracy(answers, np.array([0.5, 0.4, 0.5, 0.49, 0.1])) == 3 / 5


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_accuracy_log_loss_and_brier_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=50)
    answers = rng.integers(2, size=50)
    answers[:2] = 0, 1
    probabilities = 1 / (1 + np.exp(-logits))
    assert accuracy(answers, probabilities) == pytest.approx(
        reference.accuracy_score(answers, logits >= 0)
    )
    assert log_loss(answers, logits) == pytest.approx(reference.log_loss(answers, probabilities))
    assert brier(answers, probabilities) == pytest.approx(
        reference.brier_score_loss(answers, probabilities)
    )


def test_log_loss_by_hand_and_without_overflow() -> None:
    # probabilities 1/2 and 1/4 of what came
    logits = np.array([0.0, -math.log(3)])
    assert log_loss(np.array([0, 1]), logits) == pytest.approx(math.log(2 * 4) / 2)
    assert log_loss(np.array([1, 0]), np.array([-2000.0, 2000.0])) == 2000.0
    assert log_loss(np.array([1, 0], dtype=np.int8), np.array([2000.0, -2000.0])) == 0.0


def test_brier_by_hand() -> None:
    assert brier(np.array([1, 0]), np.array([0.7, 0.4])) == pytest.approx((0.09 + 0.16) / 2)
