"""Any CSV or Parquet table with an answer a row: the options say which column is which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.logs import checked_rows
from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    Note,
    Reader,
    Reading,
    TextFormat,
    as_text,
    check_columns,
    fingerprint,
    read_csv,
)
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
# In milliseconds March 1973, in seconds a year that no answer is from.
SECONDS = 100_000_000_000
_PARQUET_SUFFIXES = (".parquet", ".pq")
_SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t"}


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the table ``source`` with the column mapping in ``options``."""
    columns = {
        _OPTION_COLUMNS[option]: column
        for option, column in options.items()
        if option in _OPTION_COLUMNS
    }
    notes: list[Note] = []
    if source.suffix.lower() in _PARQUET_SUFFIXES:
        fingerprints = [fingerprint(source, text=False)]
        rows = _read_parquet(source, columns)
    else:
        form = _form(source, options)
        fingerprints = [fingerprint(source, encoding=form.encoding)]
        rows, notes = read_csv(source, columns, form=form)
    rows = checked_rows(rows, source.name, columns, options.get("time_format"))
    if TIMESTAMP in columns and "time_format" not in options:
        notes += _note_seconds(rows, columns[TIMESTAMP])
    return Reading(rows, fingerprints, notes=notes)


def _note_seconds(rows: pl.DataFrame, column: str) -> list[Note]:
    """Say what times look like that are seconds, as most systems count them."""
    latest = rows.get_column(TIMESTAMP).max()
    if not isinstance(latest, int) or latest >= SECONDS:
        return []
    about = f"times of the column {column!r} lie in 1970 to 1973 as milliseconds; if they are "
    return [Note("times_may_be_seconds", about + "seconds, --time-format s", len(rows))]


def _form(source: Path, options: Mapping[str, str]) -> TextFormat:
    quote = options.get("quote", '"')
    if quote == "none":
        return TextFormat(_separator(source, options), None, options.get("encoding", "utf-8"), True)
    if len(quote.encode()) != 1 or quote in "\r\n":
        raise DataError(f"option quote is {quote!r}; it must be one character, or 'none'")
    encoding = options.get("encoding", "utf-8")
    return TextFormat(_separator(source, options), quote, encoding, "quote" in options)


def _separator(source: Path, options: Mapping[str, str]) -> str:
    default = "\t" if source.suffix.lower() == ".tsv" else ","
    separator = options.get("sep", default)
    separator = _SEPARATOR_NAMES.get(separator, separator)
    if len(separator.encode()) != 1 or separator in '"\r\n':
        raise DataError(f"option sep is {separator!r}; it must be one character, or 'tab'")
    return separator


def _read_parquet(source: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    try:
        with source.open("rb") as file:
            check_columns(source, pl.read_parquet_schema(file), list(columns.values()))
            file.seek(0)
            table = pl.read_parquet(file, columns=list(dict.fromkeys(columns.values())))
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0][:200]
        raise DataError(f"{source} cannot be read as Parquet: {reason}") from None
    if table.is_empty():
        raise DataError(f"{source} has no rows")
    return as_text(table.select(**{name: pl.col(column) for name, column in columns.items()}))


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
        "time_format": "form of times: s where whole numbers are seconds, or of dates that are not "
        "ISO dates, such as %m/%d/%Y %H:%M",
        "quote": "what quotes cells of a text file, one character or 'none' (default: \")",
        "encoding": "encoding of a text file (default: utf-8)",
        "sep": "the separator of a text file, one character or 'tab' (default: comma)",
    },
    required=("student", "skill", "correct"),
)
