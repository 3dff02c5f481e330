"""From a raw source to a prepared data set: read, order, filter, split, write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gainakt.data.archives import SUFFIXES, unpacked
from gainakt.data.interactions import COLUMN_TYPES, Dataset
from gainakt.data.pseudonyms import pseudonyms as give_pseudonyms
from gainakt.data.readers import READERS
from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    FILE,
    KEY,
    Filter,
    Note,
    Reader,
    fingerprint,
    header_of,
    shortened,
)
from gainakt.data.splits import (
    HASH_METHOD,
    MIN_INTERACTIONS,
    SPLIT_METHOD,
    assign_folds,
    folds_by_hash,
)
from gainakt.data.validation import check_answers, check_folds
from gainakt.data.writing import refuse_existing, write_dataset
from gainakt.errors import DataError

_SOURCE_SPLIT = "the folds are those of the source"
_POSITION = "position"
AUTO = "auto"
"""What stands for the reader that recognises a source."""


# An id of many digits after a spreadsheet has opened the file.
_SPREADSHEET = r"^\d[.,]\d+E\+\d+$"

# How students are split where the source has no folds: what the manifest says, and folds by id.
SPLITS: dict[str, tuple[str, Callable[[list[str]], np.ndarray]]] = {
    "pykt": (SPLIT_METHOD, lambda students: assign_folds(len(students))),
    "hash": (HASH_METHOD, folds_by_hash),
}


def prepare(
    reader: str,
    source: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    split: str = "pykt",
    pseudonyms: Path | None = None,
    **options: Any,
) -> Dataset:
    """Read ``source`` with a reader of the registry and write it as a prepared data set at ``out``.

    ``reader`` is its name, or "auto" for the one that recognises the source (see `recognise`); a
    source that is a .gz or .zip file is read as it is. ``name`` is the data set's, by default the
    source's own; ``split`` is a key of `SPLITS`, for sources without folds of their own;
    ``pseudonyms`` is a table that gives students other names (see `gainakt.data.pseudonyms`);
    ``options`` are the reader's. Rows are never dropped silently: each filter is counted in the
    manifest. Raises DataError for anything wrong with the source, the options or the target; then
    ``out`` does not come to be.
    """
    source, out = Path(source), Path(out)
    if reader == AUTO:
        reader, _ = recognise(source)
    chosen = _find_reader(reader)
    given = _check_options(chosen, options)
    if split not in SPLITS:
        raise DataError(f"split = {split!r}; allowed are {', '.join(SPLITS)}")
    refuse_existing(out)
    if pseudonyms is not None and pseudonyms.resolve().is_relative_to(out.resolve()):
        raise DataError(f"{pseudonyms} would lie in {out}: the table must not go where data go")
    if not source.exists():
        raise DataError(f"no such file or folder: {source}; {reader} takes {chosen.source}")
    try:
        with unpacked(source) as inside:
            reading = chosen.read(inside, given)
        packed = [] if inside == source else [fingerprint(source, text=False)]
        rows = arrange(reading.rows)
        rows, short = leave_out_short(rows)
        rows, method = _split(rows, split)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} cannot be read by {reader}: {reason}") from None
    notes = [*reading.notes, *notes_on(rows)]
    if pseudonyms is not None:
        rows = _renamed(rows, pseudonyms)
        count = rows.get_column(STUDENT).n_unique()
        notes.append(Note("pseudonyms", "students have pseudonyms for ids", count))
    table = rows.select(column for column in COLUMN_TYPES if column in rows.columns)
    return write_dataset(
        out,
        [table.to_arrow(compat_level=pl.CompatLevel.oldest())],
        name=name or _name_of(source),
        reader=reader,
        split_method=method,
        sources=[*packed, *reading.sources],
        filters=[asdict(entry) for entry in (*reading.filters, short)],
        notes=[asdict(note) for note in notes if note.count],
        options=given,
    )


def recognise(source: str | Path) -> tuple[str, str]:
    """Return the name of the reader that recognises a source, and by what.

    Raises DataError when none does, or several do.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"no such file or folder: {source}")
    with unpacked(source) as inside:
        found = {name: reader.recognises(inside) for name, reader in READERS.items()}
        fitting = {name: why for name, why in found.items() if why is not None}
        if len(fitting) == 1:
            return next(iter(fitting.items()))
        if fitting:
            said = "; ".join(f"{name}: {why}" for name, why in fitting.items())
            raise DataError(f"{source} may be of several formats; name one of them ({said})")
        columns = header_of(inside)
    if columns and len(columns) == 1:
        columns = columns[0].split("\t")
    has = f"; its first line is {shortened(columns)}" if columns else ""
    raise DataError(
        f"no reader recognises {source}{has}. gainakt prepare --list says what each takes; any "
        "table with an answer a row is read by gainakt prepare generic, which is told its columns: "
        "--student, --skill, --correct"
    )


