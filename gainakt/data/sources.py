"""Source files: that they can be read at all, and what a reader hands on once it has read them."""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from gainakt.errors import DataError

ROW = "row"
ITEM = "item"
FILE = "file"

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Filter:
    """Rows that a reader left out, how many, and why."""

    name: str
    reason: str
    rows_removed: int
    students_removed: int


@dataclass(frozen=True)
class Reading:
    """What a reader hands on: checked rows in the order of the source.

    ``rows`` has student_id, skill_id, correct, optional question_id, timestamp and fold, ``file``
    and ``row`` for error messages, and ``order``: an integer that sorts a student's rows, the same
    for rows that are one interaction (the skills of one question). ``sources`` are fingerprints of
    the files.
    """

    rows: pl.DataFrame
    sources: list[dict[str, Any]]
    filters: list[Filter] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """A raw format: its name, the documented shape of its source in a sentence, and how to read it.

    ``options`` maps the name of each option to a sentence; those in ``required`` must be given.
    """

    name: str
    source: str
    example: str
    read: Callable[[Path, Mapping[str, str]], Reading]
    options: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def fingerprint(path: Path, *, text: bool = True) -> dict[str, Any]:
    """Name, size and SHA-256 of a source file, read once; for a text file, proof that it is UTF-8.

    Raises DataError when the file is missing, a folder, empty, unreadable or (``text``) not UTF-8.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; a file is needed here")
    if not path.exists():
        raise DataError(f"no such file: {path}")
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    size, lines = 0, 1
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if text:
                    decoder.decode(chunk)
                    lines += chunk.count(b"\n")
        if text:
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line = lines + error.object.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if size == 0:
        raise DataError(f"{path} is empty")
    return {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}


def read_csv(path: Path, columns: Collection[str], *, separator: str = ",") -> pl.DataFrame:
    """A text table, every cell as it is spelt (empty: null), with ``row``; the header is row 1.

    ``path`` must have passed ``fingerprint``. Raises DataError when a column is missing, quoting or
    the number of fields is broken, or there is no row.
    """
    try:
        table = pl.read_csv(path, infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        raise DataError(_first_fault(path, separator, error)) from None
    check_columns(path, table.columns, columns)
    table = table.with_columns(pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(ROW))
    # Blank lines at the end of a file are no rows; anywhere else they are looked at as rows.
    last = table.filter(~pl.all_horizontal(pl.exclude(ROW).is_null())).get_column(ROW).max()
    if last is None:
        raise DataError(f"{path} has a header but no rows")
    return table.filter(pl.col(ROW) <= last)


def as_text(table: pl.DataFrame) -> pl.DataFrame:
    """A typed table as `read_csv` would give it: cells of text (nan: null), ``row`` from 1."""
    table = table.with_columns(
        pl.col(pl.Boolean).cast(pl.Int8), pl.col(pl.Float32, pl.Float64).fill_nan(None)
    )
    text = table.select(pl.all().cast(pl.String))
    return text.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))


def check_columns(file: str | Path, present: Collection[str], needed: Collection[str]) -> None:
    """Raise DataError when a needed column is not there."""
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(
            f"{file} has no column {', '.join(map(repr, missing))}; "
            f"needed are {', '.join(needed)}; it has {', '.join(present)}"
        )


def _first_fault(path: Path, separator: str, error: Exception) -> str:
    """Where polars gave up, found again record by record: its own message has no row."""
    previous_limit = csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            records = csv.reader(file, delimiter=separator, strict=True)
            width, row = None, 0
            try:
                for row, record in enumerate(records, start=1):
                    width = width or len(record)
                    if len(record) > width:
                        return f"{path}, row {row}: {len(record)} fields, the header has {width}"
            except csv.Error as fault:
                return f"{path}, row {row + 1}: broken quoting ({fault})"
            file.seek(0)
            for line, text in enumerate(file, start=1):
                if text.count('"') % 2:
                    return f"{path}, row {line}: broken quoting (a quote that is never closed)"
    finally:
        csv.field_size_limit(previous_limit)
    reason = (str(error).splitlines() or ["unknown reason"])[0]
    return f"{path} cannot be read as a table separated by {separator!r}: {reason}"


def unroll(
    histories: pl.DataFrame, file: str, columns: Mapping[str, str], *, per_student: Collection[str]
) -> pl.DataFrame:
    """One row per item from one row per student whose cells are comma-joined lists.

    ``columns`` maps names of the interaction table to list columns of ``histories``;
    ``per_student`` are columns to repeat. Adds ``item``, the position in the list from 1. Raises
    DataError when the lists of a row are not equally long.
    """
    lists = histories.select(
        ROW,
        *per_student,
        *(
            pl.col(source).fill_null("").str.split(",").alias(name)
            for name, source in columns.items()
        ),
    )
    first, *others = columns
    for other in others:
        uneven = lists.filter(pl.col(first).list.len() != pl.col(other).list.len())
        if not uneven.is_empty():
            row = uneven.row(0, named=True)
            raise DataError(
                f"{file}, row {row[ROW]}: {columns[first]!r} has {len(row[first])} items but "
                f"{columns[other]!r} has {len(row[other])}; they must be equally many"
            )
    lists = lists.with_columns(pl.int_ranges(1, pl.col(first).list.len() + 1).alias(ITEM))
    return lists.explode(*columns, ITEM)
