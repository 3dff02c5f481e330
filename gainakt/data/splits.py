"""Who is in which fold, and where a history is cut into sequences: numpy only, no files."""

from __future__ import annotations

import hashlib

import numpy as np

from gainakt.data.interactions import TEST_FOLD

MIN_INTERACTIONS = 3
N_FOLDS = 5
TEST_SHARE = 0.2
SPLIT_SEED = 1024
SPLIT_METHOD = (
    f"pyKT: by student, in order of first appearance, numpy RandomState({SPLIT_SEED}); "
    f"last {TEST_SHARE:.0%} test, the rest shuffled again into {N_FOLDS} contiguous folds"
)


HASH_METHOD = (
    "by a hash of the student's id: a fifth of the students test, the others are in 5 folds; a "
    "student stays in the same part when the data grow"
)


def folds_by_hash(students: list[str]) -> np.ndarray:
    """Return the fold (n,) int8 of each student from its id alone, -1 for test."""
    numbers = [
        int.from_bytes(hashlib.sha256(student.encode()).digest()[:8], "big") for student in students
    ]
    parts = np.array(numbers, np.uint64)
    folds = (parts // np.uint64(5) % np.uint64(N_FOLDS)).astype(np.int8)
    return np.where(parts % np.uint64(5) == 0, TEST_FOLD, folds).astype(np.int8)


def assign_folds(n_students: int) -> np.ndarray:
    """The fold of each student, (n_students,) int8, -1 for test, as pyKT splits raw data.

    Students are numbered in order of first appearance. Source: pyKT's ``split_datasets.py``, whose
    ``DataFrame.sample(frac=1, random_state=1024)`` is this draw; the generator starts anew for the
    second shuffle, as it does there.
    """
    shuffled = np.random.RandomState(SPLIT_SEED).permutation(n_students)
    n_train = n_students - int(TEST_SHARE * n_students)
    train = shuffled[:n_train][np.random.RandomState(SPLIT_SEED).permutation(n_train)]
    sizes = [n_train // N_FOLDS + (fold < n_train % N_FOLDS) for fold in range(N_FOLDS)]
    folds = np.full(n_students, TEST_FOLD, np.int8)
    folds[train] = np.repeat(np.arange(N_FOLDS, dtype=np.int8), sizes)
    return folds


def cut_sequences(
    offsets: np.ndarray, students: np.ndarray, seq_len: int, minimum: int = MIN_INTERACTIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut histories into sequences of at most ``seq_len`` rows; drop rests under ``minimum``.

    ``offsets`` (S + 1,) are the row ranges of all students, ``students`` (n,) the indices of those
    wanted. Returns the first row, the length and the student index of each sequence, three (M,)
    int64 arrays, students in the order given and each student's sequences in order. Raises
    ValueError for a ``seq_len`` under 1.
    """
    if seq_len < 1:
        raise ValueError(f"seq_len must be at least 1, not {seq_len}")
    students = np.asarray(students, np.int64)
    totals = np.asarray(offsets, np.int64)[students + 1] - np.asarray(offsets, np.int64)[students]
    pieces = -(-totals // seq_len)
    owner = np.repeat(np.arange(len(students)), pieces)
    # The position of a piece within its student: a running count that restarts with each student.
    within = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.asarray(offsets, np.int64)[students][owner] + within * seq_len
    lengths = np.minimum(totals[owner] - within * seq_len, seq_len)
    kept = lengths >= minimum
    return starts[kept], lengths[kept], students[owner][kept]
