"""Metrics against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference  # type: ignore[import-untyped]

from gainakt.evaluation.metrics import (
    BINS,
    RunningAUC,
    RunningMetrics,
    accuracy,
    auc,
    brier,
    log_loss,
)

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


def predictions(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers, float32 logits and probabilities of predictions that are right about chances."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.8, 1.2, n).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    answers = (rng.random(n) < probabilities).astype(np.int8)
    return answers, logits, probabilities


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(0, 60),
    st.integers(0, 6),
    st.integers(0, 1000),
)
def test_parts_say_what_the_whole_says(cuts: list[int], limit: int, first: int, seed: int) -> None:
    """However the targets are cut, added or merged, and whether or not they fit."""
    answers, logits, probabilities = predictions(40, seed)
    parts = list(
        zip(*(np.split(v, sorted(cuts)) for v in (answers, logits, probabilities)), strict=True)
    )
    one, other = RunningMetrics(), RunningMetrics()
    for running in (one, other):
        running.auc.limit = limit
    for number, part in enumerate(parts):
        (one if number < first else other).add(*part)
    one.merge(other)
    whole = RunningMetrics()
    whole.auc.limit = limit
    whole.add(answers, logits, probabilities)
    assert one.targets == whole.targets == 40
    assert one.auc.exact == whole.auc.exact == (limit >= 40)
    values, expected = one.values(), whole.values()
    assert values.pop("auc") == expected.pop("auc") or len(set(answers.tolist())) == 1
    assert values == pytest.approx(expected, rel=1e-12)


def test_metrics_of_one_part_are_those_of_the_functions_to_the_bit() -> None:
    answers, logits, probabilities = predictions(5000, 3)
    running = RunningMetrics()
    running.add(answers, logits, probabilities)
    assert running.values() == {
        "auc": auc(answers, probabilities),
        "accuracy": accuracy(answers, probabilities),
        "log_loss": log_loss(answers, logits),
        "brier": brier(answers, probabilities),
    }


def test_binned_auc_is_close_to_the_exact_one() -> None:
    answers, _, probabilities = predictions(500_000, 5)
    running = RunningAUC(limit=1000)
    for part in zip(np.split(answers, 50), np.split(probabilities, 50), strict=True):
        running.add(*part)
    assert not running.exact
    assert running.value() == pytest.approx(auc(answers, probabilities), abs=1e-7)


def test_binned_auc_by_hand() -> None:
    """Two scores that share a bin tie; certainty falls into the outermost bins."""
    running = RunningAUC(limit=0)
    answers = np.array([1, 0, 0, 1, 0])
    running.add(answers, np.array([0.5 + 0.1 / BINS, 0.5 + 0.2 / BINS, 0.5 + 5.1 / BINS, 1.0, 0.0]))
    # the first right answer ties with one wrong one, loses to one and beats one; the other wins
    assert running.value() == pytest.approx((1.5 + 3) / 6, abs=1e-15)
    assert math.isnan(RunningAUC(limit=0).value()) and math.isnan(RunningAUC().value())


def test_a_running_auc_goes_on_from_its_state() -> None:
    answers, _, probabilities = predictions(60, 9)
    for limit in (10, 100):
        running = RunningAUC(limit)
        running.add(answers[:40], probabilities[:40])
        later = RunningAUC(limit)
        later.restore(running.state())
        for each in (running, later):
            each.add(answers[40:], probabilities[40:])
        assert later.value() == running.value()
        assert later.exact == running.exact == (limit == 100)
