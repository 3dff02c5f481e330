"""Predictions of another tool: matched with the data, audited as far as possible, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gainakt.arrays import IntArray
from gainakt.config import Config, load_config
from gainakt.data.interactions import TEST_FOLD, Dataset, load_dataset
from gainakt.data.pooling import first_rows
from gainakt.errors import DataError, ExperimentError
from gainakt.evaluation.audits import Finding, Outcome, predicted
from gainakt.evaluation.metrics import RunningMetrics, auc
from gainakt.evaluation.protocol import PREDICTIONS
from gainakt.evaluation.within import within_figures
from gainakt.experiment.audit import (
    SAMPLES,
    Audited,
    duplicates,
    fitted_baseline,
    not_applicable,
    too_good,
)
from gainakt.files import file_hash, replacing
from gainakt.record.external import ExternalFolder
from gainakt.record.folder import write_json

# What a column may be called, where the user does not say.
NAMES = {
    "student": ("student", "student_id", "user_id", "uid"),
    "position": ("position", "timestamp", "order"),
    "answer": ("answer", "correct", "y_true", "label", "true"),
    "probability": ("probability", "y_pred", "prediction", "pred", "score"),
}
# Beyond this, answers to further skills of a question are known too well.
SIBLING_MARGIN = 0.05
_NEEDS_THE_MODEL = "A table of predictions cannot be asked again; this audit needs the model."

Table = dict[str, Any]


def audit_predictions(
    file: Path,
    data: Path,
    out: Path,
    *,
    name: str,
    columns: Mapping[str, str | None],
    fold: int = 0,
    test_fold: int = TEST_FOLD,
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> tuple[ExternalFolder, Audited]:
    """Audit a table of predictions, and keep it in a folder that a leaderboard reads as a training.

    Args:
        file: CSV or Parquet, a row a prediction.
        data: the prepared data set that they are of.
        out: where the folder `name` is made.
        name: of the model.
        columns: what the columns are called, None where one of `NAMES` is.
        fold, test_fold, seed: how the model was trained; its training students are the others.
        say: is told what is being done.

    Raises:
        DataError: the table is not of these data.
        ExperimentError: the folder exists already or cannot be written.
    """
    dataset = load_dataset(data)
    rows = read_foreign(file, columns)
    matched = match(rows, dataset, str(file))
    folder = ExternalFolder(out / name)
    if folder.path.exists():
        raise ExperimentError(f"{folder.path} exists already; choose another --name")
    students = np.unique(matched["code"])
    first = matched["first"]
    table = {n: matched[n][first] for n in PREDICTIONS.names if n in matched}
    config = load_config(None, {"fold": fold, "test_fold": test_fold, "seed": seed})
    training = dataset.students("train", fold, test_fold)
    say("looking for students in two splits")
    findings = [
        *not_applicable(["causality"], _NEEDS_THE_MODEL),
        _siblings(matched),
        duplicates(dataset, students, dataset, training),
        *not_applicable(["shuffled answers"], _NEEDS_THE_MODEL),
    ]
    say("fitting logistic regression on the training students")
    findings.append(_beside_baseline(config, dataset, students, table, seed))
    audited = Audited(name, dataset.name, "test", findings)
    _keep(folder, table, dataset, audited, {"fold": fold, "test_fold": test_fold, "seed": seed})
    return folder, audited


def read_foreign(file: Path, columns: Mapping[str, str | None]) -> pl.DataFrame:
    """Read a table of predictions under our names; position may be lacking.

    Raises:
        DataError: it cannot be read, or a column is missing or holds something impossible.
    """
    try:
        if file.suffix == ".parquet":
            read = pl.read_parquet(file)
        else:
            read = pl.read_csv(file, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file} cannot be read as a table: {error}") from None
    found = {}
    for column, names in NAMES.items():
        wanted = columns.get(column)
        name = wanted or next((n for n in names if n in read.columns), None)
        if name is None and column == "position":
            continue
        if name is None or name not in read.columns:
            raise DataError(
                f"{file} has no column {wanted or ' or '.join(names)} for the {column}; it has "
                f"{', '.join(read.columns)}. Name it with --{column}"
            )
        found[column] = name
    rows = read.select(pl.col(name).alias(column) for column, name in found.items())
    types = {"position": pl.Int64, "answer": pl.Float64, "probability": pl.Float64}
    casts = [pl.col(c).cast(t, strict=False) for c, t in types.items() if c in rows.columns]
    rows = rows.with_columns(pl.col("student").cast(pl.String), *casts)
    if rows.null_count().sum_horizontal().item():
        raise DataError(f"{file} has empty cells, or text where there should be numbers")
    if not rows["answer"].is_in([0.0, 1.0]).all():
        raise DataError(f"{file}, column {found['answer']}: answers must be 0 or 1")
    if not rows["probability"].is_between(0, 1).all():
        raise DataError(f"{file}, column {found['probability']}: must be between 0 and 1")
    return rows


def match(rows: pl.DataFrame, dataset: Dataset, file: str) -> Table:
    """Return the predictions with the row of the data that each is of, in the order of the data.

    A position counts the rows of a student's history from 0. Without positions a student's
    predictions are those of all rows of the history, or of all but the first, in order.

    Returns:
        student, position, skill, answer, probability as an evaluation has them; code: the student's
        index; first: whether it is a question's first row and not the student's first.

    Raises:
        DataError: a student, a place or an answer is not that of the data.
    """
    codes = {name: i for i, name in enumerate(dataset.student_ids)}
    names = rows["student"].to_list()
    strangers = [name for name in names if name not in codes]
    if strangers:
        raise DataError(
            f"{file}: student {strangers[0]!r} is not in data set {dataset.name!r}; "
            f"{len(set(strangers))} are not"
        )
    code = np.array([codes[name] for name in names], np.int64)
    lengths = dataset.offsets[code + 1] - dataset.offsets[code]
    if "position" in rows.columns:
        position = rows["position"].to_numpy()
    else:
        position = _places(code, dataset, file)
    outside = (position < 0) | (position >= lengths)
    if outside.any():
        n = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"{file}, row {n + 1}: position {position[n]} is outside the history of "
            f"{names[n]!r}, which has {lengths[n]} rows, counted from 0"
        )
    row = dataset.offsets[code] + position
    order = np.argsort(row, kind="stable")
    row, code, position = row[order], code[order], position[order]
    if len(row) > 1 and (np.diff(row) == 0).any():
        n = int(np.flatnonzero(np.diff(row) == 0)[0])
        raise DataError(
            f"{file}: position {position[n]} of {dataset.student_ids[int(code[n])]!r} is "
            "predicted twice"
        )
    answer = rows["answer"].to_numpy()[order].astype(np.int8)
    wrong = answer != dataset.rows.response[row]
    if wrong.any():
        n = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{file}: {wrong.sum():,} of {len(wrong):,} answers are not those of the data, the "
            f"first is that of {dataset.student_ids[int(code[n])]!r} at position {position[n]}; "
            "positions count the rows of a history from 0"
        )
    is_first = first_rows(dataset.rows.order, dataset.offsets)
    skills = np.array(dataset.vocabulary.skills, object)
    return {
        "student": np.array([dataset.student_ids[int(c)] for c in code], object),
        "position": position,
        "skill": skills[dataset.rows.skill[row]],
        "answer": answer,
        "probability": rows["probability"].to_numpy()[order],
        "code": code,
        "first": is_first[row] & (position > 0),
        "sibling": ~is_first[row],
    }


def _places(code: IntArray, dataset: Dataset, file: str) -> IntArray:
    """The place of each prediction, from its number among those of its student."""
    position = np.empty(len(code), np.int64)
    for student in np.unique(code).tolist():
        mine = np.flatnonzero(code == student)
        length = int(dataset.offsets[student + 1] - dataset.offsets[student])
        if len(mine) not in (length, length - 1):
            raise DataError(
                f"{file}: {len(mine)} predictions of {dataset.student_ids[student]!r}, whose "
                f"history has {length} rows; say with --position which they are of"
            )
        position[mine] = np.arange(len(mine)) + length - len(mine)
    return position


def _siblings(matched: Table) -> Finding:
    """Further skills of a question, if they are predicted: are they known better than the first?"""
    sibling, first = matched["sibling"], matched["first"]
    answer, probability = matched["answer"], matched["probability"]
    of = [auc(answer[rows], probability[rows]) for rows in (sibling, first)]
    if not sibling.any() or np.isnan(of).any():
        why = "No question is predicted at its further skills."
        return not_applicable(["sibling skills"], why)[0]
    good = of[0] - of[1] <= SIBLING_MARGIN
    return Finding(
        "sibling skills",
        Outcome.PASS if good else Outcome.FAIL,
        f"AUC {of[0]:.4f} at the further skills of questions, {of[1]:.4f} at the first "
        f"(suspected beyond {SIBLING_MARGIN:+.2f})"
        + ("." if good else ": the answer reached them through the first."),
        {"auc_further": of[0], "auc_first": of[1]},
    )


def _beside_baseline(
    config: Config, dataset: Dataset, students: IntArray, table: Table, seed: int
) -> Finding:
    baseline = predicted(fitted_baseline(config, dataset, torch.device("cpu")), dataset, students)
    keys = [
        pl.DataFrame({"student": of["student"].tolist(), "position": of["position"]})
        for of in (baseline, table)
    ]
    same = keys[0].with_row_index("row").join(keys[1], on=["student", "position"], how="semi")
    rows = same["row"].to_numpy()
    return too_good(table, {name: values[rows] for name, values in baseline.items()}, seed)


def _keep(
    folder: ExternalFolder, table: Table, dataset: Dataset, audited: Audited, how: dict[str, int]
) -> None:
    running = RunningMetrics()
    probability = np.clip(table["probability"], 1e-15, 1 - 1e-15)
    logit = np.log(probability) - np.log1p(-probability)
    running.add(table["answer"], logit, table["probability"])
    columns = table["student"], table["skill"], table["answer"], table["probability"]
    within = within_figures(*columns, SAMPLES, how["seed"])
    metrics = running.values() | {
        "targets": running.targets,
        "within": {n: {"auc": f.value, "low": f.low, "high": f.high} for n, f in within.items()},
    }
    folder.path.mkdir(parents=True)
    mastery = {"mastery": np.full(running.targets, np.nan)}
    values = {n: pa.array(v, from_pandas=True) for n, v in (table | mastery).items()}
    with replacing(folder.predictions) as temporary:
        arrays = [values[n].cast(PREDICTIONS.field(n).type) for n in PREDICTIONS.names]
        pq.write_table(pa.table(arrays, schema=PREDICTIONS), temporary)
    write_json(folder.audit, audited.as_dict())
    record = {
        "name": audited.of,
        "data": {n: dataset.manifest[n] for n in ("name", "interactions_sha256")},
        "metrics": metrics,
        "predictions_sha256": file_hash(folder.predictions),
        **how,
    }
    write_json(folder.record, record)
