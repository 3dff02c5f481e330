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
    """Area under the ROC curve by ranks; ties count half; nan when there is only one class.

    Args:
        answers: (n,) of 0 and 1.
        scores: (n,), larger for a likelier 1.
    """
    right = answers.astype(bool)
    of_right, of_wrong = np.sort(scores[right]), np.sort(scores[~right])
    if not len(of_right) or not len(of_wrong):
        return float("nan")
    # pairs in the right order, twice: once without those that tie and once with them
    pairs = sum(int(np.searchsorted(of_wrong, of_right, side).sum()) for side in ("left", "right"))
    return pairs / (2 * len(of_right) * len(of_wrong))


def roc_curve(answers: Array, scores: FloatArray, points: int = 200) -> list[tuple[float, float]]:
    """Return the ROC curve as (false positive rate, true positive rate), thinned out.

    Args:
        answers: (n,) of 0 and 1, both present.
        scores: (n,), larger for a likelier 1.
        points: corners to keep besides the two ends, evenly over the answers.
    """
    order = np.argsort(-scores, kind="stable")
    right, ordered = answers[order].astype(np.float64), scores[order]
    # equal scores are one corner: no threshold parts them
    corners = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    chosen = np.unique(np.linspace(0, len(corners) - 1, min(points, len(corners))).astype(int))
    corners = corners[chosen]
    found, passed = np.cumsum(right)[corners], np.cumsum(1 - right)[corners]
    rates = zip(passed / passed[-1], found / found[-1], strict=True)
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

    def add(self, answers: Array, logits: FloatArray) -> None:
        """Take in (n,) answers of 0 and 1 and the log-odds of a 1."""
        right = answers.astype(bool)
        if self._counts is None:
            self._kept.append((right, logits))
            self._n_kept += len(right)
            if self._n_kept > self.limit:
                self._pour(np.zeros((2, BINS), np.int64))
        else:
            _count(self._counts, right, logits)

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
        below = np.cumsum(wrong) - wrong
        # halves of pairs stay whole numbers, far below 2^63
        return int((right * (2 * below + wrong)).sum()) / (2 * n_right * n_wrong)

    def state(self) -> dict[str, npt.NDArray[np.generic] | None]:
        """Return all that was taken in as arrays: answers and logits kept, and counts in bins."""
        answers, logits = self._all() if self._kept else (None, None)
        return {"answers": answers, "logits": logits, "counts": self._counts}

    def restore(self, state: dict[str, npt.NDArray[Any] | None]) -> None:
        """Take in what `state` of another returned."""
        if state["counts"] is not None:
            self._pour(state["counts"])
        if state["answers"] is not None and state["logits"] is not None:
            self.add(state["answers"], state["logits"])

    def _all(self) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        rights, logits = zip(*self._kept, strict=True)
        return np.concatenate(rights), np.concatenate(logits)

    def _pour(self, counts: npt.NDArray[np.int64]) -> None:
        self._counts = counts + (0 if self._counts is None else self._counts)
        for right, logits in self._kept:
            _count(self._counts, right, logits)
        self._kept, self._n_kept = [], 0


def _count(counts: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], logits: FloatArray) -> None:
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1) + BINS * right
    counts += np.bincount(place, minlength=2 * BINS).reshape(2, BINS)


class RunningMetrics:
    """All metrics of predictions that come in parts, in bounded memory."""

    def __init__(self) -> None:
        self.targets = 0
        self.auc = RunningAUC()
        self._sums = np.zeros(3)

    def add(self, answers: Array, logits: FloatArray, probabilities: FloatArray) -> None:
        """Take in (n,) answers of 0 and 1, log-odds and probabilities of a 1."""
        self.targets += len(answers)
        self.auc.add(answers, logits)
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
