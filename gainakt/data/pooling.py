"""A question with several skills as one step: its rows pooled into one that names all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gainakt.arrays import IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.rows import NONE, Rows

AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def first_rows(order: IntArray, offsets: IntArray) -> npt.NDArray[np.bool_]:
    """Return where (N,) an answer's first row is: the skills of one question share its order.

    Args:
        order: (N,) of the rows.
        offsets: (S + 1,), where students begin.
    """
    first = np.append(True, order[1:] != order[:-1])[: len(order)]
    first[offsets[:-1][offsets[:-1] < len(order)]] = True
    return first


def several_skills(dataset: Dataset) -> bool:
    """Return whether some question has several skills: rows of equal order in one history."""
    return not first_rows(dataset.rows.order, dataset.offsets).all()


def pooled(dataset: AnyDataset) -> AnyDataset:
    """Return the data set with one row for each answer; itself where that is so already.

    The skill of a row is the first of its question, `Rows.others` are the rest.
    """
    first = first_rows(dataset.rows.order, dataset.offsets)
    if first.all():
        return dataset
    rows = np.flatnonzero(first)
    return replace(
        dataset,
        rows=dataset.rows.take(rows).replace(others=_others(dataset.rows, first)),
        offsets=np.append(0, np.cumsum(first))[dataset.offsets],
        origin=rows if dataset.origin is None else dataset.origin[rows],
    )


def _others(rows: Rows, first: npt.NDArray[np.bool_]) -> IntArray:
    """The skills of each answer after its first, (n, S - 1), each once."""
    answer = np.cumsum(first) - 1
    begin = np.flatnonzero(first)
    more = np.flatnonzero(~first)
    others = np.full((len(begin), int((more - begin[answer[more]]).max())), NONE, np.int32)
    others[answer[more], more - begin[answer[more]] - 1] = rows.skill[more]
    # a skill that is named twice is one skill
    for place in range(others.shape[1]):
        before = [rows.skill[begin], *others.T[:place]]
        others[np.any([others[:, place] == known for known in before], axis=0), place] = NONE
    return others
