"""Evaluation by the window protocol: every answer but a student's first, each predicted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gainakt.config import Data, Evaluation
from gainakt.data.batches import bounded_ranges
from gainakt.data.interactions import Dataset
from gainakt.data.mapped import text_at
from gainakt.data.sequences import Sequences, window_sequences
from gainakt.errors import DataError
from gainakt.evaluation.metrics import RunningMetrics
from gainakt.evaluation.readout import PART_STEPS, Readout, read_in_parts
from gainakt.models.interface import KnowledgeTracer

AnyDataset = TypeVar("AnyDataset", bound=Dataset)

# A row a prediction; `position` is the answer's place in the history, from 0.
PREDICTIONS = pa.schema(
    [
        ("student", pa.string()),
        ("position", pa.int64()),
        ("skill", pa.string()),
        ("answer", pa.int8()),
        ("probability", pa.float32()),
        ("mastery", pa.float32()),
    ]
)


def check_skills(dataset: Dataset, skill_ids: tuple[str, ...]) -> None:
    """Refuse data with skills that a model was not trained on.

    Raises:
        DataError: names the first of them.
    """
    known = set(skill_ids)
    unknown = [skill for skill in dataset.skill_ids if skill not in known]
    if unknown:
        raise DataError(
            f"data set {dataset.name!r} has {len(unknown)} skills that the model was not trained "
            f"on, the first is {unknown[0]!r}; a model can only be used on skills it has seen"
        )


def with_skills_of(dataset: AnyDataset, skill_ids: tuple[str, ...]) -> AnyDataset:
    """Return the data set coded with a trained model's skills.

    Raises:
        DataError: the data set has a skill that the model was not trained on.
    """
    check_skills(dataset, skill_ids)
    if dataset.skill_ids == skill_ids:
        return dataset
    code = {skill: i for i, skill in enumerate(skill_ids)}
    mapping = np.array([code[skill] for skill in dataset.skill_ids], dtype=np.int32)
    rows = dataset.rows.replace(skill=mapping[dataset.rows.skill])
    return replace(dataset, vocabulary=replace(dataset.vocabulary, skills=skill_ids), rows=rows)


def predict(
    model: KnowledgeTracer,
    dataset: Dataset,
    students: npt.NDArray[np.integer],
    skill_ids: tuple[str, ...],
    seq_len: int,
    stride: int,
    device: torch.device,
    precision: AbstractContextManager[object] | None = None,
    size: int = PART_STEPS,
) -> Iterator[tuple[Readout, pa.Table]]:
    """Predict every answer but each student's first, from at most the `seq_len` - 1 before it.

    Yields parts of bounded size, students in the order given: the predicted steps, and the table
    of the schema `PREDICTIONS` that says the same in ids.

    Args:
        model: on `device`.
        dataset: with any codes of its skills.
        students: (n,) indices.
        skill_ids: the model's, in the order of its codes.
        seq_len: longest sequence the model reads.
        stride: see `window_sequences`.
        device: where to compute.
        precision: autocast context of the dense layers.
        size: the most rows, and steps of windows, to hold at a time.

    Raises:
        DataError: the data set has a skill that the model was not trained on.
    """
    lengths = dataset.offsets[students + 1] - dataset.offsets[students]
    for begin, end in bounded_ranges(lengths, size):
        part = with_skills_of(dataset.part(students[begin:end]), skill_ids)
        windows = window_sequences(part, np.arange(end - begin), seq_len, stride)
        for readout in read_in_parts(model, windows, device, precision=precision, steps=size):
            scored = readout.where(readout.has_next)
            yield scored, _prediction_table(part, windows, scored)


def evaluate_split(
    model: KnowledgeTracer,
    dataset: Dataset,
    skill_ids: tuple[str, ...],
    split: str,
    folds: Data,
    seq_len: int,
    evaluation: Evaluation,
    device: torch.device,
    precision: AbstractContextManager[object] | None = None,
    keep: Callable[[pa.Table], object] = lambda table: None,
) -> dict[str, Any]:
    """Return the metrics of a split, by the window protocol (see `predict`).

    Args:
        model: on `device`.
        dataset: with any codes of its skills.
        skill_ids: the model's, in the order of its codes.
        split: train, valid or test.
        folds: which students validate and test.
        seq_len: longest sequence the model reads.
        evaluation: `window_stride`.
        device: where to compute.
        precision: autocast context of the dense layers.
        keep: is handed the predictions, table by table.

    Raises:
        DataError: the split has no students, answers of one class only, or unknown skills.
    """
    students = dataset.students(split, folds.fold, folds.test_fold)
    stride = evaluation.window_stride
    running = RunningMetrics()
    for scored, table in predict(
        model, dataset, students, skill_ids, seq_len, stride, device, precision
    ):
        running.add(scored.next_answer, scored.logit, scored.probability)
        keep(table)
    values = running.values() if running.targets else {"auc": float("nan")}
    if np.isnan(values["auc"]):
        raise DataError(
            f"the {split} students of {dataset.name!r} give answers of one class only "
            f"({running.targets} targets); AUC needs right and wrong ones"
        )
    return {
        "split": split,
        "fold": folds.fold,
        "test_fold": folds.test_fold,
        "protocol": "window",
        "seq_len": seq_len,
        "window_stride": stride,
        "students": len(students),
        "targets": running.targets,
        **values,
        "auc_exact": running.auc.exact,
    }


def _prediction_table(part: Dataset, windows: Sequences, scored: Readout) -> pa.Table:
    """Windows come student by student and in order of time, and so do the rows."""
    student = windows.students[scored.sequence]
    position = windows.starts[scored.sequence] + scored.position + 1 - part.offsets[student]
    columns = [
        text_at(part.student_ids, student),
        position,
        pa.array(part.skill_ids, pa.string()).take(pa.array(scored.next_skill)),
        scored.next_answer.astype(np.int8),
        scored.probability,
        pa.array(scored.next_mastery, from_pandas=True),
    ]
    return pa.table(columns, schema=PREDICTIONS)
