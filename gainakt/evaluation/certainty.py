"""How sure a prediction for one student is, and when it will have faded."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.rows import NONE, Rows
from gainakt.errors import GainaktError
from gainakt.models.interface import StudentState
from gainakt.models.rolling import RollingState

# Equal answers that a student is imagined to give next. One moves little, many teach besides.
IMAGINED = 3
# What is known of a skill before any answer is worth no more answers than this, and every answer
# no more than one: a model may react to nothing in histories that it never met.
BEFORE = 10
# Of somebody of whom nothing is known an answer still says no more than this.
LEAST = 0.05
# When a review is due is looked for up to so many milliseconds ahead: ten years.
AHEAD = 315_360_000_000
# Each round asks at so many instants at once: three find the time to a ten thousandth.
INSTANTS, ROUNDS = 64, 3


@dataclass(frozen=True)
class Mastery:
    """How far a student masters a skill, and how sure that is.

    value: probability of a right answer to a typical question on it. low, high: where that lies
    with probability `level`. answers: those on the skill that it rests on. last: when the last of
    them was given, in milliseconds since 1970; None where there is none or it is not known.
    """

    value: float
    low: float
    high: float
    level: float
    answers: int
    last: int | None


def interval(
    value: FloatArray, if_right: FloatArray, if_wrong: FloatArray, answers: IntArray, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return where the true probabilities lie, low and high (N,), with probability `level`.

    A student whose probability of a right answer is one of Beta(s p, s (1 - p)) has p as the best
    prediction, and after n right answers in place of n wrong ones a prediction that is n / (s + n)
    higher. From how far a model's prediction moves, s follows: it is worth s answers. This is the
    posterior of exchangeable answers (de Finetti 1937), read off a model trained to predict them.

    Args:
        value: (N,), predictions.
        if_right, if_wrong: (N,), the predictions after `IMAGINED` right or wrong answers more.
        answers: (N,), those that a prediction rests on, to any skill.
        level: share of students who are to lie between.
    """
    from scipy.special import betaincinv

    moved = np.clip(if_right - if_wrong, 1e-6, 1 - 1e-6)
    worth = np.clip(IMAGINED / moved - IMAGINED, LEAST, answers + BEFORE)
    p = np.clip(value, 1e-6, 1 - 1e-6)
    low, high = (betaincinv(p * worth, (1 - p) * worth, (1 + s * level) / 2) for s in (-1, 1))
    return np.minimum(low, value), np.maximum(high, value)


@torch.inference_mode()
def interval_of(state: RollingState, asked: Rows, level: float = 0.9) -> tuple[float, float]:
    """Return the interval of one prediction for a student; see `interval`.

    Args:
        state: the student, with an answer at least.
        asked: one question; its response is not read.
        level: see `interval`.
    """
    past, values = state.recent(), [_probability(state, asked)]
    if past is not None and past.time is not None and not _time(asked):
        asked = asked.replace(time=past.time[-1:])  # imagined answers are given then
    for response in (1, 0):
        imagined = asked.take(np.zeros(IMAGINED, np.int64)).replace(
            response=np.full(IMAGINED, response, np.int8),
            order=asked.order[0] + np.arange(IMAGINED, dtype=np.int32),
        )
        then = copy.copy(state)
        then.extend(imagined)
        values.append(_probability(then, asked))
    value, if_right, if_wrong = np.array(values)[:, None]
    answers = np.array([0 if past is None else len(past)])
    low, high = interval(value, if_right, if_wrong, answers, level)
    return float(low[0]), float(high[0])


@torch.inference_mode()
def mastery_of(state: RollingState, asked: Rows, level: float) -> Mastery:
    """Return the mastery of one skill, with what it rests on.

    Args:
        state, asked, level: see `interval_of`.

    Raises:
        GainaktError: the level is no share, or the model's mastery is not what it predicts.
    """
    if not 0 < level < 1:
        raise GainaktError(f"level = {level}; it must lie between 0 and 1, such as 0.9")
    if "mastery_gap" not in state.model.by_construction:
        raise GainaktError(
            "the mastery of this model is not what it predicts, so that the answers to come do not "
            "say how sure it is; GainSum's is"
        )
    past = state.recent()
    assert past is not None
    on_skill = _on_skill(past, int(asked.skill[0]))
    times = [] if past.time is None else past.time[on_skill].tolist()
    low, high = interval_of(state, asked, level)
    value = _probability(state, asked)
    last = (times[-1] or None) if times else None
    return Mastery(value, low, high, level, int(on_skill.sum()), last)


@torch.inference_mode()
def review_time(state: RollingState, asked: Rows, wanted: float) -> int | None:
    """Return when a prediction falls to `wanted` if nothing happens, in milliseconds since 1970.

    The last answer's time where it is there already; None where it will not be in ten years. What
    time leaves of the evidence only shrinks, so there is one such time.

    Args:
        state, asked: see `interval_of`.
        wanted: a probability.

    Raises:
        GainaktError: it is no probability, the model reads no times, or the last answer has none.
    """
    if not 0 < wanted < 1:
        raise GainaktError(f"wanted = {wanted}; it must lie between 0 and 1, such as 0.7")
    if not state.model.reads_times:
        raise GainaktError(
            "this model does not know how evidence fades: train it on data with times, with "
            "--config gainsum or --forgetting on"
        )
    past = state.recent()
    now = 0 if past is None else _time(past)
    if not now:
        raise GainaktError("the time of the student's last answer is not known")
    if _probability(state, asked) <= wanted:
        return now
    low, high = 1, AHEAD
    for _ in range(ROUNDS):
        ahead = np.geomspace(low, high, INSTANTS).astype(np.int64)
        rows = asked.take(np.zeros(INSTANTS, np.int64)).replace(time=now + ahead)
        fallen = (state.logits(rows).double().sigmoid() <= wanted).cpu().numpy()
        if not fallen.any():
            return None
        first = int(fallen.argmax())
        low, high = int(ahead[max(first - 1, 0)]), int(ahead[first])
    return now + high


def _time(rows: Rows) -> int:
    return 0 if rows.time is None else int(rows.time[-1])


def _probability(state: StudentState, asked: Rows) -> float:
    return float(state.logits(asked).double().sigmoid()[0])


def _on_skill(rows: Rows, skill: int) -> np.ndarray:
    """Which rows (N,) are answers on a skill."""
    found = rows.skill == skill
    if rows.others is not None and skill != NONE:
        found = found | (rows.others == skill).any(axis=1)
    return np.asarray(found)
