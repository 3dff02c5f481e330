"""Statistics over runs and students, against scipy, scikit-learn and hand-computed cases."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gainakt.evaluation.significance import WeightedAUC, paired_bootstrap, summarise_runs


def test_summary_of_three_runs_by_hand():
    # mean 0.72; deviations -0.01, 0, 0.01; variance 0.0002 / 2; t(0.975, 2) = 4.302653
    summary = summarise_runs([0.71, 0.72, 0.73])
    assert (summary.n, summary.mean) == (3, pytest.approx(0.72))
    assert summary.std == pytest.approx(0.01)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (summary.low, summary.high) == pytest.approx((0.72 - half, 0.72 + half), abs=1e-6)


def test_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(0.7, 0.02, size=9).tolist()
    summary = summarise_runs(values)
    expected = stats.t.interval(0.95, 8, loc=np.mean(values), scale=stats.sem(values))
    assert (summary.low, summary.high) == pytest.approx(expected)


def test_one_run_has_no_spread():
    assert summarise_runs([0.7]).std is None


def test_weighted_auc_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(1)
    answers = rng.integers(2, size=400)
    scores = rng.integers(12, size=400) / 12 + 0.1 * answers
    weights = rng.integers(4, size=400).astype(float)
    expected = roc_auc_score(answers, scores, sample_weight=weights)
    assert WeightedAUC(answers, scores)(weights) == pytest.approx(expected, abs=1e-12)


def test_weighted_auc_by_hand():
    # right: 0.9 (weight 2) and 0.4 (weight 1); wrong: 0.4 (weight 1) and 0.1 (weight 3)
    # pairs: 0.9 beats both: 2 * 4 = 8; 0.4 ties with 0.4: 0.5, beats 0.1: 3; of 3 * 4 = 12
    auc = WeightedAUC(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1]))
    assert auc(np.array([2.0, 1.0, 1.0, 3.0])) == pytest.approx(11.5 / 12)


def test_weighted_auc_of_one_class_is_undefined():
    assert math.isnan(WeightedAUC(np.array([1, 0]), np.array([0.2, 0.1]))(np.array([1.0, 0.0])))


def _students(rng: np.random.Generator, students: int = 40, steps: int = 12):
    """Answers with an ability of each student, and two models that see it equally dimly.

    That is the null hypothesis: runs that differ by seed only are as good as one another.
    """
    student = np.repeat(np.arange(students), steps)
    logit = np.repeat(rng.normal(0, 1, students), steps) + rng.normal(0, 0.7, students * steps)
    answers = (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(int)
    dim = [logit + rng.normal(0, 0.5, len(logit)) for _ in range(2)]
    return student, answers, dim


def test_false_positives_are_near_five_in_a_hundred():
    rng = np.random.default_rng(3)
    trials = 400
    positives = 0
    for trial in range(trials):
        student, answers, (a, b) = _students(rng)
        positives += paired_bootstrap(student, answers, [a], [b], samples=200, seed=trial).p < 0.05
    # 5% of 400 is 20; a binomial count is within 9..33 in 99.6% of cases
    assert 9 <= positives <= 33


def test_a_real_difference_is_found_and_has_the_right_sign():
    rng = np.random.default_rng(4)
    student, answers, (a, _) = _students(rng, students=150)
    worse = a + rng.normal(0, 3, len(a))
    found = paired_bootstrap(student, answers, [a], [worse], samples=400)
    assert found.difference == pytest.approx(
        roc_auc_score(answers, a) - roc_auc_score(answers, worse)
    )
    assert found.p < 0.01
    assert 0 < found.low < found.difference < found.high


def test_a_model_against_itself_differs_by_nothing():
    student, answers, (a, _) = _students(np.random.default_rng(5))
    found = paired_bootstrap(student, answers, [a], [a], samples=100)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_several_runs_are_compared_by_their_mean_auc():
    student, answers, (a, b) = _students(np.random.default_rng(6))
    found = paired_bootstrap(student, answers, [a, b], [b], samples=100)
    of_a, of_b = roc_auc_score(answers, a), roc_auc_score(answers, b)
    assert found.difference == pytest.approx((of_a + of_b) / 2 - of_b)
