"""Learning from teachers: models of other seeds on the same students."""

import json

import numpy as np
import pytest

from gainakt.config import load_config
from gainakt.data.batches import make_batch
from gainakt.training.distillation import soft_answers, teacher_config, teacher_seed
from tests.helpers import sequences_of

NAN = float("nan")


def test_soft_answers_by_hand():
    # means 0.6, 0.3 and none; 0.25 * answer + 0.75 * mean
    teachers = [np.array([0.5, 0.2, NAN], "float32"), np.array([0.7, 0.4, NAN], "float32")]
    soft = soft_answers(np.array([1, 0, 1]), teachers, 0.75)
    assert soft == pytest.approx([0.25 + 0.75 * 0.6, 0.75 * 0.3, 1.0])


def test_the_batch_learns_the_soft_answer_of_the_next_step():
    from dataclasses import replace

    sequences = sequences_of([(0, 1), (1, 0), (2, 1)])
    batch = make_batch(sequences, np.arange(1))
    assert batch.target[batch.has_next].tolist() == [0.0, 1.0]
    soft = replace(sequences, soft_answers=np.array([0.9, 0.25, 0.75], "float32"))
    softer = make_batch(soft, np.arange(1))
    assert softer.target[softer.has_next].tolist() == [0.25, 0.75]
    assert softer.next_response.tolist() == batch.next_response.tolist()


def test_teachers_have_seeds_of_their_own_and_no_teachers():
    config = load_config(None, {"teachers": 3, "teacher_epochs": 2, "epochs": 9})
    teachers = [teacher_config(config, number) for number in (1, 2, 3)]
    seeds = {t.runtime.seed for t in teachers} | {config.runtime.seed}
    assert len(seeds) == 4
    assert {(t.training.teachers, t.training.epochs) for t in teachers} == {(0, 2)}
    assert teacher_seed(42, 1) != teacher_seed(43, 1)


def test_teachers_of_an_answer_free_model_read_answers():
    config = load_config("gainsum", {"weights": "skills_only", "dropout": 0.05, "teachers": 1})
    teacher = teacher_config(config, 1).model
    assert (teacher.weights, teacher.dropout) == ("in_context", 0.2)
    assert teacher.pooled_skills and teacher.question_ids


def test_a_run_learns_from_teachers_and_repeats_to_the_bit(train_tiny, gainakt, tmp_path):
    assert train_tiny(teachers=2, teacher_epochs=1).code == 0
    (run,) = (tmp_path / "out").iterdir()
    assert sorted(p.name for p in run.glob("teacher_*.npy")) == ["teacher_1.npy", "teacher_2.npy"]
    log = (run / "stdout.log").read_text()
    assert "teacher 2/2, epoch 1/1: validation AUC" in log
    outcome = gainakt("reproduce", run)
    assert outcome.out.endswith("verdict: IDENTICAL\n")


def test_teachers_never_predict_validation_or_test_answers(train_tiny, tmp_path, tiny_data):
    from gainakt.data.interactions import load_dataset

    assert train_tiny(teachers=1, teacher_epochs=1, epochs=1).code == 0
    (run,) = (tmp_path / "out").iterdir()
    told = np.load(run / "teacher_1.npy")
    dataset = load_dataset(tiny_data)
    predicted = np.flatnonzero(~np.isnan(told))
    student = np.searchsorted(dataset.offsets, predicted, side="right") - 1
    assert set(student.tolist()) <= set(dataset.students("train", 0).tolist())
    assert len(predicted) > 0


def test_a_resumed_run_does_not_train_its_teachers_again(train_tiny, gainakt, tmp_path):
    assert train_tiny(teachers=1, teacher_epochs=1).code == 0
    (run,) = (tmp_path / "out").iterdir()
    metrics = (run / "metrics_epoch.csv").read_bytes()
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "status": "running"}))
    for name in ("state_last.pt", "model_best.safetensors", "model_last.safetensors"):
        (run / name).unlink()
    teacher = (run / "teacher_1.npy").stat().st_mtime_ns
    assert gainakt("resume", run).code == 0
    assert (run / "teacher_1.npy").stat().st_mtime_ns == teacher
    assert (run / "metrics_epoch.csv").read_bytes() == metrics
