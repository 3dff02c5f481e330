"""`gainakt audit`: each way of leaking is caught, and an honest model is not accused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gainakt.config import models as registered
from gainakt.config.models import MODELS, ModelSpec
from gainakt.data.interactions import load_dataset
from gainakt.data.writing import write_dataset
from gainakt.evaluation.duplicates import almost_identical, same_ids
from tests.experiment.leaky import LEAKS, KnowsByHeart

AUDITS = (
    "causality",
    "sibling skills",
    "students in two splits",
    "shuffled answers",
    "too good to be true",
)
SKILLS = 5


class Reading(registered.RateParameters):
    """Parameters of a leaky model that reads which question it was."""

    question_ids: bool = True


def students_of(count: int, questions: int, seed: int = 0) -> list[list[tuple[str, str, int]]]:
    """Histories of (question, skill, answer) with an ability each; a third has two skills."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ability, rows = rng.normal(), []
        for order in range(questions):
            question = int(rng.integers(30))
            answer = int(rng.random() < 1 / (1 + np.exp(-ability - (question % SKILLS) / 3)))
            rows.append((order, f"q{question}", f"k{question % SKILLS}", answer))
            if question % 3 == 0:
                rows.append((order, f"q{question}", f"k{(question + 1) % SKILLS}", answer))
        found.append(rows)
    return found


def prepared(path: Path, students, folds, names=None) -> Path:
    rows = [
        (names[number] if names else f"s{number}", *row[:1], row[2], row[1], row[3], folds[number])
        for number, history in enumerate(students)
        for row in history
    ]
    columns = ("student_id", "order", "skill_id", "question_id", "correct", "fold")
    table = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    return write_dataset(
        path,
        [table],
        name=path.name,
        reader="test",
        split_method="by hand",
        sources=[],
        filters=[],
        options={},
    ).path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """150 students with questions, some of several skills, in three folds and a test fold."""
    folds = [-1 if number % 3 == 0 else number % 3 for number in range(150)]
    return prepared(tmp_path_factory.mktemp("audit") / "answers", students_of(150, 25), folds)


@pytest.fixture
def audited(gainakt, monkeypatch, tmp_path):
    """Train a model and audit it: findings by name, exit code, and the run."""
    for name in LEAKS:
        monkeypatch.setitem(MODELS, name, ModelSpec(Reading, "tests.experiment.leaky"))

    def audit(model: str, data: Path, *words: str):
        flags = ("--threads=1", "--devices=cpu", f"--out={tmp_path}", "--no-report", "--quiet")
        trained = gainakt("train", f"--model={model}", f"--data={data}", "--fold=1", *flags)
        assert trained.code == 0, trained.err
        run = trained.out.strip()
        done = gainakt("audit", run, "--json", "--quiet", *words)
        found = json.loads(done.out)
        return {f["audit"]: f for f in found["findings"]}, done.code, Path(run)

    return audit


def outcomes(findings) -> dict[str, str]:
    return {name: finding["outcome"] for name, finding in findings.items()}


@pytest.mark.parametrize("model", ["logistic", "bkt", "skill_mean"])
def test_an_honest_model_passes(model, data, audited, gainakt) -> None:
    findings, code, run = audited(model, data)
    assert outcomes(findings) == dict.fromkeys(AUDITS, "PASS")
    assert code == 0
    kept = json.loads((run / "audit.json").read_text())
    assert kept["passed"] and len(kept["findings"]) == 5
    said = gainakt("audit", run, "--quiet").out
    assert said.count("PASS") == 5


@pytest.mark.parametrize(
    ("model", "caught", "unseen"),
    [
        ("reads_the_future", "causality", ()),
        ("reads_its_length", "causality", ("sibling skills", "shuffled answers")),
        ("reads_siblings", "sibling skills", ()),
        ("reads_the_answer", "shuffled answers", ()),
        # its predictions depend on the past alone: only the figure itself gives it away
        ("knows_by_heart", "too good to be true", ("causality", "sibling skills")),
    ],
)
def test_a_leak_is_caught(model, caught, unseen, data, audited) -> None:
    dataset = load_dataset(data)
    KnowsByHeart.learn(dataset, dataset.students("test", 1, -1).tolist())
    findings, code, _ = audited(model, data)
    assert findings[caught]["outcome"] == "FAIL", findings[caught]
    assert code == 1
    for name in unseen:
        assert findings[name]["outcome"] == "PASS", findings[name]


def test_a_rare_leak_is_caught_by_shuffled_answers_though_a_sample_misses_it(data, audited) -> None:
    findings, _, _ = audited("reads_the_answer", data, "--students", "1")
    assert findings["shuffled answers"]["outcome"] == "FAIL"


def test_copied_students_are_caught(audited, tmp_path) -> None:
    students = students_of(120, 40)
    copies = [[*history[:-3]] for history in students[:10]]
    folds = [number % 3 for number in range(120)]
    spoilt = prepared(tmp_path / "spoilt", [*students, *copies], [*folds, *[-1] * 10])
    findings, code, _ = audited("skill_mean", spoilt)
    found = findings["students in two splits"]
    assert code == 1 and found["outcome"] == "FAIL"
    # of the seven copies of students learnt from, one may be too ordinary to tell
    # (three are of fold 1, who validate)
    assert 6 <= found["figures"]["histories"] <= 7
    assert found["figures"]["ids"] == 0


def test_ids_that_differ_in_spelling_are_one_student(tmp_path) -> None:
    names = [f"{number}" for number in range(9)] + ["3.0", " 4", "S9"]
    path = prepared(tmp_path / "ids", students_of(12, 5), [0] * 9 + [-1] * 3, names)
    dataset = load_dataset(path)
    test, train = (np.flatnonzero(dataset.folds == fold) for fold in (-1, 0))
    assert sorted(same_ids(dataset, test, dataset, train)) == [" 4", "3.0"]


def test_the_same_curriculum_answered_all_right_is_no_copy(tmp_path) -> None:
    """Histories that are equal because they had to be say nothing."""
    alike = [[(order, f"q{order}", f"k{order % 3}", 1) for order in range(60)]] * 20
    path = prepared(tmp_path / "alike", [*alike, *students_of(5, 30)], [0] * 10 + [1] * 15)
    dataset = load_dataset(path)
    first, second = (np.flatnonzero(dataset.folds == fold) for fold in (0, 1))
    assert almost_identical(dataset, first, dataset, second) == []


def test_without_several_skills_siblings_do_not_apply(tiny_data, audited) -> None:
    findings, code, _ = audited("skill_mean", tiny_data)
    assert findings["sibling skills"]["outcome"] == "NOT APPLICABLE"
    assert code == 0


def test_a_trained_network_passes(gainsum_run, gainakt) -> None:
    done = gainakt("audit", gainsum_run, "--json", "--quiet")
    found = {f["audit"]: f for f in json.loads(done.out)["findings"]}
    assert done.code == 0, found
    assert found["causality"]["figures"]["largest_move"] <= 1e-6
    (gainsum_run / "audit.json").unlink()
