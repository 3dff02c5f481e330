"""Simulated students: repeatable, streamed, and with something to learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gainakt.data import simulate as module
from gainakt.data.interactions import MANIFEST_FILE, TABLE_FILE, Dataset
from gainakt.data.simulate import simulate
from gainakt.data.splits import assign_folds
from gainakt.errors import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return simulate(tmp_path_factory.mktemp("simulated") / "default")


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    made = [
        simulate(tmp_path / str(n), students=300, seed=seed) for n, seed in enumerate((5, 5, 6))
    ]
    tables = [(each.path / TABLE_FILE).read_bytes() for each in made]
    assert tables[0] == tables[1] != tables[2]
    manifests = [json.loads((each.path / MANIFEST_FILE).read_text()) for each in made]
    for manifest in manifests:
        del manifest["created"]
    assert manifests[0] == manifests[1] != manifests[2]


def test_content_for_a_seed_is_fixed_for_ever(tmp_path: Path) -> None:
    """Integers only: the last bit of a true mastery may depend on the machine."""
    data = simulate(tmp_path / "out", students=10, skills=4, seed=1, true_mastery=False)
    assert data.rows.skill[:12].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert data.rows.response[:12].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1]


def test_shape_and_split(data: Dataset) -> None:
    lengths = np.diff(data.offsets)
    assert len(data.student_ids) == 2000 and data.n_skills == 20
    assert data.skill_ids[0] == "k01" and data.student_ids[0] == "s00001"
    assert lengths.min() >= 3 and lengths.max() <= 8 * 40
    assert abs(lengths.mean() - 40) < 2
    np.testing.assert_array_equal(data.folds, assign_folds(2000))
    starts = data.offsets[:-1]
    order = np.arange(len(data.rows.skill)) - np.repeat(starts, lengths)
    np.testing.assert_array_equal(data.column("order"), order)


def test_answers_follow_the_true_mastery(data: Dataset) -> None:
    """The rate of right answers is guess + (1 - guess - slip) m, in every band of m."""
    parameters = data.manifest["options"]["skill_parameters"]
    guess, slip = (
        np.array([parameters[skill][name] for skill in data.skill_ids])[data.rows.skill]
        for name in ("guess", "slip")
    )
    mastery = data.column("true_mastery")
    assert mastery.min() >= 0 and mastery.max() <= 1
    chance = guess + (1 - guess - slip) * mastery
    for band in range(5):
        rows = (chance >= 0.1 + 0.17 * band) & (chance < 0.27 + 0.17 * band)
        assert rows.sum() > 200
        error = 4 * np.sqrt(0.25 / rows.sum())
        assert abs(data.rows.response[rows].mean() - chance[rows].mean()) < error


def test_practice_gives_learning(data: Dataset) -> None:
    """Without forgetting each practice raises the mastery of that skill, and answers get better."""
    mastery = data.column("true_mastery").astype(float)
    student = np.repeat(np.arange(len(data.folds)), np.diff(data.offsets))
    key = student * data.n_skills + data.rows.skill
    rows = np.argsort(key, kind="stable")
    again = key[rows][1:] == key[rows][:-1]
    assert again.sum() > 10_000
    assert (np.diff(mastery[rows])[again] > 0).all()
    first = np.concatenate([[True], ~again])
    attempt = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    # Only runs that reach the twelfth attempt: the stop rule would favour the quick ones.
    long = np.isin(key[rows], key[rows][attempt == 11])
    early = data.rows.response[rows][long & (attempt < 4)].mean()
    late = data.rows.response[rows][long & (attempt >= 8) & (attempt < 12)].mean()
    assert late > early


def test_stop_rule(data: Dataset) -> None:
    """A skill is left exactly after three right answers in a row or twelve attempts."""
    streak = attempts = 0
    for row in range(data.offsets[200]):
        new_student = row in data.offsets
        left = not new_student and row > 0 and data.rows.skill[row] != data.rows.skill[row - 1]
        if new_student:
            streak = attempts = 0
        elif streak == 3 or attempts == 12:
            assert left
            streak = attempts = 0
        else:
            assert not left
        streak = streak + 1 if data.rows.response[row] else 0
        attempts += 1


def test_forgetting_lowers_mastery_between_practices(tmp_path: Path) -> None:
    """Practice still raises mastery step by step; after a long break it is lower than before."""
    data = simulate(tmp_path / "out", students=200, skills=3, mean_length=60, forgetting=0.05)
    mastery = data.column("true_mastery").astype(float)
    student = np.repeat(np.arange(200), np.diff(data.offsets))
    key = student * 3 + data.rows.skill
    rows = np.argsort(key, kind="stable")
    again = key[rows][1:] == key[rows][:-1]
    away = np.diff(rows)[again] - 1
    change = np.diff(mastery[rows])[again]
    assert (change[away == 0] > 0).all() and (away == 0).sum() > 1000
    assert (away > 15).sum() > 100 and change[away > 15].mean() < -0.1


def test_questions_are_harder_or_easier_than_their_skill(tmp_path: Path) -> None:
    data = simulate(tmp_path / "out", students=1500, skills=2, questions=6, seed=1)
    truth = data.manifest["options"]["skill_parameters"]
    assert data.vocabulary.n_questions == 12
    question, skill = data.rows.question, data.rows.skill
    assert question is not None
    for code, name in enumerate(data.skill_ids):
        mine = [f"{name}q{n}" for n in range(1, 7)]
        codes = [data.vocabulary.question_code(q) for q in mine]
        assert set(np.unique(question[skill == code])) == set(codes)
        rates = [data.rows.response[question == q].mean() for q in codes]
        assert np.corrcoef(rates, truth[name]["difficulty"])[0, 1] < -0.9


def test_days_pass_and_half_is_forgotten(tmp_path: Path) -> None:
    how = {"students": 300, "skills": 2, "mean_length": 60, "days": 2.0, "seed": 1}
    data = simulate(tmp_path / "out", half_life=4.0, **how)
    mastery, time = data.column("true_mastery").astype(float), data.rows.time
    assert time is not None
    student = np.repeat(np.arange(300), np.diff(data.offsets))
    together = student[1:] == student[:-1]
    pauses = np.diff(time)[together] / 86_400_000
    assert (pauses > 0).all()
    assert 0.04 < (pauses > 0.02).mean() < 0.10, "some fifteen answers a day"
    assert pauses[pauses > 0.02].mean() == pytest.approx(2.0, rel=0.15)
    same = together & (data.rows.skill[1:] == data.rows.skill[:-1])
    days = np.diff(time)[same] / 86_400_000
    before, after = mastery[:-1][same], mastery[1:][same]
    rate = [truth["learning"] for truth in data.manifest["options"]["skill_parameters"].values()]
    # practice cannot have added more than this, and it was forgotten from that
    most = before + 0.6 * (1 - before)
    assert (after <= most * 0.5 ** (days / 4) + 1e-6).all() and max(rate) < 0.6
    assert after[days > 8].mean() < 0.5 * before[days > 8].mean()


def test_columns_are_there_on_request_alone(tmp_path: Path) -> None:
    with_times = simulate(tmp_path / "out", students=300, seed=7, days=1.0)
    assert with_times.rows.time is not None and with_times.rows.question is None
    plain = simulate(tmp_path / "plain", students=300, seed=7)
    assert plain.rows.time is None and plain.rows.question is None


def test_abilities_differ(data: Dataset) -> None:
    """Some students are better than others beyond chance: something to know a student by."""
    rates = np.add.reduceat(data.rows.response.astype(float), data.offsets[:-1]) / np.diff(
        data.offsets
    )
    lengths = np.diff(data.offsets)
    chance = np.mean(rates * (1 - rates) / lengths)
    assert rates.var() > 2 * chance


def test_chunks_hold_whole_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    data = simulate(tmp_path / "out", students=30, skills=3, true_mastery=False)
    assert len(data.student_ids) == 30
    assert data.student_ids == sorted(data.student_ids)
    np.testing.assert_array_equal(data.folds, assign_folds(30))
    with pytest.raises(DataError, match="no column 'true_mastery'"):
        data.column("true_mastery")


def test_memory_does_not_grow_with_the_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are handed on chunk by chunk: making the next one starts only when it is asked for."""
    made: list[int] = []
    practise = module._practise

    def counted(*arguments):  # type: ignore[no-untyped-def]
        made.append(arguments[2])
        return practise(*arguments)

    monkeypatch.setattr(module, "_practise", counted)
    monkeypatch.setattr(module, "CHUNK", 5)
    simulation = module.Simulation(students=12, skills=2)
    truth = module.SkillParameters.draw(np.random.default_rng(0), 2)
    seeds = np.random.SeedSequence(0).spawn(3)
    tables = module._chunks(simulation, truth, ["a", "b"], seeds, False)
    assert made == []
    assert next(tables).num_rows > 0 and made == [5]
    assert len(list(tables)) == 2 and made == [5, 5, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("students", 0),
        ("skills", 0),
        ("seed", -1),
        ("mean_length", 2),
        ("mean_length", float("nan")),
        ("right_in_a_row", 0),
        ("max_attempts", 0),
        ("forgetting", -0.1),
        ("forgetting", 1.0),
        ("questions", -1),
        ("days", -1.0),
    ],
)
def test_impossible_values(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(DataError, match=f"simulate: {name} must be .*, not {value}"):
        simulate(tmp_path / "out", **{name: value})
    assert not list(tmp_path.iterdir())


def test_forgetting_with_time_needs_times(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="half_life needs times: set days"):
        simulate(tmp_path / "out", half_life=3.0)
