"""Learners without gradients are runs as any other, and the controls of measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gainakt.baselines.bkt import BKT, predict_bkt
from gainakt.baselines.controls import make_controls
from gainakt.baselines.irt import IRT
from gainakt.baselines.logistic import Logistic
from gainakt.baselines.pfa import PFA
from gainakt.baselines.skill_mean import SkillMean
from gainakt.baselines.success_rate import SuccessRate
from gainakt.data.batches import make_batch
from gainakt.data.interactions import load_dataset
from gainakt.data.rows import Rows, asked_next
from gainakt.data.sequences import chunk_sequences, whole_histories
from gainakt.evaluation.readout import probability_of
from tests.conftest import Outcome
from tests.helpers import pooled_batch, predictor_of, random_students, sequences_of, vocabulary_of

LEARNERS = ["bkt", "irt", "logistic", "pfa", "success_rate", "skill_mean"]


def test_the_success_rate_by_hand() -> None:
    learner = SuccessRate(2)
    learner.fit(sequences_of([(0, 1), (0, 0), (0, 1)], [(1, 0), (1, 0), (0, 1)]))
    overall = 3 / 6
    start = np.array([(3 + 2 * overall) / (4 + 2), (0 + 2 * overall) / (2 + 2)])
    assert learner.start() == pytest.approx(start)
    readout = predictor_of(learner).read(sequences_of([(0, 1), (1, 0), (0, 1)]))
    # after one right answer to skill 0: skill 1 is asked, then skill 0
    expected = [start[1], (1 + 2 * start[0]) / 3]
    found = probability_of(readout.logit[readout.has_next])
    assert found == pytest.approx(expected, abs=1e-12)
    assert readout.next_mastery[readout.has_next] == pytest.approx(expected, abs=1e-12)


def test_an_ability_is_followed_answer_by_answer() -> None:
    learner = IRT(2)
    learner.get_buffer("ease_of_skill").copy_(torch.tensor([0.5, -1.0]))
    readout = predictor_of(learner).read(sequences_of([(0, 1), (1, 0), (0, 1)]))
    p = 1 / (1 + np.exp(-0.5))
    precision = 1 + p * (1 - p)
    ability = (1 - p) / precision
    first = ability - 1.0
    q = 1 / (1 + np.exp(-first))
    precision += q * (1 - q)
    second = ability - q / precision + 0.5
    assert readout.logit[readout.has_next] == pytest.approx([first, second], abs=1e-6)


def test_item_response_theory_finds_how_easy_items_are() -> None:
    rng = np.random.default_rng(1)
    ease = rng.normal(size=8)
    skills = rng.integers(8, size=(600, 25))
    ability = rng.normal(size=(600, 1))
    right = rng.random(skills.shape) < 1 / (1 + np.exp(-ability - ease[skills]))
    students = [
        list(zip(s, r, strict=True))
        for s, r in zip(skills.tolist(), right.astype(int).tolist(), strict=True)
    ]
    learner = IRT(8)
    learner.fit(sequences_of(*students))
    found = learner.get_buffer("ease_of_skill").numpy()
    assert np.corrcoef(found, ease)[0, 1] > 0.99
    assert np.abs(found - ease).max() < 0.25


def test_performance_factors_by_hand() -> None:
    learner = PFA(3)
    weights = [[0.5, 0.2, -0.3], [-1.0, 0.4, 0.1], [2.0, 0.0, 0.0]]
    learner.get_buffer("weights").copy_(torch.tensor(weights))
    batch = pooled_batch([([0], 1), ([0, 1], 0), ([1], 1), ([0, 2], 1)])
    found = learner(batch).logits[batch.has_next].tolist()
    first = (0.5 + 0.2 * np.log(2)) + (-1.0)
    second = -1.0 + 0.1 * np.log(2)
    third = (0.5 + 0.2 * np.log(2) - 0.3 * np.log(2)) + 2.0
    assert found == pytest.approx([first, second, third])


def test_performance_factors_are_found() -> None:
    rng = np.random.default_rng(4)
    easy, up, down = np.array([0.5, -0.5]), np.array([0.3, 0.1]), np.array([-0.2, 0.05])
    students = []
    for _ in range(1500):
        counts = np.zeros((2, 2))
        steps = []
        for skill in rng.integers(2, size=16).tolist():
            wrong, right = np.log1p(counts[skill])
            logit = easy[skill] + up[skill] * right + down[skill] * wrong
            right = int(rng.random() < 1 / (1 + np.exp(-logit)))
            counts[skill, right] += 1
            steps.append((skill, right))
        students.append(steps)
    learner = PFA(2)
    learner.fit(sequences_of(*students))
    expected = np.stack([easy, up, down], axis=1)
    assert learner.get_buffer("weights").numpy() == pytest.approx(expected, abs=0.12)


def test_the_skill_mean_reads_no_answer() -> None:
    learner = SkillMean(4)
    students = random_students([30, 20], seed=3)
    learner.fit(sequences_of(*students))
    readout = predictor_of(learner).read(sequences_of(*students))
    scored = readout.where(readout.has_next)
    assert probability_of(scored.logit) == pytest.approx(learner.start()[scored.next_skill])


def test_bkt_predicts_what_filtering_says(tiny_data: Path) -> None:
    data = load_dataset(tiny_data)
    sequences = chunk_sequences(data, data.students("train", 0), 1000)
    learner = BKT(data.n_skills)
    learner.fit(sequences)
    readout = predictor_of(learner, 1000).read(sequences)
    rows = np.concatenate(
        [np.arange(s, s + n) for s, n in zip(sequences.starts, sequences.lengths, strict=True)]
    )
    student = np.repeat(sequences.students, sequences.lengths)
    skill, response = data.rows.skill[rows], data.rows.response[rows]
    exact = predict_bkt(learner.estimates(), skill, response, student).probability
    later = np.flatnonzero(np.diff(student, prepend=-1) == 0)
    assert probability_of(readout.logit[readout.has_next]) == pytest.approx(exact[later], abs=1e-9)


def test_the_controls_are_the_same_learners(tiny_data: Path) -> None:
    data = load_dataset(tiny_data)
    training = data.students("train", 0)
    controls = make_controls(data, training)
    for name, learner in (
        ("bkt", BKT(data.n_skills)),
        ("success_rate", SuccessRate(data.n_skills)),
    ):
        sequences = chunk_sequences(data, training, 10_000)
        learner.fit(sequences)
        assert controls[name].start == pytest.approx(learner.start())


@pytest.mark.parametrize("model", LEARNERS)
def test_it_leaves_a_complete_folder(
    model: str, tiny_data: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    train = ("train", "--model", model, "--data", tiny_data, "--out", tmp_path / "out")
    assert gainakt(*train, "--bootstrap_samples", 100, "--threads", 1, "--no-report").code == 0
    (run,) = (tmp_path / "out").iterdir()
    checks = gainakt("check", run)
    assert checks.code == 0 and checks.out.count("✅") == 10
    results = json.loads((run / "results.json").read_text())
    assert results["epochs"] == 1 and results["best"]["train_auc"] is None
    assert results["consistency"]["negative_gain_rate"] is None
    evaluated = gainakt("evaluate", run, "--split", "test", "--json")
    assert 0 < json.loads(evaluated.out)["auc"] < 1
    assert gainakt("explain", run, "--student", "s00003").code == 0
    assert "IDENTICAL" in gainakt("compare", run, run).out
    assert "nothing to resume" in gainakt("resume", run).err


def test_a_session_of_a_learner_is_its_batch(tiny_data: Path) -> None:
    (steps,) = random_students([12], seed=5)
    learner = BKT(4)
    learner.vocabulary = vocabulary_of(4)
    readout = predictor_of(learner).read(sequences_of(steps))
    state = predictor_of(learner).student()
    from gainakt.data.rows import one_student

    for number, (skill, answer) in enumerate(steps[:-1]):
        state.extend(one_student([skill], [answer], number))
        found = state.logits(asked_next([int(steps[number + 1][0])]))[0]
        assert float(found) == pytest.approx(float(readout.logit[number]), abs=1e-12)


def test_logistic_regression_finds_what_made_the_answers() -> None:
    """Answers drawn from a question's easiness alone: its log-odds count whole, little else."""
    rng = np.random.default_rng(11)
    ease = rng.normal(0, 1.5, 30)
    question = rng.integers(1, 31, size=40_000)
    right = rng.random(40_000) < 1 / (1 + np.exp(-ease[question - 1]))
    rows = Rows(
        np.zeros(40_000, np.int32),
        right.astype(np.int8),
        np.tile(np.arange(40, dtype=np.int32), 1000),
        question.astype(np.int32),
    )
    training = whole_histories(rows, np.full(1000, 40))
    model = Logistic(1, 30)
    model.fit(training)
    weight = model.get_buffer("weight")
    assert float(weight[-1]) == pytest.approx(1.0, abs=0.05)
    assert float(weight[:-2].abs().max()) < 0.3
    batch = make_batch(training, np.arange(200))
    batch_ease = torch.from_numpy(ease)[batch.next_question - 1]
    found = model(batch).logits
    assert float((found - batch_ease).abs()[batch.has_next].mean()) < 0.15


def test_a_question_s_own_answer_is_left_out_while_learning() -> None:
    """Questions that come once say nothing, however well they would tell their own answer."""
    rng = np.random.default_rng(12)
    n = 6000
    rows = Rows(
        np.zeros(n, np.int32),
        rng.integers(2, size=n).astype(np.int8),
        np.tile(np.arange(20, dtype=np.int32), n // 20),
        np.arange(1, n + 1, dtype=np.int32),
    )
    training = whole_histories(rows, np.full(n // 20, 20))
    model = Logistic(1, n)
    loss = model.fit(training)
    assert loss == pytest.approx(np.log(2), abs=0.01)


def test_the_loss_of_logistic_regression_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    students = random_students([30] * 60, 3, seed=4)
    training = sequences_of(*students)
    model = Logistic(3)
    model.fit(training)
    batch = make_batch(training, np.arange(60))
    x = model._design(batch)[batch.has_next].numpy()
    y = batch.next_response[batch.has_next].numpy()
    theirs = linear.LogisticRegression(max_iter=10_000, tol=1e-10).fit(x, y)
    logits = model(batch).logits[batch.has_next].numpy()
    np.testing.assert_allclose(logits, theirs.decision_function(x), atol=2e-3)
