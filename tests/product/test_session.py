"""A session says at every step what a batch says, and is told clearly what it cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.rows import asked_next, one_student
from gainakt.data.sequences import context_start
from gainakt.errors import DataError, GainaktError
from gainakt.models.interface import RecomputedState
from gainakt.session import Answer, Session
from gainakt.tracer import Tracer
from tests.helpers import random_students, random_table, small_tracer

MODELS: dict[str, dict[str, Any]] = {
    "in_context": {"model": "gainsum", "weights": "in_context"},
    "skills_only": {"model": "gainsum", "weights": "skills_only"},
    "with questions": {"model": "gainsum", "question_ids": True},
    "questions, skills_only": {"model": "gainsum", "weights": "skills_only", "question_ids": True},
    "gainakt2exp": {"model": "gainakt2exp"},
    "dkt": {"model": "dkt"},
}
every_model = pytest.mark.parametrize("name", MODELS)


def differences(tracer: Tracer, table: pl.DataFrame) -> np.ndarray:
    """Session against batch, in probability, at every step of every student but the first."""
    predicted = tracer.predict(table)
    found = []
    for rows in predicted.partition_by("student", maintain_order=True):
        session = tracer.session()
        for _, skill, correct, question, _, probability in rows.iter_rows():
            if len(session):
                found.append(abs(session.predict(skill, question) - probability))
            session.observe(Answer(skill, correct, question))
    return np.array(found)


@every_model
def test_a_session_is_the_batch_at_every_step_of_hundreds_of_students(name: str) -> None:
    lengths = [2 + (7 * s) % 9 + (20 if s % 10 == 0 else 0) for s in range(200)]
    assert max(lengths) > 2 * 12, "histories must go on beyond the longest sequence"
    found = differences(small_tracer(**MODELS[name]), random_table(lengths, questions=True))
    assert len(found) == sum(lengths) - 200
    assert found.max() < 1e-6


@every_model
def test_in_float64_session_and_batch_are_one(name: str) -> None:
    tracer = small_tracer(**MODELS[name], exact=True)
    assert differences(tracer, random_table([40, 13, 3], questions=True)).max() < 1e-12


@every_model
@torch.inference_mode()
def test_all_skills_and_mastery_are_those_of_a_new_reading(name: str) -> None:
    tracer = small_tracer(**MODELS[name], exact=True)
    session, skills = tracer.session(), list(range(5))
    (steps,) = random_students([30], 5)
    for number, (skill, answer) in enumerate(steps, start=1):
        # whether and what was asked before must not matter
        if number > 1 and number % 3:
            session.predict_many(["k1", "k4"] if number % 3 == 1 else None)
        session.observe(f"k{skill}", answer)
        first = context_start(number, 12, 5)
        state = RecomputedState(tracer.predictor.model)
        past = steps[first:number]
        state.extend(one_student([s for s, _ in past], [a for _, a in past]))
        expected = state.logits(asked_next(skills)).sigmoid().tolist()
        assert list(session.predict_many().values()) == pytest.approx(expected, abs=1e-12)
        assert session.predict_many(["k3", "k0"]) == {
            "k3": pytest.approx(expected[3], abs=1e-12),
            "k0": pytest.approx(expected[0], abs=1e-12),
        }
        mastery = state.mastery()
        if mastery is not None:
            assert list(session.mastery()) == list(tracer.skills)
            found = list(session.mastery().values())
            assert found == pytest.approx(mastery.tolist(), abs=1e-12)


@every_model
@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=2, max_size=40),
    st.integers(1, 11),
    st.data(),
)
def test_answers_at_once_are_answers_one_by_one(
    name: str, steps: list[tuple[int, int]], stride: int, data: st.DataObject
) -> None:
    tracer = small_tracer(**MODELS[name], exact=True, window_stride=stride)
    cut = data.draw(st.integers(1, len(steps)))
    one_by_one, at_once = tracer.session(), tracer.session()
    for skill, answer in steps:
        one_by_one.observe(f"k{skill}", answer)
    at_once.extend(Answer(f"k{skill}", answer) for skill, answer in steps[:cut])
    for skill, answer in steps[cut:]:
        at_once.observe(f"k{skill}", answer)
    assert len(at_once) == len(one_by_one) == len(steps)
    expected = one_by_one.predict_many()
    assert at_once.predict_many() == {k: pytest.approx(v, abs=1e-12) for k, v in expected.items()}


def test_skills_of_one_question_are_observed_one_after_the_other() -> None:
    tracer = small_tracer(exact=True)
    table = pl.DataFrame(
        {
            "student": ["s"] * 6,
            "skill": ["k0", "k1", "k2", "k0", "k1", "k3"],
            "correct": [1, 1, 0, 0, 1, 1],
            "order": [0, 0, 1, 1, 2, 3],
            "question": ["q", "q", "r", "r", "q", "r"],
        }
    )
    predicted = tracer.predict(table, question="question")["probability"].to_list()
    # the second skill of a question is not predicted: its answer is known by then
    assert [value is None for value in predicted] == [True, True, False, True, False, False]
    session = tracer.session()
    for skill, correct, probability in zip(
        table["skill"], table["correct"], predicted, strict=True
    ):
        if probability is not None:
            assert session.predict(skill) == pytest.approx(probability, abs=1e-12)
        session.observe(skill, correct)


@pytest.mark.parametrize("answer", [1, True, 1.0, np.int8(1), np.float32(1), np.bool_(True)])
def test_right_is_spelt_in_many_ways(answer: object) -> None:
    one, other = small_tracer().session(), small_tracer().session()
    one.observe("k1", answer)
    other.observe("k1", 1)
    assert one.predict("k2") == other.predict("k2")
    for session in (one, other):
        session.observe("k1", 0)
    assert one.predict_many() == other.predict_many()


@pytest.fixture
def session() -> Session:
    """A student with one answer."""
    begun = small_tracer().session()
    begun.observe("k0", 1)
    return begun


@pytest.mark.parametrize("answer", [2, -1, 0.5, "1", "right", None, float("nan"), [1]])
def test_an_answer_that_is_none_is_refused_and_changes_nothing(
    session: Session, answer: object
) -> None:
    before = session.predict_many()
    with pytest.raises(DataError, match=r"the answer is .*; only 0 and 1 are allowed"):
        session.observe("k0", answer)
    assert len(session) == 1 and session.predict_many() == before


def test_an_unknown_skill_is_refused_and_changes_nothing(session: Session) -> None:
    before = session.predict_many()
    told = r"no skill 'k7' in the model; near are k., k., k.; all 5 are in tracer.skills"
    for act in (
        lambda: session.observe("k7", 1),
        lambda: session.predict("k7"),
        lambda: session.predict_many(["k0", "k7"]),
    ):
        with pytest.raises(DataError, match=told):
            act()
    assert len(session) == 1 and session.predict_many() == before
    with pytest.raises(DataError, match=r"takes a list of skills, not one: \['k0'\]"):
        session.predict_many("k0")
    assert session.predict_many([]) == {}


def test_without_an_answer_there_is_no_prediction() -> None:
    empty = small_tracer().session()
    for act in (lambda: empty.predict("k0"), empty.predict_many, empty.mastery):
        with pytest.raises(DataError, match="there is no answer yet"):
            act()


def test_a_model_without_mastery_says_so() -> None:
    for tracer in (
        small_tracer("dkt"),
        small_tracer(
            "gainakt2exp",
            use_mastery_head=False,
            enhanced_constraints=False,
            enable_alignment_loss=False,
            enable_global_alignment_pass=False,
            enable_retention_loss=False,
        ),
    ):
        begun = tracer.session()
        begun.observe("k0", 1)
        with pytest.raises(GainaktError, match="has no mastery; predict gives"):
            begun.mastery()
        with pytest.raises(GainaktError, match="has no mastery"):
            tracer.mastery(random_table([3]))


def test_the_state_is_as_large_after_many_answers_as_after_few() -> None:
    begun = small_tracer(window_stride=1).session()
    for step in range(200):
        begun.observe(f"k{step % 5}", step % 2)
    assert len(begun) == 200
    recent = begun.state.recent()
    assert recent is not None and len(recent) == 12
    assert begun.state._state.count == 11
