"""Intervals by resampling students, with all their answers.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13. Students are the unit
because answers of one student are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray
from gainakt.seeds import Stream


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, drawn: FloatArray) -> Estimate:
        """Take the interval from the values of resamples, of which some may be nan."""
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(value) or not len(drawn):
            return cls(float(value) if np.isfinite(value) else None)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return cls(float(value), float(low), float(high))


class StudentBootstrap:
    """The same resamples of students for every figure over n rows.

    Args:
        students: (n,) whose row it is.
        samples: how many resamples.
        seed: of the resampling.
    """

    def __init__(self, students: npt.NDArray[np.generic], samples: int, seed: int) -> None:
        names, owner = np.unique(students, return_inverse=True)
        self._owner = owner
        self._n = len(names)
        rng = Stream.STUDENT_BOOTSTRAP.generator(seed)
        draws = (rng.integers(self._n, size=self._n) for _ in range(samples))
        self._counts = np.array([np.bincount(d, minlength=self._n) for d in draws], np.float32)

    def weights(self) -> Iterator[FloatArray]:
        """Yield each resample as weights (n,) of the rows."""
        for counts in self._counts:
            yield counts[self._owner].astype(np.float64)

    def estimate(self, figures: Callable[[FloatArray], list[float]]) -> list[Estimate]:
        """Return the estimates of several figures, each a function of weights (n,)."""
        values = figures(np.ones(len(self._owner)))
        drawn = np.array([figures(weights) for weights in self.weights()])
        return [Estimate.of(v, drawn[:, i]) for i, v in enumerate(values)]

    def ratio(self, top: npt.NDArray[np.generic], bottom: npt.NDArray[np.generic]) -> Estimate:
        """Return the estimate of sum(top) / sum(bottom), both (n,)."""
        above, below = (np.bincount(self._owner, v, self._n) for v in (top, bottom))
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (self._counts @ above) / (self._counts @ below)
            return Estimate.of(float(np.divide(above.sum(), below.sum())), drawn)

    def mean(self, values: npt.NDArray[np.floating]) -> Estimate:
        """Return the estimate of the mean of those of (n,) values that are not nan."""
        defined = ~np.isnan(values)
        return self.ratio(np.where(defined, values, 0.0), defined)
