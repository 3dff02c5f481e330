"""Training batches of one shape: whole sequences one after the other in rows of equal length.

A GPU repeats a step without asking the host only where every tensor keeps its shape. Which
sequences a step holds, and in which order the steps come, stays as `training_batches` has it; only
the layout differs, and `Batch.visible` keeps the sequences of a row apart. An epoch is planned on
the host at once, in two integers a step, from which batches are gathered on the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import IntArray
from gainakt.data.batches import Batch, Columns, Rectangle, gather, training_order, upload
from gainakt.data.sequences import Sequences

# Rows are at least this long: shorter ones leave larger gaps.
ROW_LENGTH = 256
# Lengths that attention kernels like are multiples of this.
ROW_UNIT = 64
# Every shape is recorded apart; more of them save little padding.
MOST_SHAPES = 3


@dataclass(frozen=True, eq=False)
class PackedEpoch:
    """The layout of an epoch: all its steps' rows, one after the other.

    sequence, position: (cells,) int32 and int16; gaps hold the sequence behind the last, which has
        no steps. rows: of each optimiser step. starts: its first cell.
    """

    sequence: Tensor
    position: Tensor
    rows: list[int]
    starts: list[int]

    def to(self, device: torch.device) -> PackedEpoch:
        """Return the plan on `device`, uploaded once."""
        return replace(
            self,
            sequence=upload(self.sequence, device),
            position=upload(self.position, device),
        )


class Packing:
    """How the epochs of a training set are laid out.

    Args:
        sequences: the training set.
        seq_len: its longest sequence.
        batch_size: sequences of an optimiser step.
        seed: of the order of students.
    """

    def __init__(self, sequences: Sequences, seq_len: int, batch_size: int, seed: int) -> None:
        self.sequences = sequences
        self.batch_size = batch_size
        self.seed = seed
        self.length = max(ROW_LENGTH, -(-seq_len // ROW_UNIT) * ROW_UNIT)
        # from the first epoch alone, so that a resumed run takes the same
        self.shapes = choose_shapes(self._fill(1)[-1])

    def columns(self) -> Columns:
        """Return what steps are gathered from, with a sequence of no steps behind the last."""
        columns = Columns.of(self.sequences)
        nothing = {"starts": 1, "lengths": 0, "score_from": 0}
        longer: dict[str, Any] = {
            name: torch.cat([getattr(columns, name), torch.tensor([value])])
            for name, value in nothing.items()
        }
        return columns._replace(**longer)

    def epoch(self, epoch: int) -> PackedEpoch:
        """Plan an epoch, counted from 1."""
        chosen, step, row, offset, used = self._fill(epoch)
        rows = np.array([next((s for s in self.shapes if s >= n), n) for n in used.tolist()])
        first_row = np.cumsum(rows) - rows
        lengths = self.sequences.lengths[chosen]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        cell = np.repeat((first_row[step] + row) * self.length + offset, lengths) + within
        cells = int(rows.sum()) * self.length
        sequence = np.full(cells, len(self.sequences), dtype=np.int32)
        position = np.zeros(cells, dtype=np.int16 if self.length < 2**15 else np.int32)
        sequence[cell] = np.repeat(chosen, lengths)
        position[cell] = within
        return PackedEpoch(
            torch.from_numpy(sequence),
            torch.from_numpy(position),
            rows.tolist(),
            (first_row * self.length).tolist(),
        )

    def _fill(self, epoch: int) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Fill each step's rows, longest sequence first, each where it fits first.

        Returns:
            For every sequence its index, step, row within the step and offset within the row; and
            the rows used by each step.
        """
        order = training_order(len(self.sequences), self.seed, epoch)
        step = np.arange(len(order)) // self.batch_size
        sorted_within = np.lexsort((-self.sequences.lengths[order], step))
        order = order[sorted_within]  # the steps stay ascending
        rows, offsets, used = [], [], []
        free: list[int] = []
        current = -1
        for number, length in zip(
            step.tolist(), self.sequences.lengths[order].tolist(), strict=True
        ):
            if number != current:
                current, free = number, []
                used.append(free)
            row = next((r for r, left in enumerate(free) if left >= length), len(free))
            if row == len(free):
                free.append(self.length)
            rows.append(row)
            offsets.append(self.length - free[row])
            free[row] -= length
        return order, step, np.array(rows), np.array(offsets), np.array([len(f) for f in used])


def choose_shapes(rows: IntArray, most: int = MOST_SHAPES) -> list[int]:
    """Return the numbers of rows to round up to, at most `most`, that waste the fewest rows.

    Args:
        rows: (steps,) used by each step.
    """
    sizes, counts = np.unique(rows, return_counts=True)

    def total(shapes: Iterable[int]) -> int:
        ends = [0, *np.searchsorted(sizes, list(shapes), side="right").tolist()]
        return sum(
            size * int(counts[a:b].sum())
            for size, (a, b) in zip(shapes, pairwise(ends), strict=True)
        )

    largest = int(sizes[-1])
    others = sizes[:-1].tolist()
    candidates = (
        (*smaller, largest) for smaller in combinations(others, min(most - 1, len(others)))
    )
    return list(min(candidates, key=total))


def packed_batch(columns: Columns, sequence: Tensor, position: Tensor, length: int) -> Batch:
    """Return the batch of some rows of a plan.

    Args:
        columns: from `Packing.columns`.
        sequence, position: (rows * length,).
        length: of a row.
    """
    sequence, position = sequence.long(), position.long()
    by_row = sequence.view(-1, length)
    visible = (by_row[:, :, None] == by_row[:, None]).tril()
    rectangle = Rectangle(0, len(by_row), length)
    return gather(columns, sequence, position, (rectangle,), visible.flatten(0, 1))
