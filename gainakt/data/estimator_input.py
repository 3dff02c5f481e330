"""Histories as estimators take them: arrays of students and skills, answers y, groups."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from gainakt.data.tables import LongTable
from gainakt.errors import DataError


def as_table(X: Any, names: tuple[str, str, str]) -> Any:
    """Return X as a table: itself where it has columns, else its two or three columns named.

    Args:
        X: a data frame; or an array (n, 2) of student and skill, or (n, 3) with the answer, which
            may be in a frame whose columns are but counted.
        names: of the columns of student, skill and answer.

    Raises:
        DataError: it is neither.
    """
    # asked of the class: a lazy frame would set to work
    if hasattr(type(X), "columns") and (isinstance(X, pl.LazyFrame) or not _unnamed(X)):
        return X
    if hasattr(X, "toarray"):
        raise DataError("X is sparse; students and skills come in a table or a dense array")
    cells = np.asarray(X, dtype=object)
    if cells.ndim != 2 or cells.shape[1] not in (2, 3):
        raise DataError(
            f"X of shape {cells.shape}: must be a polars or pandas DataFrame, or an array of two "
            "columns, student and skill, and a third where answers are known"
        )
    columns = {
        name: [spell(cell) or None for cell in column]
        for name, column in zip(names, cells.T, strict=False)
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _unnamed(X: Any) -> bool:
    """Return whether a frame's columns are but counted, as pandas does with an array's."""
    labels = getattr(X, "columns", ())
    return len(labels) > 0 and all(isinstance(label, int | np.integer) for label in labels)


def spell(cell: Any) -> str:
    """Return a cell of an array as text: whole numbers without a fraction, missing ones empty.

    The same student is 3 in an array of whole numbers and 3.0 in one that has empty cells.
    """
    if is_missing(cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating | Decimal):
        if not math.isfinite(cell):
            return ""
        return str(int(cell) if cell == int(cell) else cell)
    return str(cell)


def is_missing(cell: Any) -> bool:
    """Return whether a cell says that nothing is there: None, not a number, not a time, NA."""
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ArithmeticError):  # pandas' NA is neither true nor false
        return True


def answers_of(y: Any, rows: int) -> npt.NDArray[np.int8]:
    """Return the answers (n,) to `rows` rows.

    Raises:
        DataError: there is not one for each row, or one is not 0 or 1: which.
    """
    if y is None:
        raise DataError(
            "an estimator requires y to be passed, but the target y is None: it must hold the "
            "answer, 0 or 1, to each row of X"
        )
    values = np.asarray(y)
    if values.ndim != 1:
        raise DataError(f"y of shape {values.shape}: must have one dimension, an answer for a row")
    if len(values) != rows:
        raise DataError(f"X has {rows} rows and y {len(values)} answers: one for a row is needed")
    numbers = values
    if values.dtype.kind not in "biuf":
        kinds = int | float | np.number | np.bool_
        numbers = np.array([v if isinstance(v, kinds) else np.nan for v in values], dtype=float)
    right: npt.NDArray[np.int8] = (numbers == 1).astype(np.int8)
    bad = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(bad):
        count = f" ({len(bad)} rows are bad, this is the first)" if len(bad) > 1 else ""
        value = values[bad].tolist()[0]
        raise DataError(f"y, row {bad[0] + 1}: {value!r}; only 0 and 1 are allowed{count}")
    return right


def group_of_student(groups: Any, table: LongTable) -> npt.NDArray[np.int64]:
    """Return the number (S,) of each student's group.

    Args:
        groups: (n,) by row of the table.
        table: the students.

    Raises:
        DataError: there is not one for each row, or a student is in two.
    """
    values = np.asarray(groups)
    if values.shape != (len(table.rows),):
        raise DataError(
            f"groups of shape {values.shape}: must have one dimension, a group for each of "
            f"{len(table.rows)} rows"
        )
    number: npt.NDArray[np.int64] = np.unique(values[table.rows], return_inverse=True)[1]
    begins = table.dataset.offsets[:-1]
    for student, low, high in zip(
        table.dataset.student_ids,
        np.minimum.reduceat(number, begins),
        np.maximum.reduceat(number, begins),
        strict=True,
    ):
        if low != high:
            raise DataError(f"student {student!r} is in two groups; a student belongs to one only")
    return np.asarray(number[begins])
