"""What every row must fulfil before anything is written, and errors that say where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dataframely as dy
import polars as pl

from gainakt.data.interactions import TEST_FOLD
from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT
from gainakt.data.sources import FILE, ITEM, ROW
from gainakt.errors import DataError

_MAX_FOLD = 126
_IDS = (STUDENT, SKILL, QUESTION)


def _filled(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars().str.len_bytes() > 0


def _printable(column: str) -> pl.Expr:
    return ~pl.col(column).str.contains(r"[\x00-\x1f\x7f]")


def _number(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)


class RawRows(dy.Schema):
    """Rows as the source spells them, all text; a rule is named ``column__reason``."""

    row = dy.Int64()
    student_id = dy.String(nullable=True)
    skill_id = dy.String(nullable=True)
    question_id = dy.String(nullable=True)
    correct = dy.String(nullable=True)
    fold = dy.String(nullable=True)

    @dy.rule()
    def student_id__missing(cls) -> pl.Expr:
        return _filled(STUDENT)

    @dy.rule()
    def skill_id__missing(cls) -> pl.Expr:
        return _filled(SKILL)

    @dy.rule()
    def question_id__missing(cls) -> pl.Expr:
        return _filled(QUESTION)

    @dy.rule()
    def student_id__unprintable(cls) -> pl.Expr:
        return _printable(STUDENT)

    @dy.rule()
    def skill_id__unprintable(cls) -> pl.Expr:
        return _printable(SKILL)

    @dy.rule()
    def question_id__unprintable(cls) -> pl.Expr:
        return _printable(QUESTION)

    @dy.rule()
    def correct__not_binary(cls) -> pl.Expr:
        return _number(CORRECT).is_in([0.0, 1.0]).fill_null(False)

    @dy.rule()
    def fold__not_a_fold(cls) -> pl.Expr:
        fold = pl.col(FOLD).str.strip_chars().cast(pl.Int64, strict=False)
        return fold.is_between(TEST_FOLD, _MAX_FOLD).fill_null(False)


_ALLOWED = {
    "missing": "an id is missing; every row needs one",
    "unprintable": "an id may not hold line breaks or other control characters "
    "(often a sign of broken quoting)",
    "not_binary": "only 0 and 1 are allowed",
    "not_a_fold": f"only whole numbers from {TEST_FOLD} (test) to {_MAX_FOLD} are allowed",
}
_PLACEHOLDERS = {SKILL: "-", QUESTION: "-", CORRECT: "0", FOLD: "0"}


def check_rows(rows: pl.DataFrame, file: str, columns: Mapping[str, str]) -> pl.DataFrame:
    """Typed rows from rows of text, every one of them checked.

    ``rows`` has ``row``, optional ``item``, and table columns as text; ``columns`` maps those to
    the names the source uses, for messages. Raises DataError that names the first bad cell: file,
    row, column, value, what is allowed, and how many rows are bad in all.
    """
    absent = {
        name: pl.lit(text) for name, text in _PLACEHOLDERS.items() if name not in rows.columns
    }
    checked = rows.with_columns(**absent).select(RawRows.column_names())
    # The rows themselves would be copied row by row into the failure: positions are enough.
    checked = checked.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    _, failures = RawRows.filter(checked)
    if len(failures):
        _raise_first(rows, failures, file, columns)
    integers = {CORRECT: _number(CORRECT).cast(pl.Int8)}
    if FOLD in rows.columns:
        integers[FOLD] = pl.col(FOLD).str.strip_chars().cast(pl.Int8)
    return rows.with_columns(pl.lit(file).alias(FILE), **integers)


def _raise_first(rows: pl.DataFrame, failures: Any, file: str, columns: Mapping[str, str]) -> None:
    details = failures.details().sort(ROW).row(0, named=True)
    rule = next(name for name in failures.counts() if details[name] == "invalid")
    column, _, reason = rule.partition("__")
    row = rows.row(details[ROW], named=True)
    raise bad_cell(
        file, row, columns.get(column, column), row[column], _ALLOWED[reason], len(failures)
    )


def bad_cell(
    file: str, row: Mapping[str, Any], column: str, value: Any, allowed: str, count: int = 1
) -> DataError:
    """The error for one cell of ``row``, which has ``row`` and, if the cell is a list, ``item``."""
    shown = "empty" if value is None or value == "" else repr(str(value)[:60])
    item = f", item {row[ITEM]}" if ITEM in row else ""
    total = "" if count == 1 else f" ({count} rows are bad, this is the first)"
    return DataError(f"{file}, row {row[ROW]}, column {column!r}{item}: {shown}; {allowed}{total}")


def parse_times(
    rows: pl.DataFrame, column: str, file: str, source: str, *, whole: bool
) -> pl.Series:
    """A column of text as numbers or, where it holds ISO dates, as milliseconds since 1970.

    ``whole`` allows integers only. Raises DataError at the first cell that is neither.
    """
    text = rows.get_column(column).str.strip_chars()
    for kind in (pl.Int64,) if whole else (pl.Int64, pl.Float64):
        numbers = text.cast(kind, strict=False)
        if kind == pl.Float64:
            numbers = numbers.fill_nan(None)
        if not numbers.has_nulls():
            return numbers
    dates = text.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    if not dates.has_nulls():
        return dates.cast(pl.Int64)
    best = min((numbers, dates), key=lambda parsed: parsed.null_count())
    row = rows.filter(best.is_null()).row(0, named=True)
    kind_name = "whole numbers" if whole else "numbers"
    allowed = f"only {kind_name} or ISO dates such as 2015-03-01T09:30:00 are allowed"
    raise bad_cell(file, row, source, row[column], allowed, best.null_count())


def check_folds(rows: pl.DataFrame) -> None:
    """Raise DataError for a student whose rows lie in two folds."""
    first = rows.select(
        FILE,
        ROW,
        STUDENT,
        FOLD,
        pl.col(FOLD, ROW, FILE).first().over(STUDENT).name.prefix("first_"),
    )
    clash = first.filter(pl.col(FOLD) != pl.col("first_fold"))
    if not clash.is_empty():
        row = clash.row(0, named=True)
        students = clash.get_column(STUDENT).n_unique()
        raise DataError(
            f"student {row[STUDENT]!r} is in two folds: {row['first_fold']} "
            f"({row['first_file']}, row {row['first_row']}) and {row[FOLD]} "
            f"({row[FILE]}, row {row[ROW]}); a student belongs to one fold only "
            f"({students} such student{'s' if students > 1 else ''})"
        )


def check_answers(rows: pl.DataFrame) -> None:
    """Raise DataError where the rows of one interaction (its skills) differ in ``correct``.

    ``rows`` are sorted by student and order, so that neighbours tell.
    """
    before = pl.col(STUDENT, ORDER, CORRECT, ROW).shift().name.prefix("before_")
    same = (pl.col(STUDENT) == pl.col("before_" + STUDENT)) & (
        pl.col(ORDER) == pl.col("before_" + ORDER)
    )
    clash = rows.with_columns(before).filter(same & (pl.col(CORRECT) != pl.col("before_correct")))
    if not clash.is_empty():
        row = clash.row(0, named=True)
        raise DataError(
            f"{row[FILE]}, rows {row['before_row']} and {row[ROW]}: student {row[STUDENT]!r} "
            "answered one question at one point in two ways; rows with the same student, order and "
            "question are the skills of one answer and must agree"
        )
