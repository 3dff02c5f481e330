"""`gainakt evaluate`: metrics, a table of every prediction, and one headline figure."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from gainakt.data.interactions import Dataset, load_dataset
from gainakt.data.pooling import several_skills
from gainakt.data.prepare import prepare
from gainakt.data.simulate import simulate
from gainakt.data.vocabulary import Vocabulary
from gainakt.evaluation.protocol import coded as code_with
from gainakt.evaluation.protocol import predict
from gainakt.models import build_model
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.folder import RunFolder
from tests.conftest import TINY, Outcome
from tests.helpers import batch_of, dataset_of, predictor_of, small_config

COLUMNS = ["student", "position", "skill", "answer", "probability", "mastery"]
HEADLINE = re.compile(r"(valid|test) AUC \(window, ([\d,]+) targets\): (0\.\d{5})   accuracy: (.*)")
SEQ_LEN = int(str(TINY["seq_len"]))


def predictions(run: Path, split: str) -> dict[str, list[Any]]:
    table = pq.read_table(run / f"predictions_{split}.parquet")
    assert table.column_names == COLUMNS
    content: dict[str, list[Any]] = table.to_pydict()
    return content


def answers_but_the_first(data: Dataset, split: str) -> list[tuple[str, int, str, int]]:
    """Student, position, skill and answer of everything that has a history."""
    return [
        (
            data.student_ids[student],
            int(row - data.offsets[student]),
            data.skill_ids[data.rows.skill[row]],
            int(data.rows.response[row]),
        )
        for student in data.students(split, 0)
        for row in range(data.offsets[student] + 1, data.offsets[student + 1])
    ]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_answer_but_the_first_is_predicted_once(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, split: str
) -> None:
    assert gainakt("evaluate", run_copy, "--split", split).code == 0
    found = predictions(run_copy, split)
    rows = list(zip(*(found[name] for name in COLUMNS[:4]), strict=True))
    data = load_dataset(tiny_data)
    assert rows == answers_but_the_first(data, split)
    assert max(found["position"]) > SEQ_LEN, "no history is longer than the model reads"
    assert all(0 < p < 1 for p in found["probability"])
    assert all(0 <= m <= 1 for m in found["mastery"])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_headline_is_the_auc_of_the_table(
    run_copy: Path, gainakt: Callable[..., Outcome], split: str
) -> None:
    outcome = gainakt("evaluate", run_copy, "--split", split)
    headline = HEADLINE.fullmatch(outcome.out.removesuffix("\n"))
    assert headline, f"stdout must be the headline alone, is {outcome.out!r}"
    found = predictions(run_copy, split)
    answer, probability = np.array(found["answer"]), np.array(found["probability"], np.float64)
    assert headline[1] == split
    assert headline[2] == f"{len(answer):,}"
    assert float(headline[3]) == pytest.approx(roc_auc_score(answer, probability), abs=6e-6)
    assert float(headline[4]) == pytest.approx(accuracy_score(answer, probability >= 0.5), abs=6e-6)

    metrics = json.loads((run_copy / f"evaluation_{split}.json").read_text(encoding="utf-8"))
    assert metrics["split"] == split
    assert metrics["targets"] == len(answer)
    assert metrics["auc"] == pytest.approx(roc_auc_score(answer, probability), abs=1e-6)
    assert metrics["log_loss"] == pytest.approx(log_loss(answer, probability), abs=1e-6)
    assert metrics["brier"] == pytest.approx(np.square(probability - answer).mean(), abs=1e-6)
    results = json.loads((run_copy / "results.json").read_text(encoding="utf-8"))
    assert metrics["epoch"] == results["best_epoch"]


def test_it_evaluates_test_students_by_the_best_checkpoint(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path
) -> None:
    """A short history, read by the best checkpoint alone, gets the table's probabilities."""
    (run_copy / "model_last.safetensors").unlink()
    gainakt("evaluate", run_copy)
    found = predictions(run_copy, "test")
    data = load_dataset(tiny_data)
    lengths = np.diff(data.offsets)
    student = next(s for s in data.students("test") if 5 <= lengths[s] <= SEQ_LEN)
    rows = slice(data.offsets[student], data.offsets[student + 1])
    steps = list(
        zip(data.rows.skill[rows].tolist(), data.rows.response[rows].tolist(), strict=True)
    )
    model = load_checkpoint(run_copy / "model_best.safetensors").model()
    with torch.no_grad():
        output = model(batch_of(steps))
    assert output.mastery is not None
    asked = [skill for skill, _ in steps[1:]]
    chosen = [i for i, name in enumerate(found["student"]) if name == data.student_ids[student]]
    torch.testing.assert_close(
        torch.tensor([found["probability"][i] for i in chosen]), output.logits[:-1].sigmoid()
    )
    torch.testing.assert_close(
        torch.tensor([found["mastery"][i] for i in chosen]),
        output.mastery[torch.arange(len(asked)), asked],
    )


