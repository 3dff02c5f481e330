"""What a student's past says about a skill, in numbers: the history features of GainSum.

Two ways lead to the same numbers, `past_of_batch` over whole sequences and `HistoryState` one
answer at a time; `describe` turns either into features, so their meaning is written once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.batches import Batch
from gainakt.models.gainsum.asked import Asked

RECENT = 5
SKILL_RATES = (0.6, 0.85)
OVERALL_RATES = (0.7, 0.95)
# Builders of skills stop after three right answers in a row, so small cases matter one by one.
SMALL_COUNTS = range(1, 5)
SMALL_STREAKS = (range(-3, 0), range(1, 4))
MASTERY_RUN = 3

# Where things stand in a row of `HistoryState.skills`.
_SINGLE = slice(0, 4)
_AVERAGES = slice(4, 4 + len(SKILL_RATES))
_RECENT = slice(_AVERAGES.stop, _AVERAGES.stop + RECENT)

N_SKILL_FEATURES = 10 + 2 * len(SMALL_COUNTS)
N_ANSWER_FEATURES = (
    3 + sum(map(len, SMALL_STREAKS)) + len(SKILL_RATES) + RECENT + len(OVERALL_RATES)
)


@dataclass(frozen=True, eq=False)
class Past:
    """The past of a skill that is asked after a step; float tensors of one shape (*).

    From skills and positions alone:
        steps: interactions so far. attempts: those on the skill.
        gap: steps since the skill's last attempt, 0 if it was the last interaction or never.
        run: length of the current run of one skill, if it is this skill, else 0.
        runs: earlier runs that ended. last_run: log length of the last of them. log_runs: sum of
        their log lengths. short_runs: those of three interactions, the length of a skill mastered
        without a mistake.
    From answers, coded -1 and +1:
        right: right answers on the skill. streak: equal answers at its end, signed.
        averages (*, 2): exponential averages over the skill's answers; recent (*, 5): its last
        answers, the latest first, 0 where there is none; overall (*, 2): averages over all answers.
    """

    steps: Tensor
    attempts: Tensor
    gap: Tensor
    run: Tensor
    runs: Tensor
    last_run: Tensor
    log_runs: Tensor
    short_runs: Tensor
    right: Tensor
    streak: Tensor
    averages: Tensor
    recent: Tensor
    overall: Tensor


def n_features(answers: bool) -> int:
    """Return F, the number of features with or without those that read answers."""
    return N_SKILL_FEATURES + (N_ANSWER_FEATURES if answers else 0)


def describe(past: Past, *, answers: bool) -> Tensor:
    """Return the features (*, F) of a past; without `answers`, of skills and positions alone."""
    ended = past.runs + 1

    def mark(flags: Tensor) -> Tensor:
        return flags.to(ended.dtype)

    def each(values: Tensor, cases: range) -> Tensor:
        numbers = torch.arange(cases.start, cases.stop, device=values.device)
        return mark(values[..., None] == numbers)

    single = [
        past.steps.log1p(),
        past.attempts.log1p(),
        mark(past.attempts == 0),
        past.gap.log1p(),
        past.run.log1p(),
        mark(past.run > 0),
        past.runs.log1p(),
        past.last_run,
        past.log_runs / ended,
        past.short_runs / ended,
    ]
    columns = [
        torch.stack(single, dim=-1),
        each(past.attempts, SMALL_COUNTS),
        each(past.run, SMALL_COUNTS),
    ]
    if answers:
        single = [
            past.right.log1p(),
            (past.attempts - past.right).log1p(),
            past.streak.sign() * past.streak.abs().log1p(),
        ]
        columns += [
            torch.stack(single, dim=-1),
            *(each(past.streak, cases) for cases in SMALL_STREAKS),
            past.averages,
            past.recent,
            past.overall,
        ]
    return torch.cat(columns, dim=-1)


def history_features(
    batch: Batch,
    asked: Asked,
    n_skills: int,
    *,
    answers: bool,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the features (N, F) of what is asked after each step; of several skills, their mean.

    Args:
        batch: N steps.
        asked: the questions after them.
        n_skills: K.
        answers: whether answers may be read.
        dtype: number format of the features.
    """
    if asked.others is None:
        return describe(past_of_batch(batch, asked.skill, n_skills, dtype), answers=answers)
    skill, step, share = asked.by_skill(n_skills)
    past = past_of_batch(batch, skill, n_skills, dtype, step)
    return mean_by(describe(past, answers=answers), step, share, len(batch.skill))


