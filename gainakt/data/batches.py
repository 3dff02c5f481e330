"""The batches a model sees: flat steps in rectangles.

A batch is flat: every tensor's first axis is the step. Steps are grouped into rectangles of
sequences of similar length, so the dense layers run on hardly any padding and attention never
spans 200 steps for a student of 20 answers, while the lengths stay mixed within the batch.
A GPU would rather have every batch of one shape: `gainakt.data.packing` lays them out for it.
The shift "the state at step n predicts the answer at n + 1" and the mask are made here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gainakt.arrays import IntArray
from gainakt.data.rows import Rows
from gainakt.data.sequences import Sequences
from gainakt.seeds import epoch_generator

# What one more rectangle costs, in steps of padding: a few kernel launches. Measured flat
# between 4 and 16 on two cores for d_model 128 and 512.
RECTANGLE_COST = 8


class Rectangle(NamedTuple):
    """`rows` rows padded on the right to `length` steps, from flat step `start` on."""

    start: int
    rows: int
    length: int


class Columns(NamedTuple):
    """What steps are gathered from, as tensors on one device: see Sequences.

    rows: by name, one value a row of the data set; target: likewise. starts, lengths, score_from:
    by sequence.
    """

    rows: dict[str, Tensor]
    target: Tensor
    starts: Tensor
    lengths: Tensor
    score_from: Tensor

    @classmethod
    def of(cls, sequences: Sequences) -> Columns:
        """Return the arrays of sequences as tensors that share their memory."""
        rows = sequences.rows
        answers = rows.response if sequences.soft_answers is None else sequences.soft_answers
        return cls(
            rows={name: _tensor(values) for name, values in rows.present().items()},
            target=_tensor(answers),
            starts=_tensor(sequences.starts),
            lengths=_tensor(sequences.lengths),
            score_from=_tensor(sequences.score_from),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Columns:
        """Return columns with every tensor changed in the same way."""
        rows = {name: change(values) for name, values in self.rows.items()}
        return Columns(rows, *(change(column) for column in self[1:]))

    def to(self, device: torch.device) -> Columns:
        """Return the columns on `device`."""
        return self.map(lambda column: column.to(device))


@dataclass(frozen=True, eq=False)
class Batch:
    """Steps of several sequences, flat; N steps in all, padding included.

    skill, response, position, sequence: (N,) int64; `sequence` indexes the Sequences it came from.
    valid: (N,) bool, False on padding.
    next_skill, next_response: (N,) int64, what the step's state has to predict.
    question, next_question, time, next_time: (N,) int64, None where the data have none (see Rows).
    others, next_others: (N, S - 1) int64, None unless questions are pooled (see Rows).
    target: (N,) float32, what the main loss learns: the next response, or softer (see Sequences).
    has_next: (N,) bool, True where that answer exists and may be scored.
    visible: where a row holds several sequences (see `gainakt.data.packing`), (N, length) bool: the
        steps of its row that each step may look at, itself and the earlier ones of its sequence.
        None where a row holds one sequence: then those are all steps up to it.
    """

    skill: Int[Tensor, " N"]
    response: Int[Tensor, " N"]
    position: Int[Tensor, " N"]
    sequence: Int[Tensor, " N"]
    valid: Bool[Tensor, " N"]
    next_skill: Int[Tensor, " N"]
    next_response: Int[Tensor, " N"]
    target: Float[Tensor, " N"]
    has_next: Bool[Tensor, " N"]
    rectangles: tuple[Rectangle, ...]
    visible: Bool[Tensor, "N length"] | None = None
    question: Int[Tensor, " N"] | None = None
    next_question: Int[Tensor, " N"] | None = None
    time: Int[Tensor, " N"] | None = None
    next_time: Int[Tensor, " N"] | None = None
    others: Int[Tensor, "N S-1"] | None = None
    next_others: Int[Tensor, "N S-1"] | None = None

    def masks(self) -> tuple[Tensor, ...]:
        """Return `visible` as one more tensor for `by_rectangle`, or none."""
        return () if self.visible is None else (self.visible,)

    @property
    def longest(self) -> int:
        """The longest row: no position is as large, and no device is asked."""
        return max(length for _, _, length in self.rectangles)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: upload(value, device)
            for name, value in tensors.items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def pairs(self, lag: int) -> Tensor:
        """Return (N - lag,) bool: steps n and n + lag are both real and of one sequence."""
        same = self.sequence[:-lag] == self.sequence[lag:]
        return same & self.valid[:-lag] & self.valid[lag:]

    def by_rectangle(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Apply `function` to each rectangle's (rows, length, ...) view; return it flat, (N, ...).

        Padding stands at the right end only, so whatever looks backwards never meets it.
        """
        sizes = [rows * length for _, rows, length in self.rectangles]
        # split, not slices: the gradient of a split is one concatenation, that of each slice a
        # whole tensor of zeros
        pieces = zip(*(t.split(sizes) for t in tensors), strict=True)
        parts = []
        for (_, rows, length), views in zip(self.rectangles, pieces, strict=True):
            shaped = (view.unflatten(0, (rows, length)) for view in views)
            parts.append(function(*shaped).flatten(0, 1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


# The columns of rows that a batch shows of every step and of the one after it.
_SHOWN = {f.name for f in fields(Batch)} & Rows.SOURCES.keys()


def pack_rectangles(lengths: IntArray) -> tuple[IntArray, list[tuple[int, int]]]:
    """Group sequences into rectangles at the least cost of padding plus `RECTANGLE_COST` each.

    Returns the order in which the sequences are laid out (shortest first) and, for every
    rectangle, its (rows, length). Dynamic programming over the sorted lengths.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].astype(np.int64)
    n = len(ordered)
    cost = np.zeros(n + 1, dtype=np.int64)
    cut = np.zeros(n + 1, dtype=np.int64)
    begins = np.arange(n)
    for end in range(1, n + 1):
        candidates = cost[:end] + RECTANGLE_COST + (end - begins[:end]) * ordered[end - 1]
        cut[end] = int(candidates.argmin())
        cost[end] = candidates[cut[end]]
    shapes: list[tuple[int, int]] = []
    end = n
    while end > 0:
        begin = int(cut[end])
        shapes.append((end - begin, int(ordered[end - 1])))
        end = begin
    return order, shapes[::-1]


def make_batch(sequences: Sequences, index: IntArray, columns: Columns | None = None) -> Batch:
    """Build the batch of the pieces at `index`.

    Args:
        sequences: the pieces to draw from.
        index: (B,) positions in `sequences`.
        columns: those of `sequences`, where they were made before.
    """
    order, shapes = pack_rectangles(sequences.lengths[index])
    index = index[order]
    chosen, positions, rectangles = [], [], []
    row = start = 0
    for rows, length in shapes:
        chosen.append(np.repeat(index[row : row + rows], length))
        positions.append(np.tile(np.arange(length), rows))
        rectangles.append(Rectangle(start, rows, length))
        row, start = row + rows, start + rows * length
    sequence, position = (torch.from_numpy(np.concatenate(p)) for p in (chosen, positions))
    return gather(columns or Columns.of(sequences), sequence, position, tuple(rectangles))


def gather(
    columns: Columns,
    sequence: Tensor,
    position: Tensor,
    rectangles: tuple[Rectangle, ...],
    visible: Tensor | None = None,
) -> Batch:
    """Return the batch of the given steps; on a GPU the host never waits.

    Args:
        columns: what to gather from.
        sequence, position: (N,) int64; a position behind the sequence's end is padding.
        rectangles: how the steps lie.
        visible: see Batch.
    """
    lengths = columns.lengths[sequence]
    # padding repeats the sequence's last step; nothing reads it, but it is in range
    source = columns.starts[sequence] + torch.minimum(position, lengths - 1)
    is_last = position + 1 >= lengths
    following = source + ~is_last
    # The skills of one question share its order: only the first of them may be predicted, since
    # the others' answers are in the history already.
    order = columns.rows["order"]
    new_question = order[following] != order[source]
    steps: dict[str, Tensor] = {}
    for name in _SHOWN & columns.rows.keys():
        values = columns.rows[name]
        steps[name], steps[f"next_{name}"] = values[source].long(), values[following].long()
    return Batch(
        **steps,
        position=position,
        sequence=sequence,
        valid=position < lengths,
        target=columns.target[following].float(),
        has_next=~is_last & new_question & (position >= columns.score_from[sequence]),
        rectangles=rectangles,
        visible=visible,
    )


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a CPU's tensor on `device`; the host does not wait for the copy to arrive."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    # a tensor cannot share memory that must not be written to, as a Parquet column's
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def training_order(count: int, seed: int, epoch: int) -> IntArray:
    """Return the epoch's random order of `count` sequences: a function of seed and epoch alone."""
    return epoch_generator(seed, epoch).permutation(count)


def training_batches(
    sequences: Sequences, batch_size: int, seed: int, epoch: int, first_step: int = 0
) -> Iterator[Batch]:
    """Yield an epoch's batches from `first_step` on, lengths mixed at random within each."""
    order = training_order(len(sequences), seed, epoch)
    columns = Columns.of(sequences)
    for begin in range(first_step * batch_size, len(order), batch_size):
        yield make_batch(sequences, order[begin : begin + batch_size], columns)


def evaluation_batches(sequences: Sequences, steps: int = 8192) -> Iterator[Batch]:
    """Yield all pieces, neighbours in length together, about `steps` steps a batch."""
    order = np.argsort(sequences.lengths, kind="stable")
    columns = Columns.of(sequences)
    for begin, end in bounded_ranges(sequences.lengths[order], steps):
        yield make_batch(sequences, order[begin:end], columns)


def bounded_ranges(sizes: IntArray, limit: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges [begin, end) whose sizes sum to at most `limit`, or hold one."""
    done = np.concatenate([[0], np.cumsum(sizes)])
    begin = 0
    while begin < len(sizes):
        end = int(np.searchsorted(done, done[begin] + limit, side="right")) - 1
        end = max(end, begin + 1)
        yield begin, end
        begin = end
