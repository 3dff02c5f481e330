"""Any CSV or Parquet table with an answer a row: the options say which column is which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    ROW,
    Reader,
    Reading,
    as_text,
    check_columns,
    fingerprint,
    read_csv,
)
from gainakt.data.validation import check_rows, parse_times
from gainakt.errors import DataError

_OPTION_COLUMNS = {
    "student": STUDENT,
    "skill": SKILL,
    "correct": CORRECT,
    "order": ORDER,
    "timestamp": TIMESTAMP,
    "question": QUESTION,
    "fold": FOLD,
}
_PARQUET_SUFFIXES = (".parquet", ".pq")
_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t"}


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the table ``source`` with the column mapping in ``options``."""
    columns = {
        _OPTION_COLUMNS[option]: column
        for option, column in options.items()
        if option in _OPTION_COLUMNS
    }
    if source.suffix.lower() in _PARQUET_SUFFIXES:
        fingerprints = [fingerprint(source, text=False)]
        table = _read_parquet(source, list(columns.values()))
    else:
        fingerprints = [fingerprint(source)]
        table = read_csv(source, columns.values(), separator=_separator(source, options))
    rows = table.select(ROW, **{name: pl.col(column) for name, column in columns.items()})
    return Reading(checked_rows(rows, source.name, columns), fingerprints)


def checked_rows(rows: pl.DataFrame, file: str, columns: Mapping[str, str]) -> pl.DataFrame:
    """The rows of a `Reading` from rows of text, every one of them checked.

    ``rows`` has ``row`` and columns of the interaction table; ``columns`` maps these to the names
    that ``file`` uses. Raises DataError that names the first bad cell: file, row, column, value
    and what is allowed.
    """
    if TIMESTAMP in columns:
        times = parse_times(rows, TIMESTAMP, file, columns[TIMESTAMP], whole=True)
        rows = rows.with_columns(times.alias(TIMESTAMP))
    if ORDER in columns:
        keys = parse_times(rows, ORDER, file, columns[ORDER], whole=False)
        rows = rows.with_columns(keys.alias(ORDER))
    rows = check_rows(rows, file, columns)
    return rows.with_columns(_interaction_numbers(rows))


def _interaction_numbers(rows: pl.DataFrame) -> pl.Expr:
    """Rows in the file's order unless an order column says otherwise.

    Rows of one student with equal order and question are the skills of one answer.
    """
    if ORDER not in rows.columns:
        return pl.col(ROW).alias(ORDER)
    head = pl.col(ROW)
    if QUESTION in rows.columns:
        head = pl.col(ROW).min().over(STUDENT, ORDER, QUESTION)
    return pl.struct(ORDER, head.alias("head")).rank("dense").cast(pl.Int64).alias(ORDER)


def _separator(source: Path, options: Mapping[str, str]) -> str:
    default = "\t" if source.suffix.lower() == ".tsv" else ","
    separator = options.get("sep", default)
    separator = _SEPARATOR_NAMES.get(separator, separator)
    if len(separator.encode()) != 1 or separator in '"\r\n':
        raise DataError(f"option sep is {separator!r}; it must be one character, or 'tab'")
    return separator


def _read_parquet(source: Path, columns: list[str]) -> pl.DataFrame:
    try:
        check_columns(source, pl.read_parquet_schema(source), columns)
        table = pl.read_parquet(source, columns=list(dict.fromkeys(columns)))
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise DataError(f"{source} cannot be read as Parquet: {reason}") from None
    if table.is_empty():
        raise DataError(f"{source} has no rows")
    return as_text(table)


READER = Reader(
    name="generic",
    source="any CSV, TSV or Parquet file with an answer (or one skill of an answer) a row",
    example="gainakt prepare generic answers.csv --student user --skill topic --correct right "
    "--order answered_at --out data/mine",
    read=read,
    options={
        "student": "column with the student's id",
        "skill": "column with the skill's id; a question with several skills has a row for each",
        "correct": "column with the answer, 0 or 1",
        "order": "column to order a student's rows by, numbers or ISO dates (default: file order)",
        "timestamp": "column with the time, whole numbers or ISO dates (kept as milliseconds)",
        "question": "column with the question's id",
        "fold": "column with the fold, -1 for test (default: split by student as pyKT does)",
        "sep": "the separator of a text file, one character or 'tab' (default: comma)",
    },
    required=("student", "skill", "correct"),
)
