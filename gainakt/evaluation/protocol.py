"""Evaluation by the window protocol: every answer but a student's first, each predicted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from gainakt.arrays import IntArray
from gainakt.config import Data
from gainakt.data.batches import bounded_ranges
from gainakt.data.interactions import Dataset
from gainakt.data.mapped import text_at
from gainakt.data.pooling import several_skills
from gainakt.data.rows import UNKNOWN
from gainakt.data.sequences import Sequences
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError
from gainakt.evaluation.metrics import RunningMetrics
from gainakt.evaluation.predictor import PART_STEPS, Predictor
from gainakt.evaluation.readout import Readout

AnyDataset = TypeVar("AnyDataset", bound=Dataset)

# A row a prediction; `position` is the answer's place in the history, from 0.
PREDICTIONS = pa.schema(
    [
        ("student", pa.string()),
        ("position", pa.int64()),
        ("skill", pa.string()),
        ("answer", pa.int8()),
        ("probability", pa.float64()),
        ("mastery", pa.float64()),
    ]
)


# Where questions have several skills: the mean of what their skills say (late mean).
OF_QUESTION = "question_probability"


def predictions_schema(dataset: Dataset) -> pa.Schema:
    """Return the columns of a table of predictions of a data set."""
    if not several_skills(dataset):
        return PREDICTIONS
    return PREDICTIONS.append(pa.field(OF_QUESTION, pa.float64()))


def check_skills(dataset: Dataset, vocabulary: Vocabulary) -> None:
    """Refuse data with skills that a model was not trained on.

    Raises:
        DataError: names the first of them.
    """
    unknown = [skill for skill in dataset.skill_ids if vocabulary.skill_code(skill) is None]
    if unknown:
        raise DataError(
            f"data set {dataset.name!r} has {len(unknown)} skills that the model was not trained "
            f"on, the first is {unknown[0]!r}; a model can only be used on skills it has seen"
        )


def coded(dataset: AnyDataset, vocabulary: Vocabulary) -> AnyDataset:
    """Return the data set coded with a trained model's vocabulary.

    A question that the model does not know becomes the unknown one.

    Raises:
        DataError: the data set has a skill that the model was not trained on.
    """
    check_skills(dataset, vocabulary)
    rows = dataset.rows
    if dataset.skill_ids != vocabulary.skills:
        rows = rows.replace(skill=vocabulary.skill_codes(dataset.skill_ids)[rows.skill])
    if rows.question is not None and dataset.vocabulary.questions is not vocabulary.questions:
        questions = vocabulary.question_codes(dataset.vocabulary.questions)
        rows = rows.replace(question=np.append(np.int32(UNKNOWN), questions)[rows.question])
    return replace(dataset, vocabulary=vocabulary, rows=rows)


def predict(
    predictor: Predictor,
    dataset: Dataset,
    students: IntArray,
    size: int = PART_STEPS,
) -> Iterator[tuple[Readout, pa.Table]]:
    """Predict every answer but each student's first, from at most the `seq_len` - 1 before it.

    Yields parts of bounded size, students in the order given: the predicted steps, and the table
    of the schema `predictions_schema` that says the same in ids.

    Args:
        predictor: what reads the histories.
        dataset: with any codes of its skills.
        students: (n,) indices.
        size: the most rows, and steps of windows, to hold at a time.

    Raises:
        DataError: the data set has a skill that the model was not trained on.
    """
    lengths = dataset.offsets[students + 1] - dataset.offsets[students]
    schema = predictions_schema(dataset)
    for begin, end in bounded_ranges(lengths, size):
        part = predictor.steps_of(coded(dataset.part(students[begin:end]), predictor.vocabulary))
        windows = predictor.windows(part, np.arange(end - begin))
        for readout in predictor.parts(windows, steps=size):
            scored = readout.where(readout.has_next)
            table = _prediction_table(part, windows, scored)
            if OF_QUESTION in schema.names:
                of_questions = predictor.of_questions(windows, scored)
                table = table.append_column(schema.field(OF_QUESTION), pa.array(of_questions))
            yield scored, table


def evaluate_split(
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    folds: Data,
    keep: Callable[[pa.Table], object] = lambda table: None,
) -> dict[str, Any]:
    """Return the metrics of a split, by the window protocol (see `predict`).

    Args:
        predictor: what reads the histories.
        dataset: with any codes of its skills.
        split: train, valid or test.
        folds: which students validate and test.
        keep: is handed the predictions, table by table.

    Raises:
        DataError: the split has no students, answers of one class only, or unknown skills.
    """
    students = dataset.students(split, folds.fold, folds.test_fold)
    running, questions = RunningMetrics(), RunningMetrics()
    for scored, table in predict(predictor, dataset, students):
        running.add(scored.next_answer, scored.logit, scored.probability)
        if OF_QUESTION in table.column_names:
            mean = table[OF_QUESTION].to_numpy()
            questions.add(scored.next_answer, np.log(mean) - np.log1p(-mean), mean)
        keep(table)
    values = running.values() if running.targets else {"auc": float("nan")}
    if np.isnan(values["auc"]):
        raise DataError(
            f"the {split} students of {dataset.name!r} give answers of one class only "
            f"({running.targets} targets); AUC needs right and wrong ones"
        )
    # where each question has one skill, the same figures to the last digit
    of_questions = questions.values() if questions.targets else values
    return {
        "split": split,
        "fold": folds.fold,
        "test_fold": folds.test_fold,
        "protocol": "window",
        "seq_len": predictor.reading.seq_len,
        "window_stride": predictor.reading.stride,
        "students": len(students),
        "targets": running.targets,
        **values,
        **{f"question_{name}": value for name, value in of_questions.items()},
        "auc_exact": running.auc.exact,
    }


def _prediction_table(part: Dataset, windows: Sequences, scored: Readout) -> pa.Table:
    """Windows come student by student and in order of time, and so do the rows."""
    student = windows.students[scored.sequence]
    row = windows.starts[scored.sequence] + scored.position + 1
    columns = [
        text_at(part.student_ids, student),
        part.places(student, row),
        pa.array(part.skill_ids, pa.string()).take(pa.array(scored.next_skill)),
        scored.next_answer.astype(np.int8),
        scored.probability,
        pa.array(scored.next_mastery, from_pandas=True),
    ]
    return pa.table(columns, schema=PREDICTIONS)
