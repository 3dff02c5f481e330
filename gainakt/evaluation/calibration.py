"""Do probabilities mean what they say?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray
from gainakt.seeds import Stream

Numbers = npt.NDArray[np.generic]

BINS = 10


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error, which chance alone makes larger, and what is left of it.

    observed: as computed. floor: what calibrated probabilities would show on average, for these
    students. value: corrected for chance; low, high: its 95% interval.
    """

    observed: float
    floor: float
    value: float
    low: float
    high: float


class Calibration:
    """Predictions in bins of equal numbers, compared with the answers in each.

    Args:
        answers: (n,) of 0 and 1.
        probabilities: (n,).
        bins: bounds are quantiles of the probabilities; equal ones share a bin.

    Source: Naeini, Cooper and Hauskrecht 2015 (expected calibration error), with quantile bins; its
    bias by chance: Bröcker 2012, Roelofs et al. 2022.
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

    def corrected(self, students: Numbers, samples: int, seed: int) -> CalibrationError:
        """Return the calibration error corrected for chance, with an interval that holds.

        The observed error is sum_b |G_b| with G_b the bin's share of answers times its gap, which
        is near N(Gamma, S), S taken over students. Of all true gaps Gamma with one error
        sum_b |Gamma_b|, those in proportion to their standard errors look smallest and one in the
        surest bin alone looks largest; the limits ask these two which errors could look like the
        observed one, so that the interval holds whatever the shape. The value is the error whose
        like, in the shape observed, looks like the observed one on average.

        Args:
            students: (n,) whose answer each is.
            samples: draws of chance.
            seed: of the draws.
        """
        from scipy.optimize import brentq

        _, owner = np.unique(students, return_inverse=True)
        n_students, n_bins = int(owner.max()) + 1, int(self._bin.max()) + 1
        gaps = np.bincount(
            owner * n_bins + self._bin, self._p - self._y, n_students * n_bins
        ).reshape(n_students, n_bins) / len(self._p)
        centred = gaps - gaps.mean(0)
        covariance = centred.T @ centred * n_students / max(n_students - 1, 1)
        deviation = np.sqrt(np.diag(covariance))
        gap = gaps.sum(0)
        rng = Stream.CALIBRATION.generator(seed)
        chance = rng.multivariate_normal(np.zeros(n_bins), covariance, samples, method="eigh")
        observed = float(np.abs(gap).sum())

        def solve(looks: Callable[[float], float], most: float) -> float:
            """The largest error, up to `most`, that looks no larger than the observed one."""
            if looks(0.0) >= observed:
                return 0.0
            if looks(most) <= observed:
                return most
            return float(brentq(lambda size: looks(size) - observed, 0.0, most))

        def alike(size: float) -> FloatArray:
            share = deviation / max(deviation.sum(), 1e-300)
            return np.asarray(np.abs(size * share + chance).sum(1))

        def alone(size: float) -> FloatArray:
            in_one = chance.copy()
            in_one[:, deviation.argmin()] += size
            return np.asarray(np.abs(in_one).sum(1))

        def as_observed(size: float) -> FloatArray:
            return np.asarray(np.abs(size * gap / max(observed, 1e-300) + chance).sum(1))

        most = observed + 10 * float(deviation.sum())
        return CalibrationError(
            observed=observed,
            floor=float(np.abs(chance).sum(1).mean()),
            value=solve(lambda size: float(as_observed(size).mean()), observed),
            low=solve(lambda size: float(np.quantile(alone(size), 0.975)), observed),
            high=solve(lambda size: float(np.quantile(alike(size), 0.025)), most),
        )

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
