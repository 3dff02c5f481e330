"""Questions from the data to a run's figures: which are known, and what is said of the others."""

import json

import numpy as np
import polars as pl
import pytest

from gainakt.data.interactions import load_dataset
from gainakt.data.prepare import prepare
from gainakt.experiment.learning import Learning
from tests.helpers import small_config

GAINSUM = {
    "config": "gainsum",
    "num_encoder_blocks": None,
    "epochs": 12,
    "patience": 12,
    "batch_size": 8,
    "learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """120 students; the question decides the answer; only test students meet "rare"."""
    rng = np.random.default_rng(0)
    rows = []
    for student in range(120):
        fold = student % 5 if student < 100 else -1
        for step in range(12):
            question = int(rng.integers(6))
            right = int(rng.random() < (0.9 if question % 2 else 0.1))
            name = "rare" if fold == -1 and step == 5 else f"q{question}"
            rows.append((f"s{student}", name, "skill", right, step, fold))
    place = tmp_path_factory.mktemp("questions")
    names = ["student", "question", "skill", "correct", "order", "fold"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv(place / "answers.csv")
    return prepare("generic", place / "answers.csv", place / "data", **{n: n for n in names}).path


def test_only_questions_that_were_learnt_from_are_known(answers):
    dataset = load_dataset(answers)
    assert "rare" in dataset.vocabulary.questions
    learning = Learning.of(small_config("gainsum", question_ids=True), dataset)
    assert sorted(learning.vocabulary.questions) == [f"q{i}" for i in range(6)]
    assert learning.dataset.rows.question.max() == 6
    without = Learning.of(small_config("gainsum"), dataset)
    assert without.vocabulary.n_questions == 0


def test_ids_are_learnt_from_and_unknown_ones_are_counted(answers, train_tiny, gainakt, tmp_path):
    figures = {}
    for ids in (True, False):
        out = tmp_path / str(ids)
        outcome = train_tiny(data=answers, out=out, question_ids=ids, **GAINSUM)
        assert outcome.code == 0, outcome.err
        (run,) = out.iterdir()
        evaluated = gainakt("evaluate", run, "--json")
        figures[ids] = json.loads(evaluated.out)
        assert ("20 of 240 rows are of questions that the model did not" in evaluated.err) is ids
    assert figures[True]["unknown_questions"] == 20
    assert "unknown_questions" not in figures[False]
    assert figures[True]["auc"] > 0.75 > 0.65 > figures[False]["auc"]