def mean_by(features: Tensor, place: Tensor, share: Tensor, count: int) -> Tensor:
    """Return the mean (count, F) of the features (P, F) at each place; see `Asked.by_skill`."""
    zeros = features.new_zeros(count, features.shape[1])
    return zeros.index_add(0, place, features * share[:, None].to(features.dtype))


def past_of_batch(
    batch: Batch,
    asked: Tensor,
    n_skills: int,
    dtype: torch.dtype = torch.float32,
    step: Tensor | None = None,
) -> Past:
    """Return the past of the skills asked after steps, from those steps and the ones before them.

    Nothing loops over time: answers are sorted by (sequence, skill), where counts, streaks and
    averages are scans within a group, and the last attempt of any skill is a binary search.

    Args:
        batch: N steps.
        asked: (P,) int64; K for none.
        n_skills: K.
        dtype: number format of what is returned.
        step: (P,), after which step each is asked; by default one after each.
    """
    span = batch.longest
    attempts = _attempts(batch, n_skills)
    key, group = attempts.key, attempts.key // span
    first = _last_true(_changes(group))
    occurrence = _index(key) - first
    # a device is not asked for the longest group, nor where every batch is to be computed alike
    asks = batch.visible is None and not key.is_cuda
    longest = int(occurrence.max()) + 1 if asks else span
    answer = batch.response[attempts.step]
    signed = (2 * answer - 1).to(dtype)
    streak_start = _last_true(_changes(group) | _changes(answer))
    recent = torch.stack([_earlier(signed, lag, occurrence) for lag in range(RECENT)], dim=-1)

    after = slice(None) if step is None else step
    last, is_seen = _latest(attempts, batch, asked, n_skills, after)
    seen = is_seen.to(dtype)
    gap = batch.position[after] - key[last] % span

    def of_skill(values: Tensor) -> Tensor:
        latest = values[last].to(dtype)
        return latest * seen.reshape(seen.shape + (1,) * (latest.dim() - seen.dim()))

    def of_step(values: Tensor) -> Tensor:
        return values.to(dtype)[after]

    run, ended, length = _runs(batch)
    running = (Asked.at(batch).members[after] == asked[:, None]).any(dim=1)
    begin = _last_true(batch.position == 0)
    runs = _count(ended, begin)
    log_length = torch.where(ended, length.to(dtype).log(), 0.0)
    return Past(
        steps=of_step(batch.position + 1),
        attempts=of_skill(occurrence + 1),
        gap=gap * seen,
        run=of_step(run) * running,
        runs=of_step(runs),
        last_run=of_step(torch.where(runs > 0, log_length[_last_true(ended)], 0.0)),
        log_runs=of_step(_decayed_sums(log_length, batch.position, (1.0,), span).squeeze(-1)),
        short_runs=of_step(_count(ended & (length == MASTERY_RUN), begin)),
        right=of_skill(_count(answer == 1, first)),
        streak=of_skill((_index(key) - streak_start + 1) * signed),
        averages=of_skill(_averages(signed, occurrence, SKILL_RATES, longest)),
        recent=of_skill(recent),
        overall=of_step(
            _averages((2 * batch.response - 1).to(dtype), batch.position, OVERALL_RATES, span)
        ),
    )


class Attempts(NamedTuple):
    """The answers to every skill (P,), sorted by sequence, skill and position.

    key: what they are sorted by. step: at which step of the batch each was given.
    """

    key: Tensor
    step: Tensor


def _attempts(batch: Batch, n_skills: int) -> Attempts:
    """The skills of one question are answers of the same step."""
    answered = Asked.at(batch)
    if answered.others is None:
        skill, place = batch.skill, _index(batch.skill)
    else:
        skill, place, _ = answered.by_skill(n_skills)
    group = batch.sequence[place] * (n_skills + 1) + skill
    key, order = (group * batch.longest + batch.position[place]).sort()
    return Attempts(key, place[order])