def _name_of(source: Path) -> str:
    path = source.resolve()
    return Path(path.stem).stem if path.suffix.lower() in SUFFIXES else path.stem


def _find_reader(name: str) -> Reader:
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        # another year of a data set is another data set, not a slip
        slip = bool(near) and re.sub(r"\D", "", name) in ("", re.sub(r"\D", "", near[0]))
        hint = f"; did you mean {near[0]!r}?" if slip else ""
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


def _split(rows: pl.DataFrame, split: str) -> tuple[pl.DataFrame, str]:
    if FOLD in rows.columns:
        return rows, _SOURCE_SPLIT
    runs = rows.get_column(STUDENT).rle().struct.unnest()
    method, assign = SPLITS[split]
    folds = np.repeat(assign(runs.get_column("value").to_list()), runs.get_column("len").to_numpy())
    return rows.with_columns(pl.Series(FOLD, folds)), method


def _renamed(rows: pl.DataFrame, table: Path) -> pl.DataFrame:
    students = rows.get_column(STUDENT).unique(maintain_order=True).to_list()
    names = give_pseudonyms(students, table)
    return rows.with_columns(pl.col(STUDENT).replace_strict(students, names))


def notes_on(rows: pl.DataFrame) -> list[Note]:
    """What should be known about arranged rows, though nothing follows from it; see `Note`."""
    notes = []
    same = pl.col(STUDENT) == pl.col(STUDENT).shift()
    another = pl.col(ORDER) != pl.col(ORDER).shift()
    if KEY in rows.columns:
        tied = rows.select((same & another & (pl.col(KEY) == pl.col(KEY).shift())).sum()).item()
        text = "answers with the order of the answer before; they stay in the order of the source"
        notes.append(Note("ties", text, int(tied or 0)))
    if TIMESTAMP in rows.columns:
        back = rows.select((same & (pl.col(TIMESTAMP) < pl.col(TIMESTAMP).shift())).sum()).item()
        notes.append(Note("backwards", "answers earlier than the one before", int(back or 0)))
    if KEY in rows.columns or TIMESTAMP in rows.columns:
        columns = [STUDENT, SKILL, CORRECT, KEY, QUESTION, TIMESTAMP]
        alike = pl.struct(name for name in columns if name in rows.columns)
        copies = len(rows) - rows.select(alike.n_unique()).item()
        notes.append(Note("duplicates", "rows that repeat another in every column", int(copies)))
    for name, what in ((STUDENT, "students"), (SKILL, "skills"), (QUESTION, "questions")):
        if name in rows.columns:
            count = _nearly_equal(rows.get_column(name).unique())
            text = f"{what} whose ids differ from another's by case, spaces or Unicode form alone"
            notes.append(Note(f"nearly_equal_{what}", text, count))
            rounded = rows.get_column(name).unique().str.contains(_SPREADSHEET).sum()
            text = f"{what} whose ids look like numbers that a spreadsheet has rounded"
            notes.append(Note(f"rounded_{what}", text, int(rounded)))
    return notes


def _nearly_equal(ids: pl.Series) -> int:
    plain = ids.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", "")
    return len(ids) - plain.n_unique()
