"""Evaluation by the window protocol: every answer but a student's first, each predicted once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gainakt.config import Data, Evaluation
from gainakt.data.batches import Sequences, window_sequences
from gainakt.data.interactions import Dataset
from gainakt.errors import DataError
from gainakt.evaluation.metrics import accuracy, auc, brier, log_loss
from gainakt.evaluation.readout import Readout, read_out
from gainakt.models.interface import KnowledgeTracer

AnyDataset = TypeVar("AnyDataset", bound=Dataset)


@dataclass(frozen=True, eq=False)
class Scores:
    """The metrics of a split, and the table of every prediction behind them."""

    metrics: dict[str, Any]
    predictions: pa.Table


def with_skills_of(dataset: AnyDataset, skill_ids: tuple[str, ...]) -> AnyDataset:
    """Return the data set coded with a trained model's skills.

    Raises:
        DataError: the data set has a skill that the model was not trained on.
    """
    code = {skill: i for i, skill in enumerate(skill_ids)}
    unknown = [skill for skill in dataset.skill_ids if skill not in code]
    if unknown:
        raise DataError(
            f"data set {dataset.name!r} has {len(unknown)} skills that the model was not trained "
            f"on, the first is {unknown[0]!r}; a model can only be used on skills it has seen"
        )
    mapping = np.array([code[skill] for skill in dataset.skill_ids], dtype=np.int32)
    return replace(dataset, skill_ids=skill_ids, skills=mapping[dataset.skills])


def evaluate_split(
    model: KnowledgeTracer,
    dataset: Dataset,
    split: str,
    folds: Data,
    seq_len: int,
    evaluation: Evaluation,
    device: torch.device,
    precision: AbstractContextManager[object] | None = None,
) -> Scores:
    """Score every answer but each student's first, from at most the `seq_len` - 1 before it.

    Args:
        model: on `device`.
        dataset: coded with the model's skills.
        split: train, valid or test.
        folds: which students validate and test.
        seq_len: longest sequence the model reads.
        evaluation: `window_stride`.
        device: where to compute.
        precision: autocast context of the dense layers.

    Raises:
        DataError: the split has no students, or answers of one class only.
    """
    students = dataset.students(split, folds.fold, folds.test_fold)
    sequences = window_sequences(dataset, students, seq_len, evaluation.window_stride)
    readout = read_out(model, sequences, device, precision=precision)
    scored = readout.where(readout.has_next)
    if len(np.unique(scored.next_answer)) < 2:
        raise DataError(
            f"the {split} students of {dataset.name!r} give answers of one class only "
            f"({len(scored.next_answer)} targets); AUC needs right and wrong ones"
        )
    metrics = {
        "split": split,
        "fold": folds.fold,
        "test_fold": folds.test_fold,
        "protocol": "window",
        "seq_len": seq_len,
        "window_stride": evaluation.window_stride,
        "students": len(students),
        "targets": len(scored.next_answer),
        "auc": auc(scored.next_answer, scored.logit),
        "accuracy": accuracy(scored.next_answer, scored.probability),
        "log_loss": log_loss(scored.next_answer, scored.logit),
        "brier": brier(scored.next_answer, scored.probability),
    }
    return Scores(metrics, _prediction_table(dataset, sequences, scored))


def _prediction_table(dataset: Dataset, sequences: Sequences, scored: Readout) -> pa.Table:
    """One row a prediction: student, position in the history (from 0), skill, answer, ..."""
    student = sequences.students[scored.sequence]
    position = sequences.starts[scored.sequence] + scored.position + 1 - dataset.offsets[student]
    ids = np.asarray(dataset.student_ids, dtype=object)
    skills = np.asarray(dataset.skill_ids, dtype=object)
    order = np.lexsort((position, student))

    def column(values: npt.NDArray[Any]) -> pa.Array:
        return pa.array(values[order], from_pandas=True)

    return pa.table(
        {
            "student": pa.array(ids[student][order], pa.string()),
            "position": column(position),
            "skill": pa.array(skills[scored.next_skill][order], pa.string()),
            "answer": column(scored.next_answer.astype(np.int8)),
            "probability": column(scored.probability),
            "mastery": column(scored.next_mastery),
        }
    )
