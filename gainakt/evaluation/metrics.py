"""Accuracy of predictions: AUC, accuracy, log loss, Brier score; of a whole or part by part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.integer | np.bool_ | np.floating]
FloatArray = npt.NDArray[np.floating]

# Up to so many targets the AUC of parts is exact; they take 5 bytes each until then.
EXACT_TARGETS = 20_000_000
# Bins of equal width in probability: for two million simulated targets 8e-9 off the exact AUC.
BINS = 1 << 16


def auc(answers: Array, scores: FloatArray) -> float:
    """Area under the ROC curve; ties count half; nan when there is only one class.

    It is computed as scikit-learn's `roc_auc_score` is, operation by operation, so that anyone who
    takes the stored predictions there finds the same number to the last bit.

    Args:
        answers: (n,) of 0 and 1.
        scores: (n,), larger for a likelier 1.
    """
    right = answers.astype(bool)
    if not len(right) or right.all() or not right.any():
        return float("nan")
    passed, found = _corners(right, scores)
    return _area(passed, found)


def _corners(
    right: npt.NDArray[np.bool_], scores: FloatArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Wrong and right answers with a score of at least each threshold, from the highest down."""
    order = np.argsort(scores, kind="stable")[::-1]
    ordered = scores[order]
    # equal scores are one corner: no threshold parts them
    corners = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    found: npt.NDArray[np.int64] = np.cumsum(right[order], dtype=np.int64)[corners]
    return corners + 1 - found, found


def _area(passed: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    """The area under the curve through the corners, from the origin on."""
    # corners on a straight line are left out, which changes nothing but the rounding
    bends = (np.diff(passed, 2) != 0) | (np.diff(found, 2) != 0)
    if len(passed) > 2:
        passed, found = (x[np.concatenate([[True], bends, [True]])] for x in (passed, found))
    x, y = (np.append(0, values) / values[-1] for values in (passed, found))
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2.0).sum())


def roc_curve(answers: Array, scores: FloatArray, points: int = 200) -> list[tuple[float, float]]:
    """Return the ROC curve as (false positive rate, true positive rate), thinned out.

    Args:
        answers: (n,) of 0 and 1, both present.
        scores: (n,), larger for a likelier 1.
        points: corners to keep besides the two ends, evenly over the answers.
    """
    passed, found = _corners(answers.astype(bool), scores)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(points, len(found))).astype(int))
    rates = zip(passed[chosen] / passed[-1], found[chosen] / found[-1], strict=True)
    return [(0.0, 0.0), *((float(x), float(y)) for x, y in rates)]


def accuracy(answers: Array, probabilities: FloatArray) -> float:
    """Share of answers predicted on the right side of 0.5 (0.5 itself counts as right)."""
    return float(((probabilities >= 0.5) == answers.astype(bool)).mean())


def log_loss(answers: Array, logits: FloatArray) -> float:
    """Mean binary cross entropy of (n,) logits, in nats, computed without overflow."""
    return float(_log_losses(answers, logits).mean())


def brier(answers: Array, probabilities: FloatArray) -> float:
    """Mean squared distance of probability and answer."""
    return float(_squares(answers, probabilities).mean())


def _log_losses(answers: Array, logits: FloatArray) -> npt.NDArray[np.float64]:
    z = logits.astype(np.float64)
    return np.asarray(np.logaddexp(0.0, z) - answers * z)


def _squares(answers: Array, probabilities: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.square(probabilities.astype(np.float64) - answers))


class RunningAUC:
    """AUC of predictions that come in parts, in bounded memory.

    Exact up to `limit` targets. Beyond that they are counted in bins of probability, and those in
    one bin count as ties.

    Args:
        limit: targets to keep for the exact figure.
    """

    def __init__(self, limit: int = EXACT_TARGETS) -> None:
        self.limit = limit
        self._kept: list[tuple[npt.NDArray[np.bool_], FloatArray]] = []
        self._n_kept = 0
        self._counts: npt.NDArray[np.int64] | None = None  # (2, BINS) of wrong and right answers

    @property
    def exact(self) -> bool:
        """Whether the figure is that of all targets sorted."""
        return self._counts is None

    def add(self, answers: Array, probabilities: FloatArray) -> None:
        """Take in (n,) answers of 0 and 1 and the probability of a 1."""
        right = answers.astype(bool)
        if self._counts is None:
            self._kept.append((right, probabilities))
            self._n_kept += len(right)
            if self._n_kept > self.limit:
                self._pour(np.zeros((2, BINS), np.int64))
        else:
            _count(self._counts, right, probabilities)

    def merge(self, other: RunningAUC) -> None:
        """Take in all that another has taken in."""
        self.restore(other.state())

    def value(self) -> float:
        """Return the AUC so far; nan while there is only one class."""
        if self._counts is None:
            return auc(*self._all()) if self._kept else float("nan")
        wrong, right = self._counts
        n_wrong, n_right = int(wrong.sum()), int(right.sum())
        if not n_wrong or not n_right:
            return float("nan")
        return _area(np.cumsum(wrong[::-1]), np.cumsum(right[::-1]))

    def state(self) -> dict[str, npt.NDArray[np.generic] | None]:
        """Return all that was taken in as arrays: what is kept, and counts in bins."""
        answers, probabilities = self._all() if self._kept else (None, None)
        return {"answers": answers, "probabilities": probabilities, "counts": self._counts}

    def restore(self, state: dict[str, npt.NDArray[Any] | None]) -> None:
        """Take in what `state` of another returned."""
        if state["counts"] is not None:
            self._pour(state["counts"])
        if state["answers"] is not None and state["probabilities"] is not None:
            self.add(state["answers"], state["probabilities"])

    def _all(self) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        rights, probabilities = zip(*self._kept, strict=True)
        return np.concatenate(rights), np.concatenate(probabilities)

    def _pour(self, counts: npt.NDArray[np.int64]) -> None:
        self._counts = counts + (0 if self._counts is None else self._counts)
        for right, probabilities in self._kept:
            _count(self._counts, right, probabilities)
        self._kept, self._n_kept = [], 0


def _count(
    counts: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], probabilities: FloatArray
) -> None:
    place = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1) + BINS * right
    counts += np.bincount(place, minlength=2 * BINS).reshape(2, BINS)


class RunningMetrics:
    """All metrics of predictions that come in parts, in bounded memory."""

    def __init__(self) -> None:
        self.targets = 0
        self.auc = RunningAUC()
        self._sums = np.zeros(3)

    def add(self, answers: Array, logits: FloatArray, probabilities: FloatArray) -> None:
        """Take in (n,) answers of 0 and 1, log-odds and probabilities of a 1.

        AUC, accuracy and Brier score are of exactly the probabilities, as they are stored; the log
        loss is of the log-odds, which are finite where a probability is rounded to 0 or 1.
        """
        self.targets += len(answers)
        self.auc.add(answers, probabilities)
        self._sums += [
            ((probabilities >= 0.5) == answers.astype(bool)).sum(),
            _log_losses(answers, logits).sum(),
            _squares(answers, probabilities).sum(),
        ]

    def merge(self, other: RunningMetrics) -> None:
        """Take in all that another has taken in."""
        self.targets += other.targets
        self.auc.merge(other.auc)
        self._sums += other._sums

    def values(self) -> dict[str, float]:
        """Return auc, accuracy, log_loss and brier of at least one target."""
        accurate, loss, square = (self._sums / self.targets).tolist()
        return {
            "auc": self.auc.value(),
            "accuracy": accurate,
            "log_loss": loss,
            "brier": square,
        }
