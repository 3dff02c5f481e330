"""Bayesian knowledge tracing: the filter by hand, and parameters found again by EM."""

from __future__ import annotations

import numpy as np
import pytest

from gainakt.baselines.bkt import BOUNDS, BKTEstimates, Tracks, fit_bkt, predict_bkt

ONE_SKILL = BKTEstimates(*(np.array([value]) for value in (0.4, 0.2, 0.25, 0.1)))


def test_the_filter_by_hand() -> None:
    answers = np.array([1, 0])
    zeros = np.zeros(2, np.int64)
    predicted = predict_bkt(ONE_SKILL, zeros, answers, zeros)
    # right: .4 * .9 / (.4 * .9 + .6 * .25), then a fifth of the rest is learnt
    known = 0.36 / 0.51
    first = known + (1 - known) * 0.2
    known = first * 0.1 / (first * 0.1 + (1 - first) * 0.75)
    second = known + (1 - known) * 0.2
    np.testing.assert_allclose(predicted.before, [0.4, first])
    np.testing.assert_allclose(predicted.after, [first, second])
    np.testing.assert_allclose(predicted.probability, [0.51, first * 0.9 + (1 - first) * 0.25])


def test_students_and_skills_do_not_mix() -> None:
    parameters = BKTEstimates(
        *(np.array([a, b]) for a, b in ((0.4, 0.7), (0.2, 0.1), (0.25, 0.2), (0.1, 0.05)))
    )
    rng = np.random.default_rng(0)
    students = np.repeat([5, 2, 9], [7, 4, 6])
    skills, answers = rng.integers(2, size=17), rng.integers(2, size=17)
    together = predict_bkt(parameters, skills, answers, students)
    for student in (5, 2, 9):
        for skill in (0, 1):
            rows = np.flatnonzero((students == student) & (skills == skill))
            if len(rows):
                alone = predict_bkt(parameters, skills[rows], answers[rows], students[rows])
                np.testing.assert_array_equal(together.before[rows], alone.before)


def test_tracks_count_attempts() -> None:
    skills, students = np.array([0, 1, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
    tracks = Tracks(skills, students, 2)
    assert tracks.attempt.tolist() == [0, 0, 1, 0, 1, 0]
    ((rows, before),) = tracks.steps
    assert dict(zip(rows.tolist(), before.tolist(), strict=True)) == {2: 0, 4: 3}


def simulated(true: BKTEstimates, students: int, attempts: int, seed: int) -> tuple:
    """Skills, answers and students drawn from the model itself."""
    rng = np.random.default_rng(seed)
    n_skills = len(true.prior)
    knows = rng.random((students, n_skills)) < true.prior
    answers = []
    for _ in range(attempts):
        chance = np.where(knows, 1 - true.slip, true.guess)
        answers.append(rng.random(knows.shape) < chance)
        knows |= rng.random(knows.shape) < true.learn
    return (
        np.tile(np.arange(n_skills), students * attempts),
        np.stack(answers, axis=1).ravel().astype(np.int64),
        np.repeat(np.arange(students), attempts * n_skills),
    )


def test_em_finds_the_parameters_of_simulated_students() -> None:
    true = BKTEstimates(
        prior=np.array([0.3, 0.6, 0.1]),
        learn=np.array([0.15, 0.3, 0.25]),
        guess=np.array([0.2, 0.1, 0.3]),
        slip=np.array([0.1, 0.05, 0.1]),
    )
    skills, answers, students = simulated(true, students=3000, attempts=8, seed=0)
    fitted = fit_bkt(skills, answers, students, 3, iterations=200)
    for name in ("prior", "learn", "guess", "slip"):
        np.testing.assert_allclose(getattr(fitted, name), getattr(true, name), atol=0.04)


def test_em_never_lowers_the_likelihood() -> None:
    true = BKTEstimates(*(np.array([v]) for v in (0.3, 0.2, 0.2, 0.1)))
    skills, answers, students = simulated(true, students=400, attempts=6, seed=1)

    def likelihood(iterations: int) -> float:
        p = fit_bkt(skills, answers, students, 1, iterations=iterations, tolerance=0.0)
        right = predict_bkt(p, skills, answers, students).probability
        return float(np.log(np.where(answers == 1, right, 1 - right)).sum())

    values = [likelihood(n) for n in (0, 1, 2, 4, 8, 16)]
    assert values == sorted(values) and values[0] < values[-1]


@pytest.mark.parametrize("answer", [0, 1])
def test_answers_of_one_kind_leave_usable_parameters(answer: int) -> None:
    zeros = np.zeros(30, np.int64)
    fitted = fit_bkt(zeros, np.full(30, answer), np.repeat(np.arange(10), 3), n_skills=2)
    for name, bound in BOUNDS.items():
        values = getattr(fitted, name)
        assert np.all((values > 0) & (values <= bound)), name
