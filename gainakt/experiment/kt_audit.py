"""A run's predictions in the columns that the independent tool kt-audit (0.2) reads."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import first_rows
from gainakt.evaluation.audits import headline_column
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import predict
from gainakt.experiment.opening import open_run
from gainakt.experiment.recorder import training_first_answers
from gainakt.files import replacing
from gainakt.record.folder import RunFolder

COLUMNS = ("user_id", "timestamp", "split", "kc_ids", "item_id", "y_true", "y_pred")
_SPLITS = ("train", "valid", "test")


def export_for_kt_audit(folder: RunFolder, path: Path, data: Path | None = None) -> int:
    """Write a CSV file for `kt-audit run`; return how many rows it has.

    A row is an answer of a student of any split: `timestamp` is its place in the history, `kc_ids`
    its skills behind "kc", parted by |, and `y_pred` the probability of the official figure, for a
    student's first answer what the run's training students make one expect of the skill.

    Args:
        folder: the run.
        path: of the CSV file.
        data: a prepared data set in place of the recorded one.

    Raises:
        ExperimentError: the file cannot be written.
    """
    run = open_run(folder, data)
    config = run.checkpoint.config
    prior = np.array(training_first_answers(config, run.stored))
    count = 0
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for split in _SPLITS:
            if split == "test" and not (run.stored.folds == config.data.test_fold).any():
                continue
            students = run.stored.students(split, config.data.fold, config.data.test_fold)
            part = run.stored.part(students)
            rows = _rows(part, split, _probabilities(run.predictor, part, prior))
            writer.writerows(rows)
            count += len(rows)
    return count


def _probabilities(predictor: Predictor, part: Dataset, prior: FloatArray) -> FloatArray:
    """The probability (N,) of each answer at its first row; of a student's first one the prior."""
    found: FloatArray = prior[part.rows.skill]
    begin = {name: int(part.offsets[i]) for i, name in enumerate(part.student_ids)}
    everyone: IntArray = np.arange(len(part.student_ids))
    tables = pa.concat_tables([table for _, table in predict(predictor, part, everyone)])
    names = tables["student"].to_pylist()
    row = np.array([begin[name] for name in names], np.int64) + tables["position"].to_numpy()
    found[row] = tables[headline_column(tables.column_names)].to_numpy()
    return found


def _rows(part: Dataset, split: str, probability: FloatArray) -> list[tuple[object, ...]]:
    rows, names = part.rows, part.vocabulary
    begin = np.flatnonzero(first_rows(rows.order, part.offsets)).tolist()
    end = [*begin[1:], len(rows)]
    owner = np.repeat(np.arange(len(part.student_ids)), np.diff(part.offsets))
    found: list[tuple[object, ...]] = []
    place, before = 0, -1
    for first, last in zip(begin, end, strict=True):
        student = int(owner[first])
        place = place + 1 if student == before else 0
        before = student
        skills = [f"kc{names.skills[code]}".replace("|", "/") for code in rows.skill[first:last]]
        code = 0 if rows.question is None else int(rows.question[first])
        item = names.questions[code - 1] if code else ""
        found.append(
            (
                part.student_ids[student],
                place,
                split,
                "|".join(dict.fromkeys(skills)),
                item,
                int(rows.response[first]),
                float(probability[first]),
            )
        )
    return found
