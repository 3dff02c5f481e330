"""Accuracy of predictions: exact AUC, accuracy, log loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.integer | np.bool_ | np.floating]
FloatArray = npt.NDArray[np.floating]


def auc(answers: Array, scores: FloatArray) -> float:
    """Area under the ROC curve by ranks; ties count half; nan when there is only one class.

    Args:
        answers: (n,) of 0 and 1.
        scores: (n,), larger for a likelier 1.
    """
    right = answers.astype(bool)
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    if not n_right or not n_wrong:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # mean rank of each run of equal scores
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begins = np.flatnonzero(first)
    ends = np.append(begins[1:], len(ordered))
    mean_rank = (begins + ends + 1) / 2
    ranks = np.repeat(mean_rank, ends - begins)
    rank_sum = float(ranks[right[order]].sum())
    return (rank_sum - n_right * (n_right + 1) / 2) / (n_right * n_wrong)


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
    z = logits.astype(np.float64)
    return float((np.logaddexp(0.0, z) - answers * z).mean())


def brier(answers: Array, probabilities: FloatArray) -> float:
    """Mean squared distance of probability and answer."""
    return float(np.square(probabilities.astype(np.float64) - answers).mean())
