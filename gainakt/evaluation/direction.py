"""Does a right answer in place of a wrong one ever lower a later prediction?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gainakt.data.sequences import Sequences, copied, rows_of_pieces
from gainakt.evaluation.predictor import Predictor
from gainakt.seeds import Stream

# A fall of the log-odds by less than this, relative to 1 + their size, is rounding.
TOLERANCE = 1e-5
FLIPS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Flips:
    """What n flips did, each of one wrong answer to right; columns of length n.

    student: whose answer. later, later_falls: predictions after the flip, and those that fell.
    next, next_falls: the same of the prediction straight after it, 0 or 1.
    """

    student: npt.NDArray[np.int64]
    later: npt.NDArray[np.int64]
    later_falls: npt.NDArray[np.int64]
    next: npt.NDArray[np.int64]
    next_falls: npt.NDArray[np.int64]


def flip_answers(
    predictor: Predictor,
    sequences: Sequences,
    flips: int,
    seed: int,
) -> Flips:
    """Flip wrong answers drawn at random, one at a time, and read the model again.

    Args:
        predictor: what reads the histories.
        sequences: whose answers to flip; an answer that no prediction follows is not drawn.
        flips: how many; all wrong answers where there are fewer.
        seed: of the draw.
    """
    sequences = copied(sequences)
    before = predictor.read(sequences)
    # the last place of each piece after which something is predicted
    last = np.full(len(sequences), -1)
    np.maximum.at(last, before.sequence[before.has_next], before.position[before.has_next])
    wrong = (sequences.rows.response == 0) & (before.position <= last[before.sequence])
    rng = Stream.FLIPS.generator(seed)
    drawn = rng.permutation(np.flatnonzero(wrong))[:flips]
    # neighbours in length are read together at little padding
    drawn = drawn[np.argsort(sequences.lengths[before.sequence[drawn]], kind="stable")]
    parts = []
    for begin in range(0, len(drawn), FLIPS_AT_ONCE):
        rows = drawn[begin : begin + FLIPS_AT_ONCE]
        chosen = sequences.take(before.sequence[rows])
        changed = copied(chosen)
        place = before.position[rows]
        changed.rows.response[changed.starts + place] = 1
        after = predictor.read(changed)
        old = before.logit[rows_of_pieces(chosen)].astype(np.float64)
        falls = after.logit < old - TOLERANCE * (1 + np.abs(old))
        is_later = after.has_next & (after.position >= place[after.sequence])
        is_next = is_later & (after.position == place[after.sequence])
        counts = [
            np.bincount(after.sequence[where], minlength=len(rows))
            for where in (is_later, is_later & falls, is_next, is_next & falls)
        ]
        parts.append([chosen.students, *counts])
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)] or [np.zeros(0, np.int64)] * 5
    return Flips(*columns)
