"""GainSum where a question with several skills is one step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.batches import Batch
from gainakt.data.pooling import pooled
from gainakt.data.rows import NONE, Rows, asked_next
from gainakt.evaluation.protocol import predict
from gainakt.models import build_model
from gainakt.models.gainsum.asked import Asked, likeness, overlap
from gainakt.models.gainsum.model import GainSum
from tests.helpers import (
    SKILLS,
    batch_of,
    dataset_of,
    pooled_batch,
    predictor_of,
    random_students,
    small_config,
    small_tracer,
    vocabulary_of,
)

both = pytest.mark.parametrize("weights", ["in_context", "skills_only"])
Answers = list[tuple[list[int], int]]


def model_of(weights: str, *, pooled_skills: bool = True) -> GainSum:
    config = small_config("gainsum", weights=weights, pooled_skills=pooled_skills)
    model = build_model(config, vocabulary_of(SKILLS))
    assert isinstance(model, GainSum)
    return model.eval()


def random_answers(length: int, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    return [
        (rng.permutation(SKILLS)[: rng.integers(1, 4)].tolist(), int(rng.integers(2)))
        for _ in range(length)
    ]


def rows_of(batch: Batch) -> Rows:
    assert batch.others is not None
    n = len(batch.skill)
    return Rows(
        batch.skill.numpy(), batch.response.numpy(), np.arange(n), others=batch.others.numpy()
    )


def test_overlap_by_hand() -> None:
    asked = torch.tensor([[0, NONE], [0, 1], [2, 3]])
    answered = torch.tensor([[0, NONE, NONE], [1, 0, 2]])
    expected = torch.tensor([[1.0, 1 / 3], [1 / 2, 2 / 3], [0.0, 1 / 4]])
    torch.testing.assert_close(overlap(asked, answered), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1_000_000))
def test_comparing_each_pair_of_sets_once_gives_every_overlap(seed: int) -> None:
    batch = pooled_batch(random_answers(12, seed), random_answers(12, seed + 1))
    answered, asked = Asked.at(batch), Asked.next_of(batch)
    past, wanted, alike = likeness(answered, asked)
    found = alike(past[None], wanted[None])[0]
    assert torch.equal(found, overlap(asked.members, answered.members))


def test_rows_of_a_question_become_one_row() -> None:
    data = dataset_of([5, 3], n_skills=4)
    rows = data.rows.replace(
        order=np.array([0, 0, 0, 1, 2, 0, 0, 1]), skill=np.array([2, 0, 2, 1, 3, 1, 0, 0])
    )
    found = pooled(pooled(type(data)(**{**vars(data), "rows": rows})))
    assert found.rows.skill.tolist() == [2, 1, 3, 1, 0]
    assert found.rows.others is not None
    assert np.sort(found.rows.others, axis=1).tolist() == [
        [NONE, 0],
        [NONE, NONE],
        [NONE, NONE],
        [NONE, 0],
        [NONE, NONE],
    ]
    assert found.offsets.tolist() == [0, 3, 5]
    assert found.places(np.array([0, 0, 1]), np.array([1, 2, 4])).tolist() == [3, 4, 2]


def test_data_of_single_skills_are_left_alone() -> None:
    data = dataset_of([5, 3])
    assert pooled(data) is data


@both
@torch.no_grad()
def test_single_skills_are_read_as_ever_to_the_bit(weights: str) -> None:
    batch = batch_of(*random_students([20, 30], SKILLS, 3))
    one, other = (model_of(weights, pooled_skills=flag) for flag in (True, False))
    assert torch.equal(one(batch).logits, other(batch).logits)


@both
@torch.no_grad()
def test_the_order_of_a_questions_skills_says_nothing(weights: str) -> None:
    model, answers = model_of(weights).double(), random_answers(25, 4)
    turned = [(skills[::-1], answer) for skills, answer in answers]
    one, other = (model(pooled_batch(steps)).logits for steps in (answers, turned))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@both
@torch.no_grad()
def test_the_prediction_is_an_exact_sum_with_right_signs(weights: str) -> None:
    model = model_of(weights).double()
    batch = pooled_batch(random_answers(20, 5), random_answers(30, 6))
    explanation = model.explain(batch)
    torch.testing.assert_close(explanation.logits, model(batch).logits, atol=1e-10, rtol=0)
    start = 0
    for values in explanation.contributions:
        rows, length, _ = values.shape
        right = batch.response[start : start + rows * length].view(rows, 1, length)
        assert (values * (2 * right - 1) >= 0).all()
        start += rows * length


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1_000_000), st.integers(0, 18))
@torch.no_grad()
def test_no_later_prediction_falls_with_a_right_answer(seed: int, step: int) -> None:
    model, answers = model_of("skills_only").double(), random_answers(20, seed)
    wrong, right = list(answers), list(answers)
    wrong[step], right[step] = (answers[step][0], 0), (answers[step][0], 1)
    low, high = (model(pooled_batch(steps)).logits for steps in (wrong, right))
    assert (high >= low - 1e-12).all()
    assert torch.equal(high[:step], low[:step])


@both
@torch.no_grad()
@pytest.mark.parametrize("told_at_once", [0, 9])
def test_a_student_told_answer_by_answer_is_predicted_as_in_a_batch(
    weights: str, told_at_once: int
) -> None:
    model = model_of(weights).double()
    # widths grow as answers come in
    answers = [([2], 1), ([1, 0], 0), *random_answers(28, 7)]
    batch = pooled_batch(answers)
    logits, mastery, rows = model(batch).logits, model.mastery(batch), rows_of(batch)
    state = model.begin()
    if told_at_once:
        state.extend(rows.take(slice(0, told_at_once)))
    for step in range(told_at_once, 29):
        state.extend(rows.take(slice(step, step + 1)))
        going_on = copy.copy(state)
        skills = answers[step + 1][0]
        found = state.logits(asked_next(skills[:1], others=skills[1:]))[0]
        torch.testing.assert_close(found, logits[step], atol=1e-6, rtol=0)
        torch.testing.assert_close(going_on.mastery(), mastery[step], atol=1e-6, rtol=0)


def a_table(seed: int) -> pl.DataFrame:
    """Questions with one to three skills each, a row for each."""
    rows: list[tuple[Any, ...]] = [
        (f"s{student}", f"q{step}", step, f"k{skill}", right)
        for student in range(3)
        for step, (skills, right) in enumerate(random_answers(14 + student, seed + student))
        for skill in skills
    ]
    names = ["student", "question", "order", "skill", "correct"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.mark.parametrize("model", ["gainsum", "dkt", "gainakt2exp"])
def test_a_session_says_of_each_question_what_a_table_does(model: str) -> None:
    pools = {"pooled_skills": True} if model == "gainsum" else {}
    tracer, table = small_tracer(model, SKILLS, exact=True, seq_len=64, **pools), a_table(8)
    found = tracer.predict(table)
    for student in ("s0", "s1", "s2"):
        session = tracer.session()
        rows = found.filter(pl.col("student") == student)
        for _, question in rows.group_by("order", maintain_order=True):
            skills = question["skill"].to_list()
            if len(session) and (pools or len(skills) == 1):
                told = session.predict(skills)
                assert told == pytest.approx(question["probability"][0], abs=1e-6)
            assert question["probability"][1:].is_null().all()
            session.observe(skills, question["correct"][0])
        mastery = tracer.mastery(table).filter(pl.col("student") == student) if pools else None
        if mastery is not None:
            values = list(session.mastery().values())
            np.testing.assert_allclose(values, mastery["mastery"].to_numpy(), atol=1e-6)


def test_the_same_answers_are_predicted_whether_or_not_skills_are_pooled() -> None:
    data = dataset_of([30, 45, 12], n_skills=SKILLS)
    rng = np.random.default_rng(5)
    order = np.concatenate([np.cumsum(rng.integers(2, size=n)) for n in (30, 45, 12)])
    data = type(data)(**{**vars(data), "rows": data.rows.replace(order=order)})
    tables = []
    for pools in (False, True):
        config = small_config("gainsum", pooled_skills=pools)
        predictor = predictor_of(build_model(config, data.vocabulary), 20, 4)
        parts = [table for _, table in predict(predictor, data, np.arange(3))]
        tables.append(pl.concat([pl.from_arrow(part) for part in parts]))
    one, pooled_table = tables
    for name in ("student", "position", "skill", "answer"):
        assert one[name].to_list() == pooled_table[name].to_list()
    # a question is one step: its prediction is that of the question
    assert pooled_table["probability"].equals(pooled_table["question_probability"], null_equal=True)
    assert not one["probability"].equals(one["question_probability"])


def test_an_explanation_names_all_skills_of_a_question() -> None:
    tracer, table = small_tracer("gainsum", SKILLS, seq_len=64, pooled_skills=True), a_table(9)
    student = table.filter(pl.col("student") == "s0")
    last = student.filter(pl.col("order") == student["order"].max())
    explained = tracer.explain(table, "s0")
    assert explained.skill == " + ".join(last["skill"])
    assert explained.step == len(student) - len(last)
    assert len(explained.past) == student["order"].n_unique() - 1
    second = student.filter(pl.col("order") == 1)
    assert explained.past[1].skill == " + ".join(second["skill"])
    told = tracer.predict(table).filter(pl.col("student") == "s0")["probability"]
    assert explained.probability == pytest.approx(told.drop_nulls()[-1], abs=1e-6)
    # any of its rows is the question; one past the last is what comes next
    assert tracer.explain(table, "s0", len(student) - 1) == explained
    assert tracer.explain(table, "s0", len(student), "k1").right is None
    assert len(tracer.explain(table, "s0", skill="k1").past) == student["order"].n_unique()