def test_json_is_for_machines_and_progress_for_stderr(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    outcome = gainakt("evaluate", run_copy, "--json")
    metrics = json.loads(outcome.out)
    assert metrics == json.loads((run_copy / "evaluation_test.json").read_text(encoding="utf-8"))
    assert f"metrics: {run_copy / 'evaluation_test.json'}" in outcome.err
    assert f"predictions: {run_copy / 'predictions_test.parquet'}" in outcome.err
    assert gainakt("evaluate", run_copy, "--quiet").err == ""


def test_it_repeats_what_the_run_measured_at_its_end(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    files = [run_copy / "evaluation_valid.json", run_copy / "predictions_valid.parquet"]
    auc = json.loads(files[0].read_text(encoding="utf-8"))["auc"]
    table = pq.read_table(files[1])
    for file in files:
        file.unlink()
    assert json.loads(gainakt("evaluate", run_copy, "--split=valid", "--json").out)["auc"] == auc
    assert pq.read_table(files[1]).equals(table)


def moved_to(run: Path, data: Path) -> None:
    """Let the run's record say that its data lie elsewhere."""
    record = json.loads((run / "data.json").read_text(encoding="utf-8"))
    record["path"] = str(data)
    (run / "data.json").write_text(json.dumps(record), encoding="utf-8")


def refusal(run: Path, outcome: Outcome) -> str:
    """The message of an evaluation that was refused and wrote nothing."""
    assert outcome.code == 1
    assert outcome.out == ""
    assert not list(run.glob("*_test.*"))
    (told,) = outcome.err.splitlines()
    assert told.startswith("gainakt: ")
    return told


def test_data_that_changed_since_are_refused(
    run_copy: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    simulate(tmp_path / "data", students=60, skills=4, seed=2)
    moved_to(run_copy, tmp_path / "data")
    told = refusal(run_copy, gainakt("evaluate", run_copy))
    assert f"the data at {tmp_path / 'data'} are not those of the run" in told
    assert "name them with --data" in told


def test_data_that_are_gone_are_asked_for(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    moved_to(run_copy, tmp_path / "gone")
    told = refusal(run_copy, gainakt("evaluate", run_copy))
    assert f"not at {tmp_path / 'gone'} any more; say where they are with --data" in told
    here = shutil.copytree(tiny_data, tmp_path / "here")
    metrics = json.loads(gainakt("evaluate", run_copy, "--data", here, "--json").out)
    assert metrics["same_data_as_training"] is True


def test_other_data_of_the_same_skills_are_evaluated_and_marked(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    data = simulate(tmp_path / "other", students=90, skills=4, seed=7, name="others")
    assert gainakt("evaluate", run_copy).code == 0
    own = (run_copy / "evaluation_test.json").read_bytes()
    outcome = gainakt("evaluate", run_copy, "--data", data.path, "--json")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(outcome.out)
    assert metrics["same_data_as_training"] is False
    learnt = load_dataset(tiny_data)
    names = {learnt.student_ids[s] for s in learnt.students("train", 0, -1)}
    tested = [data.student_ids[s] for s in data.students("test", 0, -1)]
    both = sum(student in names for student in tested)
    assert metrics["students_learnt_from"] == both > 0
    assert f"warning: {both} of {len(tested)} test students have ids of students" in outcome.err
    assert (run_copy / "evaluation_test.json").read_bytes() == own, "the run's own figures stay"
    found = predictions(run_copy, "test_on_others")
    rows = list(zip(*(found[name] for name in COLUMNS[:4]), strict=True))
    assert rows == answers_but_the_first(data, "test")


def test_whether_the_model_learnt_from_them_is_not_known_without_its_data(
    run_copy: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    data = simulate(tmp_path / "other", students=40, skills=4, seed=7, name="others")
    moved_to(run_copy, tmp_path / "gone")
    outcome = gainakt("evaluate", run_copy, "--data", data.path, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["students_learnt_from"] is None
    assert "is not known: the data of this run are not at" in outcome.err


def test_a_skill_the_model_never_saw_is_named(
    run_copy: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    simulate(tmp_path / "more", students=40, skills=5, seed=7)
    told = refusal(run_copy, gainakt("evaluate", run_copy, "--data", tmp_path / "more"))
    assert "has 1 skills that the model was not trained on, the first is 'k05'" in told


def test_skills_are_matched_by_name_not_by_place(write_students: Callable[..., Path]) -> None:
    steps = [("k04", 1), ("k02", 0), ("k04", 1)]
    data = load_dataset(write_students({"s": (-1, steps)}))
    coded = code_with(data, Vocabulary(("k01", "k02", "k03", "k04")))
    assert data.rows.skill.tolist() == [1, 0, 1]
    assert coded.rows.skill.tolist() == [3, 1, 3]
    assert coded.skill_ids == ("k01", "k02", "k03", "k04")


@pytest.mark.parametrize(
    ("students", "words"),
    [
        ({"s": (0, [("k01", 1), ("k02", 0)] * 2)}, "has no test students"),
        ({"s": (-1, [("k01", 0)] + [("k02", 1)] * 3)}, "answers of one class only (3 targets)"),
    ],
)
def test_students_that_cannot_be_scored_are_refused(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    write_students: Callable[..., Path],
    students: dict[str, Any],
    words: str,
) -> None:
    data = write_students(students)
    assert words in refusal(run_copy, gainakt("evaluate", run_copy, "--data", data))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model_best.safetensors", b"", "not a readable checkpoint"),
        ("model_best.safetensors", None, "no such checkpoint"),
        ("data.json", b"{}", "does not hold the data's path and manifest"),
        ("data.json", b"[]", "does not hold the data's path and manifest"),
        ("data.json", b"{", "data.json cannot be read as JSON"),
        ("data.json", None, "data.json is missing"),
    ],
)
def test_a_damaged_run_is_refused(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    file: str,
    content: bytes | None,
    words: str,
) -> None:
    if content is None:
        (run_copy / file).unlink()
    else:
        (run_copy / file).write_bytes(content)
    assert words in refusal(run_copy, gainakt("evaluate", run_copy))


def test_only_valid_and_test_can_be_asked_for(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    outcome = gainakt("evaluate", run_copy, "--split", "train")
    assert outcome.code != 0
    assert "Traceback" not in outcome.err
    assert "valid" in outcome.err
    assert "test" in outcome.err


def test_figures_of_another_checkpoint_are_left_out_and_said(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    """A checkpoint that changed after its evaluation: the figure is not the run's any more."""
    from gainakt.experiment.groups import headline_figures
    from gainakt.record.checkpoint import save_checkpoint

    assert gainakt("evaluate", run_copy, "--split", "test").code == 0
    folder = RunFolder(run_copy)
    before = headline_figures(folder)["test_auc"]
    assert before is not None and folder.stale_files() == []
    checkpoint = load_checkpoint(folder.best)
    for weight in checkpoint.weights.values():
        weight.mul_(0.5)
    save_checkpoint(folder.best, checkpoint)
    assert "test_auc" not in headline_figures(folder)
    assert any("evaluation_test.json" in reason for reason in folder.stale_files())
    folder.evaluation("test").write_text("[]")
    assert folder.current(folder.evaluation("test")) is None
    assert any("evaluation_test.json is damaged" in reason for reason in folder.stale_files())
    assert gainakt("evaluate", run_copy, "--split", "test").code == 0
    assert headline_figures(folder)["test_auc"] != before


@pytest.mark.parametrize("seed", range(20))
def test_the_headline_is_what_scikit_learn_says_of_the_table(seed: int, tmp_path: Path) -> None:
    """To the last bit, with many ties and with probabilities that are all but certain."""
    from sklearn.metrics import roc_auc_score

    from gainakt.evaluation.metrics import RunningMetrics
    from gainakt.evaluation.readout import probability_of

    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 2, 5000).astype(np.int8)
    logits = np.round(rng.normal(answers, 1 + 20 * (seed % 2)), seed % 4).astype(np.float32)
    probabilities = probability_of(logits)
    pq.write_table(
        pa.table({"answer": answers, "probability": probabilities}), tmp_path / "t.parquet"
    )
    running = RunningMetrics()
    for part in np.array_split(np.arange(5000), 1 + seed):
        running.add(answers[part], logits[part], probabilities[part])
    stored = pq.read_table(tmp_path / "t.parquet")
    assert running.values()["auc"] == roc_auc_score(stored["answer"], stored["probability"])


def test_a_question_of_several_skills_is_the_mean_of_what_they_say(
    train_tiny: Callable[..., Outcome], gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Each skill is predicted from before the question, whichever comes first in the data."""
    rng = np.random.default_rng(3)
    rows = [
        (f"s{student:02}", f"q{step}", step, skill, right)
        for student in range(40)
        for step in range(8)
        for right in [int(rng.integers(2))]
        for skill in rng.permutation(["a", "b", "c"])[: rng.integers(1, 4)].tolist()
    ]
    table = pl.DataFrame(
        rows, schema=["student", "question", "order", "skill", "correct"], orient="row"
    )
    last = pl.col("order") == 7
    turned = table.with_row_index().sort(
        "student",
        "order",
        pl.when(last).then(-pl.col("index").cast(int)).otherwise(pl.col("index")),
    )
    probabilities = {}
    for name, answers in (("as it is", table), ("turned", turned.drop("index"))):
        answers.write_csv(tmp_path / f"{name}.csv")
        columns = {c: c for c in ("student", "question", "order", "skill", "correct")}
        prepare("generic", tmp_path / f"{name}.csv", tmp_path / name, **columns)
    assert train_tiny(data=tmp_path / "as it is", epochs=1).code == 0
    (run,) = (tmp_path / "out").iterdir()
    metrics = {}
    for name in ("as it is", "turned"):
        outcome = gainakt("evaluate", run, "--data", tmp_path / name, "--json")
        assert outcome.code == 0, outcome.err
        metrics[name] = json.loads(outcome.out)
        path = next(
            run.glob("predictions_test*turned*" if name == "turned" else "predictions_test.parquet")
        )
        found = pl.read_parquet(path)
        # the last question is predicted from the same past in both
        probabilities[name] = found.group_by("student", maintain_order=True).last()
    first, of_question = (
        [probabilities[name][column].to_numpy() for name in ("as it is", "turned")]
        for column in ("probability", "question_probability")
    )
    np.testing.assert_allclose(of_question[0], of_question[1], atol=1e-6)
    several = first[0] != of_question[0]
    assert several.any() and not several.all(), "some last questions have one skill"
    two = table.filter(last).group_by("student", maintain_order=True).len()["len"].to_numpy()
    tested = table["student"].unique(maintain_order=True).to_list()
    two = two[[tested.index(s) for s in probabilities["as it is"]["student"].to_list()]] == 2
    mean = (first[0] + first[1]) / 2
    np.testing.assert_allclose(mean[two], of_question[0][two], atol=1e-6)
    own = metrics["as it is"]
    assert own["question_auc"] != own["auc"]


def test_where_each_question_has_one_skill_both_levels_are_the_same(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    metrics = json.loads(gainakt("evaluate", run_copy, "--json").out)
    for name in ("auc", "accuracy", "log_loss", "brier"):
        assert metrics[f"question_{name}"] == metrics[name]
    assert "question level" not in gainakt("evaluate", run_copy).out


def test_questions_are_scored_alike_in_parts_of_any_size() -> None:
    rng = np.random.default_rng(5)
    data = dataset_of([30, 45, 12, 33], n_skills=4)
    order = np.concatenate([np.cumsum(rng.integers(2, size=n)) for n in (30, 45, 12, 33)])
    data = replace(data, rows=data.rows.replace(order=order))
    assert several_skills(data)
    predictor = predictor_of(build_model(small_config("gainsum"), data.vocabulary), 16, 4)
    whole, parts = (
        pa.concat_tables([table for _, table in predict(predictor, data, np.arange(4), size=size)])
        for size in (10_000, 40)
    )
    assert whole.num_rows > 20
    for name in ("probability", "question_probability"):
        np.testing.assert_allclose(whole[name].to_numpy(), parts[name].to_numpy(), atol=1e-6)
    assert not np.allclose(
        whole["probability"].to_numpy(), whole["question_probability"].to_numpy()
    )
