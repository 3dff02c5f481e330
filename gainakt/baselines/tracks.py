"""The attempts of each student at each skill, one after the other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gainakt.arrays import IntArray


class Tracks:
    """Where the attempts of each student at each skill stand among n rows.

    Args:
        skills: (n,) codes under `n_skills`.
        students: (n,) whose answer it is; a student's rows stand in order of time.
        n_skills: K.
    """

    def __init__(self, skills: IntArray, students: IntArray, n_skills: int) -> None:
        track = students.astype(np.int64) * n_skills + skills
        order = np.argsort(track, kind="stable")
        first = np.flatnonzero(np.diff(track[order], prepend=-1))
        self.attempt: npt.NDArray[np.int64] = np.empty(len(track), np.int64)
        self.attempt[order] = np.arange(len(track)) - np.repeat(
            first, np.diff(first, append=len(track))
        )
        # the rows of each attempt number, every time in the order of their tracks
        by_attempt = np.lexsort((track, self.attempt))
        counts = np.bincount(self.attempt)
        rows = np.split(by_attempt, np.cumsum(counts)[:-1])
        self.first = rows[0]
        # for each later attempt number its rows, and beside them the rows of the attempt before
        self.steps = [
            (now, before[np.searchsorted(track[before], track[now])])
            for before, now in pairwise(rows)
        ]
