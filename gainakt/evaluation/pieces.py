"""New sequences from old ones: copies with a changed answer, histories with steps left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gainakt.arrays import BoolArray, IntArray
from gainakt.data.batches import Sequences


def rows_of_pieces(sequences: Sequences) -> IntArray:
    """Return the rows of all pieces, one piece after the other."""
    starts = np.cumsum(sequences.lengths) - sequences.lengths
    within = np.arange(int(sequences.lengths.sum())) - np.repeat(starts, sequences.lengths)
    return np.repeat(sequences.starts, sequences.lengths) + within


def copied(sequences: Sequences, keep: BoolArray | None = None) -> Sequences:
    """Return pieces with arrays of their own, each row once, in order.

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
        skills=sequences.skills[rows],
        responses=sequences.responses[rows],
        orders=sequences.orders[rows],
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )
