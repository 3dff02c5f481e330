"""Do probabilities mean what they say?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray

Numbers = npt.NDArray[np.generic]

BINS = 10


class Calibration:
    """Predictions in bins of equal numbers, compared with the answers in each.

    Args:
        answers: (n,) of 0 and 1.
        probabilities: (n,).
        bins: bounds are quantiles of the probabilities; equal ones share a bin.

    Source: Naeini, Cooper and Hauskrecht 2015 (expected calibration error), with quantile bins.
    """

    def __init__(self, answers: Numbers, probabilities: Numbers, bins: int = BINS) -> None:
        self._p = probabilities.astype(np.float64)
        self._y = answers.astype(np.float64)
        inner = np.quantile(self._p, np.arange(1, bins) / bins)
        self._bin = np.searchsorted(np.unique(inner), self._p, side="right")

    def error(self, weights: FloatArray | None = None) -> float:
        """Return the expected calibration error: mean |mean probability - share right| of bins."""
        w = np.ones(len(self._p)) if weights is None else weights
        return float(np.abs(np.bincount(self._bin, w * (self._p - self._y))).sum() / w.sum())

    def brier(self, weights: FloatArray | None = None) -> float:
        """Return the mean squared distance of probability and answer."""
        return float(np.average(np.square(self._p - self._y), weights=weights))

    def curve(self) -> list[dict[str, float]]:
        """Return the reliability curve: one point for each bin that is not empty."""
        count = np.bincount(self._bin)
        kept = count > 0
        probability, right = (
            np.bincount(self._bin, v)[kept] / count[kept] for v in (self._p, self._y)
        )
        return [
            {"answers": int(n), "probability": float(p), "share_right": float(r)}
            for n, p, r in zip(count[kept], probability, right, strict=True)
        ]
