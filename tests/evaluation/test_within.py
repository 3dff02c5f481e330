"""AUC within students, skills and both, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gainakt.evaluation.within import within_figures


def test_within_by_hand() -> None:
    student = np.array(["a"] * 4 + ["b"] * 3)
    skill = np.array(["x", "x", "y", "y", "x", "x", "y"])
    answer = np.array([1, 0, 1, 1, 1, 0, 0])
    p = np.array([0.9, 0.5, 0.4, 0.6, 0.3, 0.7, 0.2])
    found = within_figures(student, skill, answer, p, samples=20, seed=0)
    # a: right .9 .4 .6 above wrong .5: 2 of 3; b: right .3 above wrong .7 .2: 1 of 2
    assert found["student"].value == pytest.approx((4 * 2 / 3 + 3 * 1 / 2) / 7)
    # x: right .9 .3, wrong .5 .7: 2 of 4; y: right .4 .6, wrong .2: 2 of 2
    assert found["skill"].value == pytest.approx((4 * 0.5 + 3 * 1.0) / 7)
    # a x: 1 of 1, two answers; a y: no wrong one; b x: 0 of 1, two answers; b y: no right one
    assert found["student_skill"].value == pytest.approx((2 * 1 + 2 * 0) / 4)


def test_within_is_the_mean_of_scikit_learns_auc_by_group() -> None:
    rng = np.random.default_rng(1)
    student, skill = rng.integers(30, size=2000), rng.integers(5, size=2000)
    answer = rng.integers(2, size=2000)
    p = np.round(rng.random(2000) + 0.2 * answer, 2)
    found = within_figures(student, skill, answer, p, samples=50, seed=0)
    groups = {"student": student, "skill": skill, "student_skill": student * 5 + skill}
    for name, group in groups.items():
        values, sizes = [], []
        for one in np.unique(group):
            mine = group == one
            if 0 < answer[mine].sum() < mine.sum():
                values.append(roc_auc_score(answer[mine], p[mine]))
                sizes.append(mine.sum())
        figure = found[name]
        assert figure.value == pytest.approx(np.average(values, weights=sizes))
        assert figure.low is not None and figure.high is not None
        assert figure.low < figure.value < figure.high


def test_what_only_tells_students_apart_has_nothing_within_them() -> None:
    rng = np.random.default_rng(2)
    student = np.repeat(np.arange(200), 20)
    ability = rng.random(200)[student]
    answer = (rng.random(len(student)) < ability).astype(int)
    found = within_figures(student, student % 3, answer, ability, samples=50, seed=0)
    assert roc_auc_score(answer, ability) > 0.7
    assert found["student"].value == 0.5
    assert found["student_skill"].value == 0.5


def test_where_no_group_has_both_kinds_there_is_none() -> None:
    student = np.array([0, 0, 1, 1])
    found = within_figures(student, student, np.array([1, 1, 0, 0]), np.ones(4), 20, 0)
    assert found["student"].value is None and found["student_skill"].low is None


def test_the_interval_holds_for_other_students() -> None:
    rng = np.random.default_rng(3)

    def students(count: int) -> tuple[np.ndarray, ...]:
        who = np.repeat(np.arange(count), 15)
        strength = rng.normal(0, 1, count)[who]
        signal = rng.normal(0, 1, len(who))
        answer = (rng.random(len(who)) < 1 / (1 + np.exp(-strength - signal))).astype(int)
        return who, who * 0, answer, strength + 0.5 * signal

    true = within_figures(*students(20_000), samples=2, seed=0)
    held = dict.fromkeys(true, 0)
    for trial in range(100):
        found = within_figures(*students(60), samples=200, seed=trial)
        for name, figure in found.items():
            assert figure.low is not None and figure.high is not None
            held[name] += figure.low < true[name].value < figure.high  # type: ignore[operator]
    # 95 of 100 are expected; a binomial count is above 87 in 99.9% of cases
    assert min(held.values()) >= 87
