"""From a raw source to a prepared data set: read, order, filter, split, write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gainakt.data.interactions import COLUMN_TYPES, Dataset
from gainakt.data.readers import READERS
from gainakt.data.rows import FOLD, ORDER, STUDENT
from gainakt.data.sources import FILE, Filter, Reader
from gainakt.data.splits import MIN_INTERACTIONS, SPLIT_METHOD, assign_folds
from gainakt.data.validation import check_answers, check_folds
from gainakt.data.writing import refuse_existing, write_dataset
from gainakt.errors import DataError

_SOURCE_SPLIT = "the folds are those of the source"
_POSITION = "position"


def prepare(
    reader: str, source: str | Path, out: str | Path, *, name: str | None = None, **options: Any
) -> Dataset:
    """Read ``source`` with a reader of the registry and write it as a prepared data set at ``out``.

    ``name`` is the data set's, by default the source's own; ``options`` are the reader's. Rows are
    never dropped silently: each filter is counted in the manifest. Raises DataError for anything
    wrong with the source, the options or the target; then ``out`` does not come to be.
    """
    source, out = Path(source), Path(out)
    chosen = _find_reader(reader)
    given = _check_options(chosen, options)
    refuse_existing(out)
    if not source.exists():
        raise DataError(f"no such file or folder: {source}; {reader} takes {chosen.source}")
    try:
        reading = chosen.read(source, given)
        rows = arrange(reading.rows)
        rows, short = leave_out_short(rows)
        rows, method = _split(rows)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} cannot be read by {reader}: {reason}") from None
    table = rows.select(column for column in COLUMN_TYPES if column in rows.columns)
    return write_dataset(
        out,
        [table.to_arrow(compat_level=pl.CompatLevel.oldest())],
        name=name or source.resolve().stem,
        reader=reader,
        split_method=method,
        sources=reading.sources,
        filters=[asdict(entry) for entry in (*reading.filters, short)],
        options=given,
    )


def _find_reader(name: str) -> Reader:
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"no reader {name!r}; there are {', '.join(READERS)}{hint}")
    return READERS[name]


def _check_options(reader: Reader, options: Mapping[str, Any]) -> dict[str, str]:
    given = {key: str(value) for key, value in options.items() if value is not None}
    allowed = ", ".join(reader.options) or "none"
    for key in given:
        if key not in reader.options:
            raise DataError(
                f"reader {reader.name} has no option {key!r}; its options are {allowed}"
            )
    missing = [key for key in reader.required if key not in given]
    if missing:
        raise DataError(
            f"reader {reader.name} needs option {missing[0]!r}: {reader.options[missing[0]]}"
        )
    return given


def arrange(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows student by student, in order of first appearance, with ``order`` counted from 0.

    ``rows`` are in the order of the source; rows of a student with the same ``order`` stay one
    interaction. Raises DataError when a student is in two folds or one interaction has two answers.
    """
    if FOLD in rows.columns:
        check_folds(rows)
    rows = rows.with_row_index(_POSITION)
    rows = rows.with_columns(pl.col(_POSITION).min().over(STUDENT))
    rows = rows.sort(_POSITION, ORDER, maintain_order=True)
    check_answers(rows)
    begins = pl.struct(_POSITION, ORDER).rle_id().cast(pl.Int64)
    rows = rows.with_columns(begins.alias(ORDER))
    count = pl.col(ORDER) - pl.col(ORDER).first().over(_POSITION)
    return rows.with_columns(count.cast(pl.Int32).alias(ORDER)).drop(_POSITION)


def leave_out_short(rows: pl.DataFrame) -> tuple[pl.DataFrame, Filter]:
    """Leave out students with fewer than 3 interactions; returns the rest and what was removed.

    Raises DataError when nobody is left.
    """
    long_enough = pl.col(ORDER).max().over(STUDENT) + 1 >= MIN_INTERACTIONS
    kept = rows.filter(long_enough)
    if rows.is_empty():
        raise DataError("the source has no interactions")
    if kept.is_empty():
        raise DataError(
            f"{rows.get_column(FILE)[0]}: every student has fewer than {MIN_INTERACTIONS} "
            "interactions; there is nothing to learn from"
        )
    return kept, Filter(
        "short_students",
        f"students with fewer than {MIN_INTERACTIONS} interactions",
        len(rows) - len(kept),
        rows.get_column(STUDENT).n_unique() - kept.get_column(STUDENT).n_unique(),
    )


def _split(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    if FOLD in rows.columns:
        return rows, _SOURCE_SPLIT
    student = rows.get_column(STUDENT).rle_id().to_numpy()
    folds = assign_folds(int(student[-1]) + 1)
    return rows.with_columns(pl.Series(FOLD, np.asarray(folds[student]))), SPLIT_METHOD
