"""Students' histories cut to what a model reads at a time, and copies with changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gainakt.arrays import BoolArray, IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.rows import Rows
from gainakt.data.splits import cut_sequences


@dataclass(frozen=True, eq=False)
class Sequences:
    """Pieces of students' histories, each at most `seq_len` steps.

    `rows` are the data set's; piece i covers `starts[i] : starts[i] + lengths[i]` of them and
    belongs to student `students[i]`. Targets of a piece before step `score_from[i]` are context
    only and are not scored (see `window_sequences`). `soft_answers` are what the main loss learns
    in place of the responses, where there are any.
    """

    rows: Rows
    starts: IntArray
    lengths: IntArray
    students: IntArray
    score_from: IntArray
    soft_answers: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, index: IntArray) -> Sequences:
        """Return the pieces at `index`, in that order."""
        chosen = {
            name: getattr(self, name)[index]
            for name in ("starts", "lengths", "students", "score_from")
        }
        return replace(self, **chosen)


def whole_histories(rows: Rows, lengths: IntArray) -> Sequences:
    """Return histories that lie one after the other, each read in one piece.

    Args:
        rows: N rows.
        lengths: (n,), which sum to N.
    """
    lengths = np.asarray(lengths, np.int64)
    starts = np.cumsum(lengths) - lengths
    return Sequences(rows, starts, lengths, np.arange(len(lengths)), np.zeros_like(lengths))


def chunk_sequences(dataset: Dataset, students: IntArray, seq_len: int) -> Sequences:
    """Cut students' histories into consecutive pieces of `seq_len`; a rest under 3 is dropped."""
    starts, lengths, owner = cut_sequences(dataset.offsets, students, seq_len)
    return Sequences(dataset.rows, starts, lengths, owner, np.zeros_like(lengths))


def context_start(answer: int, seq_len: int, stride: int) -> int:
    """Return the step from which on a history is read to predict its answer number `answer`.

    Steps and answers count from 0. Up to `seq_len` answers are read from the start; after them
    windows move on by `stride` steps, so that between `seq_len - stride` and `seq_len - 1` steps
    are read, at most `seq_len - 1` of them moved at once: every answer needs a step before it.
    What follows the answer does not matter: a prediction stays the same when the history goes on.
    """
    if answer < seq_len:
        return 0
    stride = min(stride, seq_len - 1)
    return ((answer - seq_len) // stride + 1) * stride


def window_sequences(dataset: Dataset, students: IntArray, seq_len: int, stride: int) -> Sequences:
    """Cover every answer but each student's first once, each seen from its recent past.

    A history longer than `seq_len` continues in windows that move on by `stride` steps: each scores
    only its last `stride` targets (see `context_start`). `stride` 1 is the exact sliding window;
    larger ones cost that many times less.
    """
    stride = min(stride, seq_len - 1)
    begins = dataset.offsets[students]
    totals = dataset.offsets[students + 1] - begins
    further = -(-np.maximum(totals - seq_len, 0) // stride)
    windows = further + (totals > 0)
    owner = np.repeat(np.arange(len(students)), windows)
    # the number of a window within its student: a running count that restarts with each student;
    # it starts `stride` times its number into the history, where `context_start` has it
    number = np.arange(len(owner)) - np.repeat(np.cumsum(windows) - windows, windows)
    return Sequences(
        dataset.rows,
        begins[owner] + number * stride,
        np.minimum(totals[owner] - number * stride, seq_len),
        students[owner],
        # target j of a piece is its step j + 1
        np.where(number > 0, seq_len - stride - 1, 0),
    )


def rows_of_pieces(sequences: Sequences) -> IntArray:
    """Return the rows of all pieces, one piece after the other."""
    starts = np.cumsum(sequences.lengths) - sequences.lengths
    within = np.arange(int(sequences.lengths.sum())) - np.repeat(starts, sequences.lengths)
    return np.repeat(sequences.starts, sequences.lengths) + within


def copied(sequences: Sequences, keep: BoolArray | None = None) -> Sequences:
    """Return pieces with rows of their own, each row once, in order.

    Args:
        sequences: n steps in all.
        keep: (n,) which to keep, all by default; at least one of each piece.
    """
    rows = rows_of_pieces(sequences)
    lengths = sequences.lengths
    if keep is not None:
        piece = np.repeat(np.arange(len(sequences)), lengths)
        rows, lengths = rows[keep], np.bincount(piece[keep], minlength=len(sequences))
    return replace(
        sequences,
        rows=sequences.rows.take(rows),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )
