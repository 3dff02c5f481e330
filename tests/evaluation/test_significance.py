"""Statistics over runs and students, against scipy, scikit-learn and hand-computed cases."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gainakt.evaluation.bootstrap import StudentBootstrap
from gainakt.evaluation.significance import (
    Scored,
    WeightedAUC,
    paired_bootstrap,
    paired_over_parts,
    parts_in_common,
    student_error,
    summarise_runs,
)


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


def _tested(student, answers, scores) -> Scored:
    position = np.concatenate([np.arange(n) for n in np.unique(student, return_counts=True)[1]])
    columns = {"student": student, "position": position, "answer": answers}
    return Scored.of(columns | {"probability": scores})


def test_the_error_over_students_by_hand():
    # students a, b, c with one answer each: right .9, right .4, wrong .5; AUC 1/2
    # a: (1 - .5) / 2 = .25; b: (0 - .5) / 2 = -.25; c: (.5 - .5) / 1 = 0; 3/2 * (2 * .0625) = .1875
    tested = _tested(np.array(["a", "b", "c"]), np.array([1, 1, 0]), np.array([0.9, 0.4, 0.5]))
    assert student_error([tested]) == (3, pytest.approx(math.sqrt(0.1875)))


def test_the_error_over_students_is_that_of_the_bootstrap():
    student, answers, (a, _) = _students(np.random.default_rng(8), students=400)
    curve = WeightedAUC(answers, a)
    (drawn,) = StudentBootstrap(student, 400, 0).estimate(lambda weights: [curve(weights)])
    students, error = student_error([_tested(student, answers, a)])
    assert students == 400
    assert drawn.high - drawn.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_interval_over_students_holds_the_true_value_and_that_over_trainings_does_not():
    """Two trainings of almost the same weights agree; other students would give another figure."""
    rng = np.random.default_rng(9)
    population = [_students(rng, students=3000) for _ in range(3)]
    true = np.mean([roc_auc_score(answers, models[0]) for _, answers, models in population])
    held = {"students": 0, "trainings": 0}
    trials = 300
    for _ in range(trials):
        student, answers, (a, _) = _students(rng, students=100)
        models = [a + rng.normal(0, 0.01, len(a)) for _ in range(3)]
        values = [float(roc_auc_score(answers, scores)) for scores in models]
        found = summarise_runs(values, [_tested(student, answers, scores) for scores in models])
        assert found.students == 100
        held["students"] += found.students_low < true < found.students_high
        held["trainings"] += found.low < true < found.high
    # 95% of 300 is 285; a binomial count is above 272 in 99.9% of cases, less a little for 100
    assert held["students"] >= 268
    assert held["trainings"] < 100


def test_rotated_folds_are_paired_by_answers_in_any_order():
    rng = np.random.default_rng(10)
    runs_a, runs_b, differences = [], [], []
    for fold in range(3):
        student, answers, (a, b) = _students(rng)
        student = np.array([f"{fold}-{s}" for s in student.tolist()])
        runs_a.append(_tested(student, answers, a))
        runs_b.append(_tested(student, answers, b))
        differences.append(roc_auc_score(answers, a) - roc_auc_score(answers, b))
    shuffled = rng.permutation(len(runs_b[0].student))
    columns = {name: getattr(runs_b[0], name)[shuffled] for name in Scored.COLUMNS}
    parts = parts_in_common(runs_a, [runs_b[2], Scored.of(columns), runs_b[1]])
    found = paired_over_parts(parts, samples=50)
    assert found.students == 120
    assert found.difference == pytest.approx(np.mean(differences))
    assert parts_in_common(runs_a[:1], runs_b[1:]) == []
