"""Sequences, rectangles and batches: the shift and the mask, written once and tested once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.batches import (
    RECTANGLE_COST,
    evaluation_batches,
    make_batch,
    pack_rectangles,
    training_batches,
    training_order,
)
from gainakt.data.sequences import chunk_sequences, window_sequences
from tests.helpers import batch_of, dataset_of, of_student, random_students, sequences_of

lengths_lists = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def test_a_batch_by_hand() -> None:
    batch = batch_of([(5, 1), (6, 0), (7, 1), (8, 0)], [(1, 0), (2, 1), (3, 1)])
    # the shorter one first; its fourth step is padding
    assert batch.rectangles == ((0, 2, 4),)
    assert batch.sequence.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert batch.position.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert batch.valid.tolist() == [True, True, True, False, True, True, True, True]
    assert batch.skill[batch.valid].tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert batch.response[batch.valid].tolist() == [0, 1, 1, 1, 0, 1, 0]
    assert batch.has_next.tolist() == [True, True, False, False, True, True, True, False]
    assert batch.next_skill[batch.has_next].tolist() == [2, 3, 6, 7, 8]
    assert batch.next_response[batch.has_next].tolist() == [1, 1, 0, 1, 0]
    for name in ("skill", "response", "position", "sequence", "next_skill", "next_response"):
        assert getattr(batch, name).dtype == torch.int64


@settings(deadline=None, max_examples=60)
@given(lengths_lists, st.integers(0, 1000))
def test_a_batch_holds_every_step_once_and_predicts_the_following(
    lengths: list[int], seed: int
) -> None:
    students = random_students(lengths, n_skills=9, seed=seed)
    batch = batch_of(*students)
    assert sum(rows * length for _, rows, length in batch.rectangles) == len(batch.valid)
    assert int(batch.valid.sum()) == sum(lengths)
    # padding is in range for every embedding and never a target
    assert int(batch.skill.max()) < 9 and int(batch.next_skill.max()) < 9
    assert not bool(batch.has_next[~batch.valid].any())
    for index, steps in enumerate(students):
        skills, answers = ([step[part] for step in steps] for part in (0, 1))
        assert of_student(batch, batch.skill, index).tolist() == skills
        assert of_student(batch, batch.response, index).tolist() == answers
        assert of_student(batch, batch.position, index).tolist() == list(range(len(steps)))
        has_next = of_student(batch, batch.has_next, index).tolist()
        assert has_next == [True] * (len(steps) - 1) + [False]
        assert of_student(batch, batch.next_skill, index).tolist()[:-1] == skills[1:]
        assert of_student(batch, batch.next_response, index).tolist()[:-1] == answers[1:]


def test_only_the_first_step_of_a_question_is_a_target() -> None:
    """Skills of one question share its order, and their answers are one answer."""
    steps = [(0, 1), (1, 0), (2, 0), (3, 0), (1, 1), (2, 1)]
    batch = batch_of(steps, orders=[[0, 1, 1, 1, 2, 2]])
    # targets: step 2 (of question 1) and step 5 (of question 2)
    assert batch.has_next.tolist() == [True, False, False, True, False, False]
    assert batch.next_skill[batch.has_next].tolist() == [1, 1]


def test_questions_of_neighbouring_students_are_not_confused() -> None:
    """The last question of one student and the first of the next may have the same number."""
    batch = batch_of([(0, 1)] * 3, [(0, 1)] * 3, orders=[[0, 1, 2], [2, 3, 4]])
    for index in range(2):
        assert of_student(batch, batch.has_next, index).tolist() == [True, True, False]


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_pairs_lie_in_one_sequence(lag: int) -> None:
    batch = batch_of(*random_students([3, 4, 4, 9]))
    pairs = batch.pairs(lag).tolist()
    expected = [
        bool(batch.valid[n] and batch.valid[n + lag])
        and int(batch.sequence[n]) == int(batch.sequence[n + lag])
        for n in range(len(batch.valid) - lag)
    ]
    assert pairs == expected
    # n - lag of every sequence that is long enough
    assert sum(pairs) == sum(max(0, n - lag) for n in (3, 4, 4, 9))


def test_by_rectangle_hands_over_rows_and_joins_them_again() -> None:
    batch = batch_of(*random_students([3, 4, 40]))
    assert len(batch.rectangles) == 2
    values = torch.arange(len(batch.valid) * 2.0).view(-1, 2)
    shapes = []

    def double(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        assert torch.equal(x, y)
        return x + y

    assert torch.equal(batch.by_rectangle(double, values, values), 2 * values)
    assert shapes == [(2, 4, 2), (1, 40, 2)]


def set_partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in set_partitions(rest):
        yield [[first], *partition]
        for i, group in enumerate(partition):
            yield [*partition[:i], [first, *group], *partition[i + 1 :]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_packing_is_optimal(lengths: list[int]) -> None:
    """No grouping whatever of the sequences costs less."""
    least = min(
        sum(RECTANGLE_COST + len(group) * max(group) for group in partition)
        for partition in set_partitions(lengths)
    )
    order, shapes = pack_rectangles(np.array(lengths))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert sum(RECTANGLE_COST + rows * length for rows, length in shapes) == least
    row = 0
    for rows, length in shapes:
        assert max(lengths[i] for i in order[row : row + rows]) == length
        row += rows
    assert row == len(lengths)


def test_chunks_by_hand() -> None:
    chunks = chunk_sequences(dataset_of([7, 2, 3]), np.array([0, 1, 2]), 4)
    # 7 = 4 + 3; 2 is too short
    assert chunks.starts.tolist() == [0, 4, 9]
    assert chunks.lengths.tolist() == [4, 3, 3]
    assert chunks.students.tolist() == [0, 0, 2]
    assert chunks.score_from.tolist() == [0, 0, 0]
    batch = make_batch(chunks, np.arange(3))
    assert int(batch.has_next.sum()) == 3 + 2 + 2


def test_windows_by_hand() -> None:
    windows = window_sequences(dataset_of([9, 3]), np.array([0, 1]), 5, 2)
    # answers 1 to 4 from the first window, then 5 and 6, then 7 and 8, each from the 5 last steps
    assert windows.starts.tolist() == [0, 2, 4, 9]
    assert windows.lengths.tolist() == [5, 5, 5, 3]
    assert windows.score_from.tolist() == [0, 2, 2, 0]
    assert windows.students.tolist() == [0, 0, 0, 1]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(3, 12),
    st.integers(1, 20),
)
def test_windows_score_every_answer_but_the_first_once(
    lengths: list[int], seq_len: int, stride: int
) -> None:
    dataset = dataset_of(lengths)
    windows = window_sequences(dataset, np.arange(len(lengths)), seq_len, stride)
    assert int(windows.lengths.max()) <= seq_len
    batch = make_batch(windows, np.arange(len(windows)))
    starts = torch.from_numpy(windows.starts)
    scored = batch.has_next.nonzero().flatten()
    target = starts[batch.sequence[scored]] + batch.position[scored] + 1
    expected = [
        row
        for first, end in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
        for row in range(first + 1, end)
    ]
    assert sorted(target.tolist()) == expected
    # what is predicted is the answer of that row
    assert batch.next_response[scored].tolist() == dataset.rows.response[target.numpy()].tolist()
    # the context never leaves the student's history, and is as long as promised
    student = np.searchsorted(dataset.offsets, target.numpy(), side="right") - 1
    assert np.array_equal(windows.students[batch.sequence[scored].numpy()], student)
    context = batch.position[scored].numpy() + 1
    history = target.numpy() - dataset.offsets[student]
    assert (context <= seq_len - 1).all()
    assert (context >= np.minimum(history, max(1, seq_len - stride))).all()


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 60), st.integers(1, 30), st.integers(3, 12), st.integers(1, 20))
def test_what_a_prediction_sees_stays_the_same_when_the_history_goes_on(
    length: int, more: int, seq_len: int, stride: int
) -> None:
    def context_of_targets(steps: int) -> dict[int, int]:
        windows = window_sequences(dataset_of([steps]), np.array([0]), seq_len, stride)
        batch = make_batch(windows, np.arange(len(windows)))
        scored = batch.has_next.nonzero().flatten()
        context = batch.position[scored] + 1
        target = torch.from_numpy(windows.starts)[batch.sequence[scored]] + context
        return dict(zip(target.tolist(), context.tolist(), strict=True))

    longer = context_of_targets(length + more)
    assert context_of_targets(length).items() <= longer.items()


def test_stride_one_is_the_exact_sliding_window() -> None:
    windows = window_sequences(dataset_of([8]), np.array([0]), 4, 1)
    assert windows.starts.tolist() == [0, 1, 2, 3, 4]
    assert windows.score_from.tolist() == [0, 2, 2, 2, 2]


def test_take_keeps_the_order_of_the_index() -> None:
    sequences = chunk_sequences(dataset_of([4, 5, 6]), np.arange(3), 10)
    taken = sequences.take(np.array([2, 0]))
    assert taken.lengths.tolist() == [6, 4]
    assert taken.students.tolist() == [2, 0]
    assert len(taken) == 2


def test_training_order_is_a_permutation_by_seed_and_epoch() -> None:
    order = training_order(50, 42, 1)
    assert sorted(order.tolist()) == list(range(50))
    assert np.array_equal(order, training_order(50, 42, 1))
    assert not np.array_equal(order, training_order(50, 42, 2))
    assert not np.array_equal(order, training_order(50, 43, 1))
    # seed and epoch are not merely added
    assert not np.array_equal(training_order(50, 1, 2), training_order(50, 2, 1))


def test_training_batches_cover_the_epoch_and_go_on_anywhere() -> None:
    sequences = sequences_of(*random_students([3 + n % 5 for n in range(11)]))
    drawn = [set(b.sequence.tolist()) for b in training_batches(sequences, 4, 42, 1)]
    assert [len(batch) for batch in drawn] == [4, 4, 3]
    assert set.union(*drawn) == set(range(11))
    for first in range(4):
        later = training_batches(sequences, 4, 42, 1, first_step=first)
        assert [set(b.sequence.tolist()) for b in later] == drawn[first:]


def test_training_batches_mix_lengths() -> None:
    """Steps sorted by length would cost accuracy: every batch holds short and long sequences."""
    lengths = [3] * 50 + [60] * 50
    sequences = sequences_of(*random_students(lengths))
    for batch in training_batches(sequences, 25, 42, 1):
        kinds = {int(sequences.lengths[i]) for i in batch.sequence.unique()}
        assert kinds == {3, 60}


@settings(deadline=None, max_examples=40)
@given(lengths_lists, st.integers(1, 80))
def test_evaluation_batches_hold_every_sequence_once(lengths: list[int], steps: int) -> None:
    sequences = sequences_of(*random_students(lengths))
    read = []
    for batch in evaluation_batches(sequences, steps):
        held = batch.sequence.unique().tolist()
        read += held
        total = sum(lengths[index] for index in held)
        assert total <= steps or len(held) == 1
    assert sorted(read) == list(range(len(lengths)))