def _latest(
    attempts: Attempts, batch: Batch, asked: Tensor, n_skills: int, after: Tensor | slice
) -> tuple[Tensor, Tensor]:
    """The place (P,) of the last attempt at each skill asked; whether there is one."""
    span = batch.longest
    wanted = batch.sequence[after] * (n_skills + 1) + asked
    found = torch.searchsorted(attempts.key, wanted * span + batch.position[after], right=True) - 1
    last = found.clamp(min=0)
    return last, (found >= 0) & (attempts.key[last] // span == wanted)


def time_since(batch: Batch, asked: Asked, n_skills: int) -> Tensor:
    """Return how long ago (N,) a skill of what is asked after each step was last answered.

    In milliseconds; 0 where none was, or where one of the two times is not known.

    Args:
        batch: N steps, with times.
        asked: the questions after them.
        n_skills: K.
    """
    assert batch.time is not None and batch.next_time is not None
    skill, step, _ = asked.by_skill(n_skills)
    attempts = _attempts(batch, n_skills)
    last, seen = _latest(attempts, batch, skill, n_skills, step)
    then = torch.where(seen, batch.time[attempts.step[last]], 0)
    latest = torch.zeros_like(batch.time).scatter_reduce(0, step, then, "amax")
    known = (latest > 0) & (batch.next_time > 0)
    return torch.where(known, batch.next_time - latest, 0).clamp(min=0)


class HistoryState:
    """One student's past, kept up to date answer by answer in constant time and memory.

    What the answers to a skill left is a row of `skills`: its last step, attempts, right answers,
    streak, averages, recent answers; and its last time in `times`.
    """

    def __init__(self, n_skills: int) -> None:
        self.steps = 0
        self.current: list[int] = []
        self.run = 0
        self.runs = 0
        self.last_run = 0.0
        self.log_runs = 0.0
        self.short_runs = 0
        self.overall = np.zeros(len(OVERALL_RATES))
        self.skills = np.zeros((n_skills, _RECENT.stop))
        self.times = np.zeros(n_skills, np.int64)
        self.now = 0

    def copy(self) -> HistoryState:
        """Return a past that goes on by itself."""
        copied = HistoryState(0)
        copied.__dict__ |= self.__dict__
        # what else there is is renewed, never changed in place
        copied.skills, copied.times = self.skills.copy(), self.times.copy()
        return copied

    def observe(self, skills: Sequence[int], response: int, time: int = 0) -> None:
        """Take in the answer (0 or 1) to a question on `skills`, given at `time` (ms)."""
        signed = 2.0 * response - 1.0
        asked = sorted(skills)
        goes_on = self.current == asked
        if self.steps > 0 and not goes_on:
            self.runs += 1
            self.last_run = math.log(self.run)
            self.log_runs += self.last_run
            self.short_runs += self.run == MASTERY_RUN
        self.run = self.run + 1 if goes_on else 1
        self.current = asked
        self.steps += 1
        self.overall = _renewed(self.overall, signed, OVERALL_RATES)
        for own in (self.skills[skill] for skill in asked):
            _, attempts, right, streak = own[_SINGLE]
            streak = streak + signed if streak * signed > 0 else signed
            own[_SINGLE] = self.steps, attempts + 1, right + response, streak
            own[_AVERAGES] = _renewed(own[_AVERAGES], signed, SKILL_RATES)
            own[_RECENT] = signed, *own[_RECENT][:-1]
        self.now = time
        self.times[asked] = time

    def since(self, skills: IntArray, time: IntArray) -> IntArray:
        """Return the milliseconds (M,) from the last answers on skills; see `time_since`.

        Args:
            skills: (M, S) codes, negative where a question has fewer.
            time: (M,) until when; 0 for the last answer's.
        """
        last = np.where(skills >= 0, self.times[skills], 0).max(axis=1)
        now = np.where(time > 0, time, self.now)
        passed: IntArray = np.where((last > 0) & (now > 0), np.maximum(now - last, 0), 0)
        return passed

    def past(
        self,
        skills: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Past:
        """Return the past of M skills (all K by default), tensors of shape (M, ...).

        Args:
            skills: the skills wanted.
            dtype, device: of the tensors.
        """
        chosen = np.arange(len(self.skills)) if skills is None else np.asarray(skills, np.int64)
        own = self.skills[chosen]
        last_step, attempts, right, streak = own[:, _SINGLE].T
        # of the student, whatever the skill
        student = [self.steps, self.runs, self.last_run, self.log_runs, self.short_runs]
        steps, runs, last_run, log_runs, short_runs = np.tile(student, (len(chosen), 1)).T
        columns = {
            "steps": steps,
            "attempts": attempts,
            "gap": np.where(attempts > 0, self.steps - last_step, 0.0),
            "run": np.where(np.isin(chosen, self.current), float(self.run), 0.0),
            "runs": runs,
            "last_run": last_run,
            "log_runs": log_runs,
            "short_runs": short_runs,
            "right": right,
            "streak": streak,
            "averages": own[:, _AVERAGES],
            "recent": own[:, _RECENT],
            "overall": np.tile(self.overall, (len(chosen), 1)),
        }
        # one tensor, for each costs more than its numbers
        widths = [1 if values.ndim == 1 else values.shape[1] for values in columns.values()]
        table = torch.tensor(np.column_stack(list(columns.values())), dtype=dtype, device=device)
        parts = zip(columns.items(), table.split(widths, dim=1), strict=True)
        return Past(**{n: p.squeeze(1) if v.ndim == 1 else p for (n, v), p in parts})


def _renewed(averages: FloatArray, value: float, rates: tuple[float, ...]) -> FloatArray:
    rate = np.array(rates)
    return np.asarray(rate * averages + (1 - rate) * value)


def _index(like: Tensor) -> Tensor:
    return torch.arange(len(like), device=like.device)


def _changes(values: Tensor) -> Tensor:
    """Where a value (N,) or (N, S) differs from the one before it; the first always does."""
    differ = values[1:] != values[:-1]
    if differ.dim() > 1:
        differ = differ.any(dim=1)
    return torch.cat([values.new_ones(1, dtype=torch.bool), differ])


def _last_true(flags: Tensor) -> Tensor:
    """For each place the index of the last True up to it (0 before the first)."""
    return torch.where(flags, _index(flags), 0).cummax(0).values


def _count(flags: Tensor, first: Tensor) -> Tensor:
    """How many are True from place `first` of the group up to each place."""
    # whole numbers: what other groups hold must not reach this one through rounding
    total = flags.long().cumsum(0)
    return total - total[first] + flags[first].long()


def _earlier(values: Tensor, lag: int, occurrence: Tensor) -> Tensor:
    """The value `lag` places before within the group, 0 where there is none."""
    shifted = torch.cat([values.new_zeros(values[:lag].shape), values[: max(len(values) - lag, 0)]])
    mask = (occurrence >= lag).reshape((-1,) + (1,) * (values.dim() - 1))
    return torch.where(mask, shifted, 0.0)


def _constants(values: Sequence[float], like: Tensor) -> Tensor:
    # filled where they are needed: a copy from the host would hold it up
    return torch.stack([like.new_full((), value) for value in values])


def _averages(values: Tensor, occurrence: Tensor, rates: tuple[float, ...], longest: int) -> Tensor:
    weights = _constants([1 - rate for rate in rates], values)
    return _decayed_sums(values, occurrence, rates, longest) * weights


def _decayed_sums(
    values: Tensor, occurrence: Tensor, rates: tuple[float, ...], longest: int
) -> Tensor:
    """(N, C) of y_j = x_j + rate_c y_{j-1} within each group, in log2(longest group) doublings."""
    rate = _constants(rates, values)
    sums = values[:, None].expand(-1, len(rates))
    reach = 1
    while reach < longest:
        sums = sums + rate**reach * _earlier(sums, reach, occurrence)
        reach *= 2
    return sums


def _runs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The current run's length; whether a run ended just before; and the length of that one."""
    members = Asked.at(batch).members.sort(dim=1).values
    new = _changes(members) | (batch.position == 0)
    run = _index(new) - _last_true(new) + 1
    before = torch.cat([run.new_ones(1), run[:-1]])
    return run, new & (batch.position > 0), before
