"""`gainakt audit`: each way of leaking is caught, and an honest model is not accused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gainakt.config import models as registered
from gainakt.config.models import MODELS, ModelSpec
from gainakt.data.interactions import load_dataset
from gainakt.data.writing import write_dataset
from gainakt.evaluation.duplicates import almost_identical, same_ids
from gainakt.evaluation.metrics import auc
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


def foreign(path: Path, data: Path, probability, *, first_rows_only: bool = True) -> Path:
    """A CSV file with another tool's predictions of the test students, as it might name columns."""
    dataset = load_dataset(data)
    lines = ["uid,order,label,pred"]
    for student in dataset.students("test", 1, -1).tolist():
        begin, end = int(dataset.offsets[student]), int(dataset.offsets[student + 1])
        orders = dataset.rows.order[begin:end]
        for place in range(1, end - begin):
            sibling = orders[place] == orders[place - 1]
            if orders[place] != orders[0] and not (first_rows_only and sibling):
                answer = int(dataset.rows.response[begin + place])
                said = probability(answer, bool(sibling), student * 1000 + place)
                lines.append(f"{dataset.student_ids[student]},{place},{answer},{said:.4f}")
    path.write_text("\n".join(lines) + "\n")
    return path


def noise(answer: int, sibling: bool, seed: int) -> float:
    return float(np.random.default_rng(seed).uniform(0.2, 0.9))


def audit_foreign(gainakt, file: Path, data: Path, out: Path, *words: str):
    given = (f"--predictions={file}", f"--data={data}", f"--out={out}", "--fold=1", "--quiet")
    done = gainakt("audit", *given, "--json", *words)
    assert done.out, done.err
    return {f["audit"]: f for f in json.loads(done.out)["findings"]}, done.code


def test_another_tools_predictions_are_audited_and_become_a_row(data, gainakt, tmp_path) -> None:
    file = foreign(tmp_path / "theirs.csv", data, noise)
    findings, code = audit_foreign(gainakt, file, data, tmp_path / "runs", "--name", "theirs 1")
    assert code == 0
    assert outcomes(findings) == {
        "causality": "NOT APPLICABLE",
        "sibling skills": "NOT APPLICABLE",
        "students in two splits": "PASS",
        "shuffled answers": "NOT APPLICABLE",
        "too good to be true": "PASS",
    }
    (row,) = json.loads(gainakt("leaderboard", tmp_path / "runs", "--json").out)
    assert row["model"] == "theirs 1" and row["trainings"] == 1
    assert row["auc"] == pytest.approx(findings["too good to be true"]["figures"]["auc_model"])
    assert row["auc_interval_low"] < row["auc"]
    again = gainakt(
        "audit",
        f"--predictions={file}",
        f"--data={data}",
        f"--out={tmp_path / 'runs'}",
        "--name",
        "theirs 1",
    )
    assert again.code == 1 and "exists already" in again.err


def test_another_tools_leaks_are_caught(data, gainakt, tmp_path) -> None:
    too_good = lambda answer, sibling, seed: 0.3 + 0.4 * answer  # noqa: E731
    file = foreign(tmp_path / "good.csv", data, too_good)
    findings, code = audit_foreign(gainakt, file, data, tmp_path / "runs")
    assert code == 1 and findings["too good to be true"]["outcome"] == "FAIL"

    def through_the_first(answer: int, sibling: bool, seed: int) -> float:
        return 0.3 + 0.4 * answer if sibling else noise(answer, sibling, seed)

    file = foreign(tmp_path / "sib.csv", data, through_the_first, first_rows_only=False)
    findings, code = audit_foreign(gainakt, file, data, tmp_path / "runs")
    assert code == 1 and findings["sibling skills"]["outcome"] == "FAIL"
    assert findings["too good to be true"]["outcome"] == "PASS", "only first rows are scored"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("uid,", "who,"), "no column student or"),
        (lambda text: text.replace(",1,", ",7,", 1), "0 or 1"),
        (lambda text: text.replace("0.", "3.", 1), "between 0 and 1"),
        (lambda text: text.replace("s0,", "nobody,", 1), "'nobody' is not in data set"),
        (lambda text: "\n".join([*text.split("\n")[:2], *text.split("\n")[1:]]), "twice"),
        (lambda text: text.replace("s0,1,", "s0,999,").replace("s0,2,", "s0,998,"), "outside"),
        (lambda text: text.replace(",0,0.", ",1,0."), "are not those of the data"),
    ],
)
def test_a_table_that_is_not_of_the_data_is_refused(change, said, data, gainakt, tmp_path) -> None:
    file = foreign(tmp_path / "theirs.csv", data, noise)
    file.write_text(change(file.read_text()))
    words = (f"--predictions={file}", f"--data={data}", f"--out={tmp_path / 'runs'}")
    done = gainakt("audit", *words)
    assert done.code == 1 and said in done.err
    assert not (tmp_path / "runs").exists()


def test_what_audit_is_to_look_at_must_be_said(data, gainakt, tmp_path) -> None:
    assert "needs a run" in gainakt("audit").err
    assert "needs --data" in gainakt("audit", "--predictions", tmp_path / "x.csv").err


def test_the_export_for_kt_audit(data, audited, gainakt, tmp_path) -> None:
    _, _, run = audited("logistic", data)
    done = gainakt("audit", run, "--export", tmp_path / "kt.csv", "--json", "--quiet")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "kt.csv").read_text().splitlines()))
    assert len(rows) == json.loads(done.out)["rows"] == 150 * 25, "a row an answer"
    assert {row["split"] for row in rows} == {"train", "valid", "test"}
    assert len({(row["user_id"], row["timestamp"]) for row in rows}) == len(rows)
    assert all(row["kc_ids"].startswith("kc") for row in rows)
    assert any("|" in row["kc_ids"] for row in rows)
    gainakt("evaluate", run, "--quiet")
    metrics = json.loads((run / "evaluation_test.json").read_text())
    scored = [row for row in rows if row["split"] == "test" and row["timestamp"] != "0"]
    answers = np.array([int(row["y_true"]) for row in scored])
    said = np.array([float(row["y_pred"]) for row in scored])
    assert auc(answers, said) == pytest.approx(metrics["question_auc"], abs=1e-12)

    tool = shutil.which("kt-audit")
    if tool is None:
        pytest.skip(
            "kt-audit is not installed; pip install kt-audit==0.2.* and have it on the path"
        )
    words = [tool, "run", str(tmp_path / "kt.csv"), "--out", str(tmp_path / "report")]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
