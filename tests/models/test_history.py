"""History features: the scan over batches, the state that grows step by step, and cases by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.batches import Batch
from gainakt.models.gainsum.asked import Asked
from gainakt.models.gainsum.history import (
    HistoryState,
    Past,
    describe,
    history_features,
    n_features,
    past_of_batch,
)
from tests.helpers import Steps, batch_of, of_student, pooled_batch

SKILLS = 3
# what a question may be about: one skill or several
SETS = ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2))
pooled_students = st.lists(
    st.lists(st.tuples(st.sampled_from(SETS), st.integers(0, 1)), min_size=1, max_size=30),
    min_size=1,
    max_size=4,
)
students = st.lists(
    st.lists(st.tuples(st.integers(0, SKILLS - 1), st.integers(0, 1)), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
)


def of_every_skill(batch: Batch, *, answers: bool) -> torch.Tensor:
    """The features (N, K, F) if each skill were asked after each step."""
    columns = [
        history_features(batch, Asked(torch.full_like(batch.skill, skill)), SKILLS, answers=answers)
        for skill in range(SKILLS)
    ]
    return torch.stack(columns, dim=1)


@settings(deadline=None, max_examples=100)
@given(students)
def test_scan_equals_step_by_step(histories: list[Steps]) -> None:
    batch = batch_of(*histories)
    features = of_every_skill(batch, answers=True)
    for index, steps in enumerate(histories):
        state = HistoryState(SKILLS)
        for (skill, response), row in zip(steps, of_student(batch, features, index), strict=True):
            state.observe([skill], response)
            expected = describe(state.past(), answers=True)
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=100)
@given(pooled_students)
def test_scan_equals_step_by_step_where_questions_have_several_skills(
    histories: list[list[tuple[tuple[int, ...], int]]],
) -> None:
    batch = pooled_batch(*histories)
    features = of_every_skill(batch, answers=True)
    asked = history_features(batch, Asked.next_of(batch), SKILLS, answers=True)
    for index, steps in enumerate(histories):
        state = HistoryState(SKILLS)
        rows = of_student(batch, features, index), of_student(batch, asked, index)
        for number, (skills, response) in enumerate(steps):
            state.observe(skills, response)
            every = describe(state.past(), answers=True)
            torch.testing.assert_close(rows[0][number], every, atol=1e-5, rtol=0)
            following = steps[min(number + 1, len(steps) - 1)][0]
            mean = every[list(following)].mean(dim=0)
            torch.testing.assert_close(rows[1][number], mean, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=50)
@given(students)
def test_one_skill_a_step_is_a_column_of_all_skills(histories: list[Steps]) -> None:
    batch = batch_of(*histories)
    n = len(batch.valid)
    everything = of_every_skill(batch, answers=True)
    asked = history_features(batch, Asked(batch.next_skill), SKILLS, answers=True)
    assert torch.equal(asked, everything[torch.arange(n), batch.next_skill])


def past_after(steps: Steps, skill: int) -> Past:
    """The past of `skill` after the last of one student's steps."""
    batch = batch_of(steps)
    past = past_of_batch(batch, torch.full_like(batch.skill, skill), SKILLS)
    return Past(**{name: values[-1] for name, values in vars(past).items()})


STEPS = [(0, 1), (0, 1), (0, 1), (1, 0), (1, 1), (0, 0)]


def test_past_of_a_practised_skill_by_hand() -> None:
    past = past_after(STEPS, 0)
    assert (past.steps, past.attempts, past.gap, past.run) == (6, 4, 0, 1)
    assert (past.right, past.streak) == (3, -1)
    assert past.recent.tolist() == [-1, 1, 1, 1, 0]
    # runs of three and of two have ended
    assert (past.runs, past.short_runs) == (2, 1)
    assert past.last_run.item() == pytest.approx(math.log(2))
    assert past.log_runs.item() == pytest.approx(math.log(3) + math.log(2))
    # rate 0.6: 0.4 * (0.6^3 + 0.6^2 + 0.6 - 1)
    assert past.averages[0].item() == pytest.approx(0.4 * (0.216 + 0.36 + 0.6 - 1), abs=1e-6)


def test_past_of_an_earlier_and_of_a_new_skill_by_hand() -> None:
    earlier = past_after(STEPS, 1)
    assert (earlier.attempts, earlier.gap, earlier.run, earlier.streak) == (2, 1, 0, 1)
    new = past_after(STEPS, 2)
    assert (new.attempts, new.gap, new.run, new.right, new.streak) == (0, 0, 0, 0, 0)
    assert new.recent.tolist() == [0, 0, 0, 0, 0]
    # what concerns no skill is the same for all
    assert torch.equal(new.overall, earlier.overall) and new.runs == earlier.runs


def test_overall_average_by_hand() -> None:
    past = past_after([(0, 1), (1, 0), (2, 1)], 0)
    # rate 0.7: 0.3 * (0.7^2 - 0.7 + 1)
    assert past.overall[0].item() == pytest.approx(0.3 * (0.49 - 0.7 + 1), abs=1e-6)


def test_number_of_features() -> None:
    past = past_after(STEPS, 0)
    for answers in (True, False):
        assert describe(past, answers=answers).shape == (n_features(answers),)


@settings(deadline=None, max_examples=50)
@given(students)
def test_without_answers_nothing_depends_on_them(histories: list[Steps]) -> None:
    flipped = [[(skill, 1 - response) for skill, response in steps] for steps in histories]
    batches = batch_of(*histories), batch_of(*flipped)
    first, second = (of_every_skill(b, answers=False) for b in batches)
    assert torch.equal(first, second)
