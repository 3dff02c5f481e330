"""The split is pyKT's, by student, and sequences cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.splits import assign_folds, cut_sequences


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500))
def test_folds_are_a_partition_of_the_right_sizes(students: int) -> None:
    folds = assign_folds(students)
    assert folds.shape == (students,) and folds.dtype == np.int8
    test = int(0.2 * students)
    assert (folds == -1).sum() == test
    sizes = [int((folds == fold).sum()) for fold in range(5)]
    assert sum(sizes) == students - test
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1


def test_folds_by_the_recipe_in_words() -> None:
    """Shuffle, last fifth is test; shuffle the rest anew with the same seed, five stretches."""
    order = np.random.RandomState(1024).choice(23, 23, replace=False)
    rest, test = order[:19], order[19:]
    rest = rest[np.random.RandomState(1024).choice(19, 19, replace=False)]
    folds = assign_folds(23)
    assert set(np.flatnonzero(folds == -1)) == set(test)
    bounds = [0, 4, 8, 12, 16, 19]
    for fold in range(5):
        stretch = rest[bounds[fold] : bounds[fold + 1]]
        assert set(np.flatnonzero(folds == fold)) == set(stretch)


def test_folds_of_ten_students_are_fixed_for_ever() -> None:
    """That the recipe is pyKT's own is shown on its ready-made split, in test_readers.py."""
    assert assign_folds(10).tolist() == [4, -1, 0, 3, 1, 2, 2, 0, 1, -1]


def test_cutting_by_hand() -> None:
    offsets = np.array([0, 7, 9, 12, 12])
    starts, lengths, students = cut_sequences(offsets, np.array([2, 0, 1, 3]), 4)
    assert starts.tolist() == [9, 0, 4]
    assert lengths.tolist() == [3, 4, 3]
    assert students.tolist() == [2, 0, 0]
    with pytest.raises(ValueError, match="seq_len"):
        cut_sequences(offsets, np.array([0]), 0)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(1, 9),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_cutting_equals_the_loop(totals: list[int], seq_len: int, minimum: int, random) -> None:
    offsets = np.concatenate([[0], np.cumsum(totals)])
    wanted = [student for student in range(len(totals)) if random.random() < 0.7]
    expected = [
        (start, min(start + seq_len, int(offsets[student + 1])) - start, student)
        for student in wanted
        for start in range(int(offsets[student]), int(offsets[student + 1]), seq_len)
    ]
    expected = [piece for piece in expected if piece[1] >= minimum]
    cut = cut_sequences(offsets, np.array(wanted, np.int64), seq_len, minimum)
    assert list(zip(*(part.tolist() for part in cut), strict=True)) == expected
    assert all(part.dtype == np.int64 for part in cut)
