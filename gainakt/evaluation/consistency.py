"""Do mastery and gains behave as they must, and do they go with what students do next?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.sequences import Sequences
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.readout import FALL_TOLERANCE, Readout
from gainakt.seeds import Stream

# A correlation over fewer steps than this says nothing about a student.
MINIMUM_STEPS = 3
# So many histories beyond what a model reads at once are looked at where one window ends.
MOST_LONG_HISTORIES = 20
N_DECILES = 10
# Mastery of so many skills at most is asked for one by one.
MOST_SKILLS = 128


def first_pieces(sequences: Sequences) -> IntArray:
    """Return the index of each student's first piece, so that every student counts once."""
    return np.sort(np.unique(sequences.students, return_index=True)[1])


def sample_students(sequences: Sequences, count: int, seed: int) -> IntArray:
    """Draw up to `count` students' first pieces at random, the same for the same seed."""
    candidates = first_pieces(sequences)
    rng = Stream.CONSISTENCY.generator(seed)
    return np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False))


def sample_by_length(sequences: Sequences, count: int, seed: int) -> IntArray:
    """Draw up to `count` students' first pieces evenly from the ten deciles of sequence length."""
    candidates = first_pieces(sequences)
    by_length = candidates[np.argsort(sequences.lengths[candidates], kind="stable")]
    rng = Stream.ALIGNMENT.generator(seed)
    total = max(len(candidates), 1)
    deciles = np.array_split(by_length, N_DECILES)
    # by decile bounds, so that no decile owes more than it has and exactly `count` are drawn
    bounds = np.cumsum([0, *(len(decile) for decile in deciles)])
    quota = np.diff(min(count, total) * bounds // total)
    drawn = [
        rng.choice(decile, take, replace=False)
        for decile, take in zip(deciles, quota.tolist(), strict=True)
        if take
    ]
    return np.sort(np.concatenate([candidates[:0], *drawn]))


def within_student_correlations(
    x: npt.NDArray[np.floating], y: npt.NDArray[np.generic], student: IntArray
) -> FloatArray:
    """Pearson correlation of x and y within each student.

    Args:
        x, y: (n,) values of all students' steps.
        student: (n,) whose step it is.

    Returns:
        One value for each distinct student in ascending order; nan where a student has fewer
        than 3 steps or a constant series.
    """
    _, group, count = np.unique(student, return_inverse=True, return_counts=True)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(group, weights=values, minlength=len(count)) / count

    dx = x.astype(np.float64)
    dy = y.astype(np.float64)
    dx = dx - mean(dx)[group]
    dy = dy - mean(dy)[group]
    var_x, var_y = mean(dx * dx), mean(dy * dy)
    # float32 series of equal numbers leave rounding behind, far below this
    defined = (count >= MINIMUM_STEPS) & (var_x > 1e-14) & (var_y > 1e-14)
    correlation = np.full(len(count), np.nan)
    scale = np.sqrt(var_x[defined] * var_y[defined])
    correlation[defined] = mean(dx * dy)[defined] / scale
    return correlation


def mean_or_none(values: FloatArray) -> float | None:
    """Return the mean of what is defined, None when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def bootstrap_interval(
    values: FloatArray, samples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over students, None without any."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    rng = Stream.CORRELATION_BOOTSTRAP.generator(seed)
    means = [defined[rng.integers(len(defined), size=len(defined))].mean() for _ in range(samples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Consistency:
    """Violation rates and correlations of some students; None where the model has no such output.

    Rates are shares of students. Correlations are within students, with the next answer.
    """

    students: int
    monotonicity_violation_rate: float | None
    negative_gain_rate: float | None
    bounds_violation_rate: float | None
    mastery_correlation: float | None
    gain_correlation: float | None


@dataclass(frozen=True, eq=False)
class StudentFigures:
    """What consistency is judged by, a value for each of S students, in ascending order.

    falls, negative, outside: (S,) bool, whether any step violates. mastery, gain, clock: (S,)
    correlations with the next answer, nan where a student has none; the clock is the step number
    alone, and mastery that only rises with time scores like it. has_mastery, has_gains:
    whether the model gives them; what it does not give was not measured.
    """

    falls: npt.NDArray[np.bool_]
    negative: npt.NDArray[np.bool_]
    outside: npt.NDArray[np.bool_]
    mastery: FloatArray
    gain: FloatArray
    clock: FloatArray
    has_mastery: bool = True
    has_gains: bool = True

    @classmethod
    def of(cls, readout: Readout) -> StudentFigures:
        """Judge the students that a readout holds."""
        students = np.unique(readout.sequence)

        def any_step(flag: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
            return np.isin(students, readout.sequence[flag])

        steps = readout.where(readout.has_next)

        def correlation(series: npt.NDArray[np.floating]) -> FloatArray:
            found = np.full(len(students), np.nan)
            found[np.searchsorted(students, np.unique(steps.sequence))] = (
                within_student_correlations(series, steps.next_answer, steps.sequence)
            )
            return found

        return cls(
            any_step(readout.falls),
            any_step(readout.negative),
            any_step(readout.outside),
            correlation(steps.mean_mastery),
            correlation(steps.mean_gain),
            correlation(steps.position.astype(np.float64)),
            has_mastery=not np.isnan(readout.mean_mastery).all(),
            has_gains=not np.isnan(readout.mean_gain).all(),
        )

    @classmethod
    def join(cls, parts: Sequence[StudentFigures]) -> StudentFigures:
        """Return the figures of several groups of students, one after the other."""
        columns: dict[str, Any] = {}
        for f in fields(cls):
            values = [getattr(part, f.name) for part in parts]
            has = isinstance(values[0], bool)
            columns[f.name] = all(values) if has else np.concatenate(values)
        return cls(**columns)

    def by_student(self, student: IntArray) -> StudentFigures:
        """Return the figures of students whose histories were judged in pieces.

        A student violates where a piece does, and goes with the next answer as their pieces do on
        average.

        Args:
            student: (S,) whose piece each of these figures is about.
        """
        _, owner = np.unique(student, return_inverse=True)
        columns: dict[str, Any] = {}
        for f in fields(self):
            values = getattr(self, f.name)
            if isinstance(values, bool):
                columns[f.name] = values
            elif values.dtype == bool:
                columns[f.name] = np.bincount(owner, values) > 0
            else:
                defined = ~np.isnan(values)
                count = np.bincount(owner, defined)
                total = np.bincount(owner, np.where(defined, values, 0.0))
                with np.errstate(invalid="ignore"):
                    columns[f.name] = total / np.where(count, count, np.nan)
        return StudentFigures(**columns)

    def check(self) -> Consistency:
        """Sum up."""
        students = len(self.falls)

        def share(flag: npt.NDArray[np.bool_], measured: bool) -> float | None:
            return int(flag.sum()) / students if measured and students else None

        return Consistency(
            students=students,
            monotonicity_violation_rate=share(self.falls, self.has_mastery),
            negative_gain_rate=share(self.negative, self.has_gains),
            bounds_violation_rate=share(self.outside, self.has_mastery),
            mastery_correlation=mean_or_none(self.mastery),
            gain_correlation=mean_or_none(self.gain),
        )


def consistency_check(readout: Readout) -> Consistency:
    """Check the students that a readout holds."""
    return StudentFigures.of(readout).check()


@dataclass(frozen=True)
class GlobalAlignment:
    """Mean within-student correlations with performance, and how many students had none."""

    students: int
    mastery_correlation: float | None
    gain_correlation: float | None
    mastery_undefined: int
    gain_undefined: int


def global_alignment(readout: Readout) -> GlobalAlignment:
    """Measure the students that a readout holds (see `sample_by_length`)."""
    steps = readout.where(readout.has_next)
    of_mastery = within_student_correlations(steps.mean_mastery, steps.performance, steps.sequence)
    of_gain = within_student_correlations(steps.mean_gain, steps.performance, steps.sequence)
    return GlobalAlignment(
        students=len(of_mastery),
        mastery_correlation=mean_or_none(of_mastery),
        gain_correlation=mean_or_none(of_gain),
        mastery_undefined=int(np.isnan(of_mastery).sum()),
        gain_undefined=int(np.isnan(of_gain).sum()),
    )


def all_or_sample(
    predictor: Predictor, sequences: Sequences, students: int, seed: int
) -> StudentFigures:
    """Judge all students for the final check if reading them gives mastery, else a sample.

    Mastery that a model gives on request only costs a pass for each skill: then at most
    `MOST_SKILLS` skills are asked for.

    Args:
        predictor: what reads the histories.
        sequences: what to read, the pieces of a student's history one after the other.
        students: size of the sample.
        seed: of the sample.
    """
    figures, lacks_mastery = [], False
    for part in predictor.parts(sequences):
        figures.append(StudentFigures.of(part))
        lacks_mastery |= bool(np.isnan(part.mean_mastery).any())
    if lacks_mastery:
        sample = sequences.take(sample_students(sequences, students, seed))
        skills = sample_skills(predictor.vocabulary.n_skills, seed)
        sampled = predictor.read(sample, on_request=skills)
        if not np.isnan(sampled.mean_mastery).any():
            return StudentFigures.of(sampled)
    return StudentFigures.join(figures).by_student(sequences.students)


def sample_skills(n_skills: int, seed: int) -> IntArray:
    """Draw the skills whose mastery stands for that of all, the same for the same seed."""
    if n_skills <= MOST_SKILLS:
        return np.arange(n_skills)
    rng = Stream.CONSISTENCY_SKILLS.generator(seed)
    return np.sort(rng.choice(n_skills, MOST_SKILLS, replace=False))


def window_turns(predictor: Predictor, dataset: Dataset, students: IntArray) -> tuple[int, int]:
    """Count turns of the window in long histories, and those at which a skill's mastery falls.

    Mastery that only rises within what a model reads at once begins anew, from fewer answers, where
    a history goes on in the next window: what is promised within a window is not promised there.

    Args:
        predictor: of a model whose reading gives mastery.
        dataset: coded with the model's vocabulary.
        students: (n,) whose histories to look at; at most `MOST_LONG_HISTORIES` long ones are read.
    """
    dataset = predictor.steps_of(dataset)
    lengths = dataset.offsets[students + 1] - dataset.offsets[students]
    long = students[lengths > predictor.reading.seq_len][:MOST_LONG_HISTORIES]
    turns = falls = 0
    for student in long.tolist():
        windows = predictor.windows(dataset, np.array([student]))
        mastery = predictor.mastery(windows)
        if mastery is None:
            return 0, 0
        ends = np.cumsum(windows.lengths)
        for number in range(len(windows) - 1):
            last = ends[number] - 1
            # the same answer, in the next window
            place = (
                windows.starts[number] + windows.lengths[number] - 1 - windows.starts[number + 1]
            )
            again = ends[number + 1] - windows.lengths[number + 1] + place
            turns += 1
            falls += bool((mastery[again] < mastery[last] - FALL_TOLERANCE).any())
    return turns, falls


def final_consistency(figures: StudentFigures, samples: int, seed: int) -> dict[str, object]:
    """Sum up all students at the end of a run: rates, correlations, intervals and the clock."""
    check = figures.check()
    beyond = figures.mastery - figures.clock
    return {
        "students": check.students,
        "students_with_mastery_correlation": int((~np.isnan(figures.mastery)).sum()),
        "students_with_gain_correlation": int((~np.isnan(figures.gain)).sum()),
        "monotonicity_violation_rate": check.monotonicity_violation_rate,
        "negative_gain_rate": check.negative_gain_rate,
        "bounds_violation_rate": check.bounds_violation_rate,
        "mastery_correlation": check.mastery_correlation,
        "mastery_correlation_interval": bootstrap_interval(figures.mastery, samples, seed),
        "gain_correlation": check.gain_correlation,
        "gain_correlation_interval": bootstrap_interval(figures.gain, samples, seed),
        "clock_correlation": mean_or_none(figures.clock),
        "clock_correlation_interval": bootstrap_interval(figures.clock, samples, seed),
        "mastery_minus_clock": mean_or_none(beyond),
        "mastery_minus_clock_interval": bootstrap_interval(beyond, samples, seed),
    }
