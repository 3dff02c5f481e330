"""The consistency check, the global alignment pass and their samples of students."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gainakt.config import MODELS
from gainakt.data.batches import Batch
from gainakt.data.sequences import Sequences, chunk_sequences
from gainakt.evaluation.consistency import (
    MOST_SKILLS,
    StudentFigures,
    bootstrap_interval,
    consistency_check,
    final_consistency,
    first_pieces,
    global_alignment,
    mean_or_none,
    sample_by_length,
    sample_skills,
    sample_students,
    window_turns,
    within_student_correlations,
)
from gainakt.evaluation.readout import Readout
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from tests.helpers import (
    batch_of,
    dataset_of,
    lay_out,
    predictor_of,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

CPU = torch.device("cpu")

# of one student, (steps, skills), and of several
Rows = list[list[float]]
Values = list[Rows]


class Scripted(KnowledgeTracer):
    """A model that says what it is told, student by student."""

    def __init__(self, mastery: Values, gains: Values) -> None:
        super().__init__()
        self.mastery, self.gains = mastery, gains

    def forward(self, batch: Batch) -> ModelOutput:
        """The scripted values, with garbage on padding."""

        def rows(values: Values) -> torch.Tensor:
            flat = torch.full((len(batch.valid), *np.shape(values[0])[1:]), -99.0)
            for index in batch.sequence.unique().tolist():
                own = (batch.sequence == index) & batch.valid
                flat[own] = torch.tensor(values[index], dtype=torch.float32)
            return flat

        return ModelOutput(torch.zeros(len(batch.valid)), rows(self.mastery), rows(self.gains))


def readout_of(sequences: Sequences, mastery: Values, gains: Values, **settings: Any) -> Readout:
    return predictor_of(Scripted(mastery, gains)).read(sequences, **settings)


RISING = [[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]]
SOME = [[0.1, 0.1], [0.3, 0.0], [0.0, 0.2], [0.1, 0.1]]
FOUR = [(0, 1), (1, 0), (0, 1), (1, 1)]


def test_read_out_puts_steps_in_order_and_leaves_out_padding() -> None:
    students = random_students([9, 3, 40, 4], seed=8)
    config = small_config()
    model = build_model(config, vocabulary_of(4)).train()
    sequences = sequences_of(*students)
    readout = predictor_of(model).read(sequences)
    assert model.training
    assert readout.sequence.tolist() == [i for i, s in enumerate(students) for _ in s]
    assert readout.position.tolist() == [t for s in students for t in range(len(s))]
    answers = [answer for steps in students for _, answer in steps[1:]]
    assert readout.next_answer[readout.has_next].tolist() == answers
    skills = [skill for steps in students for skill, _ in steps[1:]]
    assert readout.next_skill[readout.has_next].tolist() == skills
    batch = batch_of(*students)
    with torch.no_grad():
        output = model.eval()(batch)
    assert output.mastery is not None
    for index in range(len(students)):
        own, here = readout.sequence == index, (batch.sequence == index) & batch.valid
        assert readout.logit[own] == pytest.approx(output.logits[here].numpy(), abs=1e-5)
        asked = output.mastery[here].gather(1, batch.next_skill[here][:, None]).squeeze(1)
        assert readout.next_mastery[own] == pytest.approx(asked.numpy(), abs=1e-5)
    assert readout.probability == pytest.approx(1 / (1 + np.exp(-readout.logit)), abs=1e-6)


def test_a_sound_student_violates_nothing() -> None:
    check = consistency_check(readout_of(sequences_of(FOUR), [RISING], [SOME]))
    assert check.students == 1
    assert check.monotonicity_violation_rate == 0.0
    assert check.negative_gain_rate == 0.0
    assert check.bounds_violation_rate == 0.0


def test_violation_rates_are_shares_of_students() -> None:
    def broken(values: Rows, step: int, skill: int, value: float) -> Rows:
        copy = [list(row) for row in values]
        copy[step][skill] = value
        return copy

    falls = broken(RISING, 2, 1, 0.29)
    rounding = broken(RISING, 2, 1, 0.3 - 5e-7)  # under the tolerance of 1e-6
    mastery = [falls, broken(falls, 3, 0, 1.01), rounding, broken(RISING, 0, 0, -0.01), RISING]
    gains = [SOME, SOME, SOME, broken(SOME, 3, 0, -1e-3), SOME]
    # sequences of different lengths in one rectangle must not be compared with one another
    sequences = sequences_of(*[FOUR] * 5)
    check = consistency_check(readout_of(sequences, mastery, gains))
    assert check.students == 5
    assert check.monotonicity_violation_rate == 2 / 5
    assert check.negative_gain_rate == 1 / 5
    assert check.bounds_violation_rate == 2 / 5


def test_padding_violates_nothing() -> None:
    """The scripted model writes -99 there: no fall, no negative gain, not out of bounds."""
    sequences = sequences_of(FOUR, FOUR[:3])
    check = consistency_check(readout_of(sequences, [RISING, RISING[:3]], [SOME, SOME[:3]]))
    assert check.monotonicity_violation_rate == 0.0
    assert check.negative_gain_rate == 0.0
    assert check.bounds_violation_rate == 0.0


def test_mastery_that_is_not_a_number_is_out_of_bounds() -> None:
    broken = [*RISING[:3], [math.nan, 0.5]]
    check = consistency_check(readout_of(sequences_of(FOUR), [broken], [SOME]))
    assert check.bounds_violation_rate == 1.0


def test_correlations_are_within_students_with_the_next_answer() -> None:
    students = random_students([8, 12, 12], n_skills=2, seed=11)
    rng = np.random.default_rng(0)
    mastery = [np.sort(rng.random((len(s), 2)), axis=0).tolist() for s in students]
    gains = [rng.random((len(s), 2)).tolist() for s in students]
    readout = readout_of(sequences_of(*students), mastery, gains)
    of_mastery, of_gain, of_clock = [], [], []
    for steps, m, g in zip(students, mastery, gains, strict=True):
        following = [answer for _, answer in steps[1:]]
        of_mastery.append(stats.pearsonr(np.mean(m, axis=1)[:-1], following)[0])
        of_gain.append(stats.pearsonr(np.mean(g, axis=1)[:-1], following)[0])
        of_clock.append(stats.pearsonr(np.arange(len(following)), following)[0])
    check = consistency_check(readout)
    assert check.mastery_correlation == pytest.approx(np.mean(of_mastery), abs=1e-5)
    assert check.gain_correlation == pytest.approx(np.mean(of_gain), abs=1e-5)
    final: dict[str, Any] = final_consistency(StudentFigures.of(readout), samples=200, seed=1)
    assert final["mastery_correlation"] == check.mastery_correlation
    assert final["clock_correlation"] == pytest.approx(np.mean(of_clock), abs=1e-5)
    for name in ("mastery", "gain", "clock"):
        low, high = final[f"{name}_correlation_interval"]
        assert low <= final[f"{name}_correlation"] <= high


def test_mastery_that_only_rises_with_time_scores_like_the_clock() -> None:
    students = random_students([10, 15], n_skills=1, seed=2)
    mastery = [[[0.01 * t] for t in range(len(s))] for s in students]
    readout = readout_of(sequences_of(*students), mastery, mastery)
    final = final_consistency(StudentFigures.of(readout), 100, 1)
    assert final["mastery_correlation"] == pytest.approx(final["clock_correlation"], abs=1e-5)


def test_global_alignment_correlates_with_residual_performance_and_counts_the_undefined() -> None:
    steps = [(0, answer) for answer in (1, 1, 0, 1, 1, 0)]
    constant = [(0, 1)] * 6
    too_short = [(0, 1), (0, 0), (0, 1)]  # two targets only
    students = [steps, constant, too_short, steps]
    rng = np.random.default_rng(3)
    mastery = [rng.random((len(s), 1)).tolist() for s in students]
    gains = [rng.random((len(s), 1)).tolist() for s in students]
    gains[3] = [[0.2]] * 6
    readout = readout_of(sequences_of(*students), mastery, gains, residual_window=3)
    result = global_alignment(readout)
    # next answers 1, 0, 1, 1, 0 less their averages over three
    residual = [1 / 2, -2 / 3, 1 / 3, 1 / 3, -1 / 2]

    def correlation(values: Rows) -> float:
        return float(stats.pearsonr(np.ravel(values)[:-1], residual)[0])

    assert result.students == 4
    assert result.mastery_undefined == 2
    assert result.gain_undefined == 3
    expected = (correlation(mastery[0]) + correlation(mastery[3])) / 2
    assert result.mastery_correlation == pytest.approx(expected, abs=1e-5)
    assert result.gain_correlation == pytest.approx(correlation(gains[0]), abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_read_out(name: str) -> None:
    sequences = sequences_of(*random_students([12, 15, 20], seed=9))
    check = consistency_check(
        predictor_of(build_model(small_config(name), vocabulary_of(4))).read(sequences)
    )
    given = "mastery" in MODELS[name].parameters.outputs
    expected = 0.0 if given else None  # what a model does not give is not measured
    assert check.monotonicity_violation_rate == expected
    assert check.negative_gain_rate == expected
    assert check.bounds_violation_rate == expected


def test_of_a_model_without_mastery_nothing_is_measured() -> None:
    class Plain(KnowledgeTracer):
        def forward(self, batch: Batch) -> ModelOutput:
            return ModelOutput(torch.zeros(len(batch.valid)))

    check = consistency_check(predictor_of(Plain()).read(sequences_of(FOUR)))
    assert check.mastery_correlation is None
    assert check.gain_correlation is None
    assert check.monotonicity_violation_rate is None
    assert check.negative_gain_rate is None
    assert check.bounds_violation_rate is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 10_000))
def test_within_student_correlations_equal_numpy(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    student = np.repeat(np.arange(len(lengths)) * 3, lengths)
    x = rng.choice([0.0, 0.25, 0.5, 1.0], len(student))
    y = rng.integers(2, size=len(student))
    shuffled = rng.permutation(len(student))
    found = within_student_correlations(x[shuffled], y[shuffled], student[shuffled])
    assert len(found) == len(lengths)
    for index in range(len(lengths)):
        own = student == 3 * index
        defined = own.sum() >= 3 and len(set(x[own])) > 1 and len(set(y[own])) > 1
        if defined:
            expected = np.corrcoef(x[own], y[own])[0, 1]
            assert found[index] == pytest.approx(expected, abs=1e-9)
        else:
            assert math.isnan(found[index])


def test_constant_series_in_single_precision_are_undefined() -> None:
    x = np.full(1000, 0.1, dtype=np.float32)
    y = np.arange(1000) % 2
    assert math.isnan(within_student_correlations(x, y, np.zeros(1000, np.int64))[0])


def test_mean_or_none_leaves_out_the_undefined() -> None:
    assert mean_or_none(np.array([0.2, math.nan, 0.4])) == pytest.approx(0.3)
    assert mean_or_none(np.array([math.nan])) is None


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(150):
        low, high = bootstrap_interval(rng.normal(0.3, 1.0, 60), 200, seed) or (1, 0)
        covered += low <= 0.3 <= high
    # 95 of 100 on average; 3 standard deviations are 5
    assert 0.88 <= covered / 150 <= 0.995


def test_bootstrap_interval_is_fixed_by_its_seed_and_shrinks_with_students() -> None:
    values = np.random.default_rng(1).normal(size=400)
    few, many = bootstrap_interval(values[:25], 300, 1), bootstrap_interval(values, 300, 1)
    assert few is not None and many is not None
    # four times as narrow with sixteen times as many
    assert 2.5 < (few[1] - few[0]) / (many[1] - many[0]) < 6
    assert bootstrap_interval(values, 300, 1) == many
    assert bootstrap_interval(values, 300, 2) != many
    with_undefined = np.concatenate([values, [math.nan]])
    assert bootstrap_interval(with_undefined, 300, 1) == many
    assert bootstrap_interval(np.array([math.nan]), 300, 1) is None


def pieces_of(lengths: list[int]) -> Sequences:
    """Sequences of the given lengths, every student one piece."""
    return sequences_of(*[[(0, 1)] * n for n in lengths])


def test_only_the_first_piece_of_a_student_is_drawn() -> None:
    sequences = chunk_sequences(dataset_of([12, 4, 20]), np.arange(3), 5)
    assert sequences.students.tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert first_pieces(sequences).tolist() == [0, 2, 3]
    assert sample_students(sequences, 50, 42).tolist() == [0, 2, 3]
    assert sample_by_length(sequences, 50, 42).tolist() == [0, 2, 3]


def test_sampled_students_are_fixed_by_the_seed() -> None:
    sequences = pieces_of([3] * 200)
    for sample in (sample_students, sample_by_length):
        drawn = sample(sequences, 50, 42)
        assert len(set(drawn.tolist())) == 50
        assert np.array_equal(drawn, sample(sequences, 50, 42))
        assert not np.array_equal(drawn, sample(sequences, 50, 43))


@pytest.mark.parametrize(("students", "count"), [(1000, 600), (250, 100), (997, 600), (60, 30)])
def test_deciles_of_length_are_drawn_evenly(students: int, count: int) -> None:
    lengths = np.random.default_rng(4).permutation(np.arange(3, 3 + students))
    sequences = pieces_of([3] * students)
    sequences = replace(sequences, lengths=lengths)
    drawn = sample_by_length(sequences, count, 42)
    assert len(set(drawn.tolist())) == count
    deciles = np.array_split(np.arange(3, 3 + students), 10)
    counts = np.array([np.isin(lengths[drawn], decile).sum() for decile in deciles])
    assert np.abs(counts - count / 10).max() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 45), st.integers(1, 60))
def test_as_many_as_asked_for_are_drawn_where_there_are_so_many(students: int, count: int) -> None:
    drawn = sample_by_length(pieces_of([3] * students), count, 1)
    assert len(set(drawn.tolist())) == len(drawn) == min(students, count)


def test_scripted_values_land_where_they_should() -> None:
    """The scripted model is itself right: its rows are those of `lay_out`."""
    batch = batch_of(FOUR, FOUR[:3])
    output = Scripted([RISING, RISING[:3]], [SOME, SOME[:3]])(batch)
    assert output.mastery is not None
    assert torch.equal(output.mastery, lay_out(batch, RISING, RISING[:3], padding=-99.0))


def test_falls_at_the_turns_of_the_window_are_counted() -> None:
    """Mastery of a window is the share of it that was read: at every turn it starts lower again."""

    class Filling(KnowledgeTracer):
        def forward(self, batch: Batch) -> ModelOutput:
            filled = (batch.position + 1).float()[:, None] / 100
            return ModelOutput(torch.zeros(len(batch.valid)), filled, filled)

    data = dataset_of([5, 24, 30])
    predictor = predictor_of(Filling(), seq_len=10, stride=4)
    # answers 10, 14, 18, 22 of 24 begin a window, and 10 to 26 of 30
    assert window_turns(predictor, data, np.arange(3)) == (4 + 5, 4 + 5)
    assert window_turns(predictor, data, np.arange(1)) == (0, 0)


def test_a_student_read_in_pieces_counts_once() -> None:
    nan = np.nan
    pieces = StudentFigures(
        falls=np.array([False, True, False, False]),
        negative=np.zeros(4, bool),
        outside=np.zeros(4, bool),
        mastery=np.array([0.2, 0.4, nan, nan]),
        gain=np.full(4, nan),
        clock=np.array([0.1, nan, 0.3, nan]),
    )
    figures = pieces.by_student(np.array([7, 7, 7, 9]))
    assert figures.falls.tolist() == [True, False]
    np.testing.assert_allclose(figures.mastery, [0.3, nan])
    np.testing.assert_allclose(figures.clock, [0.2, nan])
    final: dict[str, Any] = final_consistency(figures, samples=50, seed=0)
    assert (final["students"], final["students_with_mastery_correlation"]) == (2, 1)
    assert final["monotonicity_violation_rate"] == 0.5
    assert final["mastery_correlation"] == pytest.approx(0.3)
    assert final["mastery_minus_clock"] == pytest.approx(0.1)


def test_mastery_is_compared_with_the_clock_student_by_student() -> None:
    """Apart, the two intervals overlap; the difference is the same for every student."""
    rng = np.random.default_rng(0)
    clock = rng.uniform(-0.5, 0.5, 60)
    none = np.zeros(60, bool)
    figures = StudentFigures(none, none, none, clock - 0.01, clock, clock)
    final: dict[str, Any] = final_consistency(figures, samples=200, seed=0)
    low, high = final["mastery_minus_clock_interval"]
    assert low == pytest.approx(-0.01) and high == pytest.approx(-0.01)
    assert final["mastery_correlation_interval"][1] > final["clock_correlation_interval"][0]


def test_of_many_skills_some_stand_for_all() -> None:
    assert sample_skills(MOST_SKILLS, 0).tolist() == list(range(MOST_SKILLS))
    drawn = sample_skills(200_000, 0)
    assert len(set(drawn.tolist())) == MOST_SKILLS and drawn.max() < 200_000
    assert np.array_equal(drawn, sample_skills(200_000, 0))
    assert not np.array_equal(drawn, sample_skills(200_000, 1))
