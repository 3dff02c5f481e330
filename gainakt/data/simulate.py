"""Students with known parameters: the embedded default data set, and any amount of data.

Each skill has an initial mastery, a learning rate, a guess and a slip probability; each student has
an ability that shifts all of them. Mastery m is in [0, 1]. An answer is right with probability
``guess + (1 - guess - slip) m``; practice then moves m by ``rate (1 - m)`` (the continuous form of
Corbett and Anderson's knowledge tracing, 1995). Students practise one skill until they have some
answers right in a row or run out of attempts, then go on to the next skill of their own curriculum.

On request skills have questions, each so much harder or easier in log-odds, and answers have times:
students come back after some days, and a share of mastery is forgotten by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from gainakt.data.interactions import Dataset
from gainakt.data.rows import (
    CORRECT,
    FOLD,
    ORDER,
    QUESTION,
    SKILL,
    STUDENT,
    TIMESTAMP,
    TRUE_MASTERY,
)
from gainakt.data.splits import MIN_INTERACTIONS, SPLIT_METHOD, assign_folds
from gainakt.data.writing import write_dataset
from gainakt.errors import DataError

# Students made at a time. Part of the definition of the data: another value gives other students.
CHUNK = 4096

_SKILL_SPREAD = 3.0  # how far, in places, a student's curriculum departs from the common one
_ABILITY_ON_START = 0.2
_ABILITY_ON_RATE = 0.35
_DIFFICULTY_SPREAD = 0.8
# Times, in milliseconds: when students begin, and how long they think at most and on average.
_BEGIN, _TERM = 1_704_067_200_000, 90 * 86_400_000
_DAY, _LEAST, _THINKING = 86_400_000, 5_000, 45_000
_ANSWERS_A_DAY = 15


@dataclass(frozen=True)
class Simulation:
    """Everything that determines the simulated data; each value is checked by ``simulate``.

    ``students`` and ``skills`` are counts, ``seed`` the source of all randomness, ``mean_length``
    the mean interactions of a student (none has fewer than 3 or more than 8 times the mean). A
    skill is left after ``right_in_a_row`` right answers or ``max_attempts`` attempts.
    ``forgetting`` is the share of mastery lost at each step spent on other skills. ``questions`` is
    how many each skill has, 0 for none. ``days`` is the mean time between two days of practice, 0
    for answers without times; in ``half_life`` days without practice half of a mastery is lost, 0
    for none.
    """

    students: int = 2000
    skills: int = 20
    seed: int = 42
    mean_length: float = 40.0
    right_in_a_row: int = 3
    max_attempts: int = 12
    forgetting: float = 0.0
    questions: int = 0
    days: float = 0.0
    half_life: float = 0.0

    def check(self) -> None:
        """Raise DataError for a value with which there is nothing to simulate."""
        minimum = {
            "students": 1,
            "skills": 1,
            "seed": 0,
            "mean_length": MIN_INTERACTIONS,
            "right_in_a_row": 1,
            "max_attempts": 1,
            "forgetting": 0.0,
            "questions": 0,
            "days": 0.0,
            "half_life": 0.0,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if not minimum[field.name] <= value < float("inf"):
                raise DataError(
                    f"simulate: {field.name} must be at least {minimum[field.name]}, not {value}"
                )
        if self.forgetting >= 1.0:
            raise DataError(f"simulate: forgetting must be under 1, not {self.forgetting}")
        if self.half_life and not self.days:
            raise DataError(
                "simulate: half_life needs times: set days, the mean time between days of practice"
            )


@dataclass(frozen=True)
class SkillParameters:
    """The known truth: (K,) arrays of probabilities, and how hard each question is (K, Q)."""

    initial: np.ndarray
    learning: np.ndarray
    guess: np.ndarray
    slip: np.ndarray
    difficulty: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, skills: int, questions: int = 0) -> SkillParameters:
        return cls(
            initial=rng.uniform(0.05, 0.80, skills),
            learning=rng.uniform(0.04, 0.22, skills),
            guess=rng.uniform(0.05, 0.25, skills),
            slip=rng.uniform(0.03, 0.12, skills),
            difficulty=rng.normal(0.0, _DIFFICULTY_SPREAD, (skills, questions)),
        )

    def record(self, names: list[str]) -> dict[str, dict[str, float]]:
        """The parameters of each skill by name, for the manifest."""
        return {
            name: {
                key: values[code].round(6).tolist()
                for key, values in vars(self).items()
                if values[code].size
            }
            for code, name in enumerate(names)
        }


def simulate(
    out: str | Path,
    *,
    students: int = 2000,
    skills: int = 20,
    seed: int = 42,
    mean_length: float = 40.0,
    right_in_a_row: int = 3,
    max_attempts: int = 12,
    forgetting: float = 0.0,
    questions: int = 0,
    days: float = 0.0,
    half_life: float = 0.0,
    true_mastery: bool = True,
    name: str = "simulated",
) -> Dataset:
    """Simulate students, write them as a prepared data set at ``out`` and read it back.

    The arguments are those of ``Simulation``; ``true_mastery`` adds a column with each row's true
    mastery of its skill just before the answer. The same arguments give the same table, byte for
    byte; rows are written in chunks, so that memory does not grow with their number. Raises
    DataError for impossible values and for a target that exists or cannot be written.
    """
    simulation = Simulation(
        students,
        skills,
        seed,
        mean_length,
        right_in_a_row,
        max_attempts,
        forgetting,
        questions,
        days,
        half_life,
    )
    simulation.check()
    truth_seed, *chunk_seeds = np.random.SeedSequence(seed).spawn(1 + -(-students // CHUNK))
    truth = SkillParameters.draw(np.random.default_rng(truth_seed), skills, questions)
    names = [f"k{code + 1:0{max(2, len(str(skills)))}d}" for code in range(skills)]
    return write_dataset(
        Path(out),
        _chunks(simulation, truth, names, chunk_seeds, true_mastery),
        name=name,
        reader="simulate",
        split_method=SPLIT_METHOD,
        sources=[],
        filters=[],
        options={
            **asdict(simulation),
            "true_mastery": true_mastery,
            "skill_parameters": truth.record(names),
        },
    )


def _chunks(
    simulation: Simulation,
    truth: SkillParameters,
    names: list[str],
    seeds: list[np.random.SeedSequence],
    true_mastery: bool,
) -> Iterator[pa.Table]:
    folds = assign_folds(simulation.students)
    skill_ids = pa.array(names)
    width = len(str(simulation.questions))
    question_ids = pa.array(
        [f"{name}q{n + 1:0{width}d}" for name in names for n in range(simulation.questions)],
        pa.string(),
    )
    width = max(5, len(str(simulation.students)))
    for index, seed in enumerate(seeds):
        first = index * CHUNK
        count = min(CHUNK, simulation.students - first)
        practice = _practise(simulation, truth, count, np.random.default_rng(seed))
        lengths = practice.lengths
        student_ids = pa.array([f"s{first + i + 1:0{width}d}" for i in range(count)])
        columns = {
            STUDENT: student_ids.take(pa.array(np.repeat(np.arange(count), lengths))),
            ORDER: np.arange(lengths.sum(), dtype=np.int32)
            - np.repeat(np.cumsum(lengths) - lengths, lengths).astype(np.int32),
            SKILL: skill_ids.take(pa.array(practice.by_student(practice.skills))),
            CORRECT: practice.by_student(practice.responses),
            FOLD: np.repeat(folds[first : first + count], lengths),
        }
        if simulation.questions:
            columns[QUESTION] = question_ids.take(pa.array(practice.by_student(practice.questions)))
        if simulation.days:
            columns[TIMESTAMP] = practice.by_student(practice.times)
        if true_mastery:
            columns[TRUE_MASTERY] = practice.by_student(practice.mastery)
        yield pa.table(columns)


@dataclass(frozen=True)
class _Practice:
    """One chunk, time first: (T, n) arrays; student i uses the first ``lengths[i]`` steps."""

    lengths: np.ndarray
    skills: np.ndarray
    responses: np.ndarray
    mastery: np.ndarray
    questions: np.ndarray
    times: np.ndarray

    def by_student(self, values: np.ndarray) -> np.ndarray:
        """The used steps of all students, one student after the other."""
        used: np.ndarray = values.T[np.arange(len(values)) < self.lengths[:, None]]
        return used


def _practise(
    simulation: Simulation, truth: SkillParameters, count: int, rng: np.random.Generator
) -> _Practice:
    """Let ``count`` students practise side by side, one interaction of each at a time."""
    ability = rng.standard_normal(count)
    lengths = _draw_lengths(simulation.mean_length, count, rng)
    places = np.arange(simulation.skills)
    curriculum = np.argsort(
        places + rng.normal(0, _SKILL_SPREAD, (count, simulation.skills)), axis=1, kind="stable"
    )
    mastery = np.clip(truth.initial + _ABILITY_ON_START * ability[:, None], 0.01, 0.95)
    rate = np.clip(truth.learning * (1 + _ABILITY_ON_RATE * ability[:, None]), 0.005, 0.6)

    # Longest first, so that the students still practising are always the first n.
    ranking = np.argsort(-lengths, kind="stable")
    place = np.zeros(count, np.int64)
    streak = np.zeros(count, np.int64)
    attempts = np.zeros(count, np.int64)
    last_seen = np.zeros((count, simulation.skills), np.int64)
    shape = (int(lengths.max()), count)
    skills, responses = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
    true_mastery = np.zeros(shape, np.float32)
    questions = np.zeros(shape, np.int32)
    times = (
        _draw_times(simulation.days, shape, rng) if simulation.days else np.zeros(shape, np.int64)
    )
    last_time = np.full((count, simulation.skills), times[0][:, None])
    for step in range(shape[0]):
        who = ranking[: np.searchsorted(-lengths[ranking], -step)]
        skill = curriculum[who, place[who] % simulation.skills]
        known = mastery[who, skill]
        if simulation.forgetting:
            away = np.maximum(step - last_seen[who, skill] - 1, 0)
            known = known * (1 - simulation.forgetting) ** away
            last_seen[who, skill] = step
        if simulation.half_life:
            away = (times[step, who] - last_time[who, skill]) / _DAY
            known = known * 0.5 ** (away / simulation.half_life)
            last_time[who, skill] = times[step, who]
        chance = truth.guess[skill] + (1 - truth.guess[skill] - truth.slip[skill]) * known
        if simulation.questions:
            question = rng.integers(simulation.questions, size=len(who))
            questions[step, who] = skill * simulation.questions + question
            log_odds = np.log(chance / (1 - chance)) - truth.difficulty[skill, question]
            chance = 1 / (1 + np.exp(-log_odds))
        right = rng.random(len(who)) < chance
        skills[step, who], responses[step, who], true_mastery[step, who] = skill, right, known
        mastery[who, skill] = known + rate[who, skill] * (1 - known)
        streak[who] = np.where(right, streak[who] + 1, 0)
        attempts[who] += 1
        finished = who[
            (streak[who] >= simulation.right_in_a_row) | (attempts[who] >= simulation.max_attempts)
        ]
        place[finished] += 1
        streak[finished] = attempts[finished] = 0
    return _Practice(lengths, skills, responses, true_mastery, questions, times)


def _draw_times(days: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """When students answer, (T, n): a few answers a day, and days between."""
    pause = rng.exponential(_THINKING, shape) + _LEAST
    pause += rng.exponential(days * _DAY, shape) * (rng.random(shape) < 1 / _ANSWERS_A_DAY)
    pause[0] = rng.uniform(0, _TERM, shape[1])
    times: np.ndarray = _BEGIN + pause.astype(np.int64).cumsum(axis=0)
    return times


def _draw_lengths(mean: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Skewed as real histories are: a gamma of shape 2 above the minimum, cut."""
    above = rng.gamma(2.0, (mean - MIN_INTERACTIONS) / 2, count)
    lengths: np.ndarray = MIN_INTERACTIONS + np.rint(np.minimum(above, 7 * mean)).astype(np.int64)
    return lengths
