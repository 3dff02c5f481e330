"""Explanations of single predictions: they sum to the log-odds, in every form."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gainakt.data.sequences import chunk_sequences
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError, GainaktError
from gainakt.evaluation.explanation import answers_before, explain_answer, explain_prediction
from gainakt.experiment.explain import as_csv, as_text
from gainakt.models import build_model
from gainakt.models.gainsum.model import GainSum
from gainakt.report.figures import explanation_figure, save
from tests.conftest import Outcome
from tests.helpers import dataset_of, predictor_of, small_config, vocabulary_of

CPU = torch.device("cpu")


def test_an_explanation_is_that_of_the_prediction() -> None:
    data = dataset_of([8, 12], n_skills=3)
    model = build_model(small_config("gainsum"), vocabulary_of(3)).eval()
    readout = predictor_of(model).read(chunk_sequences(data, np.arange(2), 64))
    for student, first in ((0, 0), (1, 8)):
        for step in (1, 4, 7):
            asked = int(data.rows.skill[first + step])
            e = explain_prediction(predictor_of(model, 64, 20), data, student, step, asked)
            assert e.logit == pytest.approx(float(readout.logit[first + step - 1]), abs=1e-5)
            assert e.right == bool(data.rows.response[first + step])
            assert [a.step for a in e.past] == list(range(step))
            assert e.prior is not None
            total = e.prior + sum(a.contribution or 0.0 for a in e.past)
            assert total == pytest.approx(e.logit, abs=1e-5)
            assert e.past[-1].mastery == pytest.approx(e.probability, abs=1e-5)


def test_another_skill_and_the_time_after_the_last_answer() -> None:
    data = dataset_of([8], n_skills=3)
    model = build_model(small_config("gainsum"), vocabulary_of(3)).eval()
    other = (int(data.rows.skill[4]) + 1) % 3
    e = explain_prediction(predictor_of(model, 64, 20), data, 0, 4, other)
    assert e.right is None and e.skill == data.skill_ids[other]
    later = explain_prediction(predictor_of(model, 64, 20), data, 0, 8, other)
    assert later.right is None and len(later.past) == 8
    assert [a.mastery for a in later.past[:4]] == pytest.approx(
        [a.mastery for a in e.past], abs=1e-6
    )


def test_a_long_history_is_read_from_its_recent_part() -> None:
    data = dataset_of([50], n_skills=3)
    model = build_model(small_config("gainsum", seq_len=10), vocabulary_of(3)).eval()
    e = explain_prediction(predictor_of(model, 10, 1), data, 0, 30, 0)
    assert [a.step for a in e.past] == list(range(21, 30))
    # windows that move on by 4 score answers 10 to 13, ..., 30 to 33: the last starts at 24
    e = explain_prediction(predictor_of(model, 10, 4), data, 0, 30, 0)
    assert [a.step for a in e.past] == list(range(24, 30))


@pytest.fixture
def student(tiny_data: Path) -> str:
    """A test student of the tiny data set."""
    table = pq.read_table(tiny_data / "interactions.parquet")
    return str(table["student_id"][0])


def test_the_text_sums_to_the_log_odds(
    gainakt: Callable[..., Outcome], gainsum_run: Path, student: str
) -> None:
    done = gainakt("explain", gainsum_run, "--student", student, "--step", 5)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"student {student}, step 5, skill ")
    match = re.match(r"log-odds (\S+) = prior (\S+) \+ 5 past answers (\S+),", lines[1])
    assert match is not None
    logit, prior, total = map(float, match.groups())
    terms = [float(line.split()[3]) for line in lines[3:]]
    assert len(terms) == 5
    assert [abs(t) for t in terms] == sorted((abs(t) for t in terms), reverse=True)
    assert prior + sum(terms) == pytest.approx(logit, abs=5e-4)
    assert sum(terms) == pytest.approx(total, abs=5e-4)
    for line in lines[3:]:
        assert (line.split()[2] == "right") == (line.split()[3][0] == "+")


def test_csv_and_json_hold_the_same(
    gainakt: Callable[..., Outcome], gainsum_run: Path, student: str
) -> None:
    words = ("explain", gainsum_run, "--student", student, "--step", 5, "--format")
    values = json.loads(gainakt(*words, "json").out)
    rows = list(csv.DictReader(io.StringIO(gainakt(*words, "csv").out)))
    assert rows[0]["step"] == "prior"
    assert sum(float(row["contribution"]) for row in rows) == pytest.approx(
        values["logit"], abs=1e-5
    )
    past = {answer["step"]: answer["contribution"] for answer in values["past"]}
    assert {int(row["step"]): float(row["contribution"]) for row in rows[1:]} == past


def test_without_a_step_the_last_answer_and_with_a_skill_the_next(
    gainakt: Callable[..., Outcome], gainsum_run: Path, tiny_data: Path, student: str
) -> None:
    table = pq.read_table(tiny_data / "interactions.parquet")
    mine = [
        s
        for i, s in zip(table["student_id"].to_pylist(), table["skill_id"].to_pylist(), strict=True)
        if i == student
    ]
    words = ("explain", gainsum_run, "--student", student, "--json")
    last = json.loads(gainakt(*words).out)
    assert (last["step"], last["skill"]) == (len(mine) - 1, mine[-1])
    coming = json.loads(gainakt(*words, "--skill", mine[0]).out)
    assert (coming["step"], coming["skill"], coming["right"]) == (len(mine), mine[0], None)


def test_trajectories_of_gainakt2exp_are_called_what_they_are(
    gainakt: Callable[..., Outcome], finished_run: Path, student: str
) -> None:
    done = gainakt("explain", finished_run, "--student", student, "--step", 6)
    assert done.code == 0, done.err
    assert "prior" not in done.out
    assert "do not explain it" in done.out
    lines = done.out.splitlines()
    assert lines[3].split() == ["step", "skill", "answer", "gain", "mastery"]
    rows = [line.split() for line in lines[4:]]
    assert [int(row[0]) for row in rows] == list(range(6))
    mastery = [float(row[4]) for row in rows]
    assert mastery == sorted(mastery)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--student", "nobody"], "no student 'nobody'"),
        (["--student", "s0000"], "near are s000"),
        (["--student", "STUDENT", "--step", "0"], "step 0 has no past"),
        (["--student", "STUDENT", "--step", "100000"], "no prediction for step 100000"),
        (["--student", "STUDENT", "--skill", "algebra"], "no skill 'algebra'"),
        (["--student", "STUDENT", "--picture", "a.gif"], ".png or .svg"),
    ],
)
def test_mistakes_are_named(
    gainakt: Callable[..., Outcome],
    gainsum_run: Path,
    student: str,
    words: list[str],
    message: str,
) -> None:
    done = gainakt("explain", gainsum_run, *(w.replace("STUDENT", student) for w in words))
    assert done.code == 1 and done.out == ""
    assert message in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("model", ["gainsum", "gainakt2exp"])
def test_a_picture_is_drawn(model: str, tmp_path: Path) -> None:
    data = dataset_of([30], n_skills=3)
    e = explain_prediction(
        predictor_of(build_model(small_config(model), vocabulary_of(3)), 64, 20), data, 0, 25, 1
    )
    figure = explanation_figure(e)
    save(figure, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "mastery of 1" in text and "Student 0, step 25" in text
    assert ("contribution to log-odds" in text) == (model == "gainsum")
    assert ("do not explain it" in text) == (model == "gainakt2exp")
    save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(GainaktError, match="cannot write"):
        save(figure, tmp_path / "missing" / "a.svg")


@pytest.mark.parametrize("fixture", ["gainsum_run", "finished_run"])
def test_the_command_explains_what_was_recorded_and_draws_it(
    fixture: str,
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = request.getfixturevalue(fixture)
    folder = shutil.copytree(run, tmp_path / run.name)
    assert gainakt("evaluate", folder, "--quiet").code == 0
    recorded = pq.read_table(folder / "predictions_test.parquet").to_pylist()
    for row in [row for row in recorded if row["position"] == 5][:3]:
        words = ("--student", row["student"], "--step", 5, "--json")
        picture = tmp_path / f"{row['student']}.png"
        done = gainakt("explain", folder, *words, "--picture", picture)
        told = json.loads(done.out)
        assert told["probability"] == pytest.approx(row["probability"], abs=1e-5)
        assert (told["skill"], told["right"]) == (row["skill"], row["answer"] == 1)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_second_skill_of_a_question_is_explained_from_before_the_question() -> None:
    # answers 0, 1 and 2; the last two rows are skills of answer 2
    data = dataset_of([4], n_skills=3)
    data = replace(data, rows=data.rows.replace(order=np.array([0, 1, 2, 2])))
    assert [answers_before(data, 0, step) for step in range(5)] == [0, 1, 2, 2, 4]
    model = build_model(small_config("gainsum"), vocabulary_of(3))
    predictor = predictor_of(model)
    second = explain_answer(predictor, data, 0, 3, None)
    assert (second.step, second.skill) == (3, "0")
    assert [answer.step for answer in second.past] == [0, 1], "its own answer is not read"
    first = replace(data, rows=data.rows.replace(order=np.array([0, 0, 1, 2])))
    with pytest.raises(DataError, match="step 1 of student '0' is a skill of the first question"):
        explain_answer(predictor, first, 0, 1, None)


def test_an_explanation_says_which_questions_how_easy_and_how_long_ago() -> None:
    data = dataset_of([6], 3)
    hour = 3_600_000
    times = np.array([0, 0, 60_000, hour, 5 * hour, 48 * hour])
    rows = data.rows.replace(question=np.array([1, 2, 0, 1, 2, 3]), time=times)
    vocabulary = Vocabulary(data.vocabulary.skills, ("q1", "q2", "q3"))
    data = replace(data, rows=rows, vocabulary=vocabulary)
    model = build_model(small_config("gainsum", question_ids=True), vocabulary).eval()
    assert isinstance(model, GainSum) and model.questions is not None
    with torch.no_grad():
        model.questions.easy.weight[1:, 0] = torch.tensor([0.5, -1.0, 2.0])
    explained = explain_answer(predictor_of(model), data, 0, 5, None)
    assert (explained.question, explained.easiness) == ("q3", 2.0)
    assert [a.question for a in explained.past] == ["q1", "q2", None, "q1", "q2"]
    assert [a.easiness for a in explained.past] == [0.5, -1.0, None, 0.5, -1.0]
    hours = [48, 48, 48 - 1 / 60, 47, 43]
    assert [a.seconds for a in explained.past] == pytest.approx([3600 * h for h in hours])
    text, table = as_text(explained), as_csv(explained)
    assert "question q3 (easiness +2.00)" in text
    assert re.search(r"question +easiness +before", text) and re.search(r"q2 +-1.00 +2 d", text)
    assert table.startswith("step,skill,question,easiness,seconds,answer,contribution,mastery\n")
    without = explain_answer(predictor_of(model), data, 0, None, 1)
    assert without.question is None and without.past[0].seconds is None
