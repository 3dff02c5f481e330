"""Degree of agreement: is mastery higher before right answers than before wrong ones?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray

Numbers = npt.NDArray[np.generic]


class Agreement:
    """P(m_i > m_j | y_i = 1, y_j = 0) within each group of answers, ties counting half.

    With skills as groups this is the degree of agreement (DOA) of mastery before the answer.
    Sorts once, for any number of weightings.

    Args:
        groups: (n,) codes, such as the skill asked.
        answers: (n,) of 0 and 1.
        mastery: (n,), before the answer.

    Source: Fouss et al. 2007; Wang et al. 2020 (NeuralCD) for mastery.
    """

    def __init__(self, groups: Numbers, answers: Numbers, mastery: Numbers) -> None:
        order = np.lexsort((mastery, groups))
        group, score = groups[order], mastery[order]
        new_group = _differs(group)
        self._order = order
        self._right = answers[order].astype(bool)
        self._ties = np.flatnonzero(new_group | _differs(score))
        self._groups = np.searchsorted(self._ties, np.flatnonzero(new_group))

    def by_group(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return each group's agreement (nan without pairs) and its weight of answers, (G,)."""
        w = weights[self._order]
        right = np.add.reduceat(np.where(self._right, w, 0.0), self._ties)
        wrong = np.add.reduceat(np.where(self._right, 0.0, w), self._ties)
        rights, wrongs = (np.add.reduceat(v, self._groups) for v in (right, wrong))
        sizes = np.diff(self._groups, append=len(self._ties))
        before = np.repeat(np.cumsum(wrongs) - wrongs, sizes)
        below = np.cumsum(wrong) - wrong - before
        agreeing = np.add.reduceat(right * (below + wrong / 2), self._groups)
        pairs = rights * wrongs
        agreement = np.full(len(pairs), np.nan)
        np.divide(agreeing, pairs, out=agreement, where=pairs > 0)
        return agreement, rights + wrongs

    def mean(self, weights: FloatArray) -> float:
        """Return the mean over the groups that have a pair."""
        agreement, _ = self.by_group(weights)
        defined = ~np.isnan(agreement)
        return float(agreement[defined].mean()) if defined.any() else float("nan")

    def weighted(self, weights: FloatArray) -> float:
        """Return the mean over groups, weighted by their answers."""
        agreement, size = self.by_group(weights)
        defined = ~np.isnan(agreement)
        if not defined.any():
            return float("nan")
        return float(np.average(agreement[defined], weights=size[defined]))


def _differs(values: Numbers) -> npt.NDArray[np.bool_]:
    return np.concatenate([[True], values[1:] != values[:-1]])
