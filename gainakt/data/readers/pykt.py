"""The CSV files of the pyKT toolkit: a student a row, already split into folds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.interactions import TEST_FOLD
from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    FILE,
    ITEM,
    ROW,
    Filter,
    Reader,
    Reading,
    fingerprint,
    read_csv,
    unroll,
)
from gainakt.data.validation import bad_cell, check_rows, parse_times
from gainakt.errors import DataError

_LISTS = {SKILL: "concepts", CORRECT: "responses", QUESTION: "questions", TIMESTAMP: "timestamps"}
_REPEAT = "is_repeat"
_PADDING = "-1"
_SEVERAL_SKILLS = r"^[0-9]+(_[0-9]+)+$"


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read ``train_valid.csv`` and ``test.csv`` from the folder ``source``."""
    if not source.is_dir():
        raise DataError(
            f"{source} is not a folder; the pykt reader takes one with train_valid.csv and test.csv"
        )
    train, test = _learnt_from(source), source / "test.csv"
    fingerprints = [fingerprint(train), fingerprint(test)]
    learn, learn_padding = _read_file(train, is_test=False)
    held, held_padding = _read_file(test, is_test=True)
    rows = pl.concat([learn, held], how="diagonal")
    _check_same_lists(rows, source)
    # Items were numbered file by file: number them through, keeping those of one question together.
    rows = rows.with_columns(pl.struct(FILE, ORDER).rle_id().cast(pl.Int64).alias(ORDER))
    filters = []
    if padding := learn_padding + held_padding:
        reason = "items of -1 that fill pyKT's sequences up to one length"
        filters.append(Filter("padding", reason, padding, 0))
    return Reading(rows, fingerprints, filters)


def _learnt_from(folder: Path) -> Path:
    """The file of the students that are not for testing; XES3G5M has sequences in its place."""
    sequences = folder / "train_valid_sequences.csv"
    whole = folder / "train_valid.csv"
    return sequences if sequences.is_file() and not whole.is_file() else whole


def _read_file(path: Path, *, is_test: bool) -> tuple[pl.DataFrame, int]:
    needed = _REQUIRED if is_test else ("fold", *_REQUIRED)
    optional = ("fold", "questions", "timestamps", _REPEAT)
    table, _ = read_csv(path, {name: name for name in needed}, {name: name for name in optional})
    if FOLD not in table.columns:
        table = table.with_columns(pl.lit(str(TEST_FOLD)).alias(FOLD))
    lists = {name: column for name, column in _LISTS.items() if column in table.columns}
    repeats = {_REPEAT: _REPEAT} if _REPEAT in table.columns else {}
    histories = table.rename({"uid": STUDENT})
    items = unroll(histories, path.name, {**lists, **repeats}, per_student=(STUDENT, FOLD))
    items, padding = _cut_padding(items, path.name)
    items = _number_interactions(items, path.name)
    if TIMESTAMP in lists:
        times = parse_times(items, TIMESTAMP, path.name, "timestamps")
        items = items.with_columns(times.alias(TIMESTAMP))
    rows = check_rows(items, path.name, {**lists, STUDENT: "uid"})
    if is_test:
        _check_test_fold(rows, path.name)
    return rows, padding


_REQUIRED = ("uid", "concepts", "responses")


def _cut_padding(items: pl.DataFrame, file: str) -> tuple[pl.DataFrame, int]:
    is_padding = (pl.col(SKILL) == _PADDING) & (pl.col(CORRECT) == _PADDING)
    items = items.with_columns(is_padding.alias("padding"))
    stray = items.filter(~pl.col("padding") & pl.col("padding").shift().over(ROW).fill_null(False))
    if not stray.is_empty():
        row = {**stray.row(0, named=True)}
        allowed = "an item follows padding (-1); padding is allowed only at the end of a list"
        raise bad_cell(file, row, "responses", row[CORRECT], allowed, len(stray))
    kept = items.filter(~pl.col("padding")).drop("padding")
    return kept, len(items) - len(kept)


def _number_interactions(items: pl.DataFrame, file: str) -> pl.DataFrame:
    """Order the items, one number for all skills of a question, and give each skill its own row."""
    order = pl.int_range(pl.len(), dtype=pl.Int64)
    if _REPEAT in items.columns:
        strange = items.filter(~pl.col(_REPEAT).is_in(["0", "1"]))
        if not strange.is_empty():
            row = strange.row(0, named=True)
            allowed = "only 0 and 1 are allowed"
            raise bad_cell(file, row, _REPEAT, row[_REPEAT], allowed, len(strange))
        order = ((pl.col(_REPEAT) != "1") | (pl.col(ITEM) == 1)).cast(pl.Int64).cum_sum()
    items = items.with_columns(order.alias(ORDER))
    skills = (
        pl.when(pl.col(SKILL).str.contains(_SEVERAL_SKILLS))
        .then(pl.col(SKILL).str.split("_"))
        .otherwise(pl.concat_list(SKILL))
    )
    items = items.drop(_REPEAT, strict=False).with_columns(skills.alias(SKILL))
    return items.explode(SKILL)


def _check_test_fold(rows: pl.DataFrame, file: str) -> None:
    other = rows.filter(pl.col(FOLD) != TEST_FOLD)
    if not other.is_empty():
        row = other.drop(ITEM).row(0, named=True)
        allowed = f"every student of {file} must be in fold {TEST_FOLD}"
        raise bad_cell(file, row, "fold", row[FOLD], allowed, len(other))


def _check_same_lists(rows: pl.DataFrame, source: Path) -> None:
    for name in (QUESTION, TIMESTAMP):
        if name in rows.columns and rows.get_column(name).has_nulls():
            raise DataError(
                f"{source}: only one of train_valid.csv and test.csv has column {_LISTS[name]!r}; "
                "both or neither must have it"
            )


READER = Reader(
    name="pykt",
    source="a folder with train_valid.csv and test.csv, columns fold, uid, concepts, responses, "
    "the last two comma-joined (optional: questions, timestamps, is_repeat)",
    example="gainakt prepare pykt path/to/assist2015 --out data/assist2015",
    read=read,
    recognises=lambda source: (
        f"it holds {_learnt_from(source).name} and test.csv"
        if source.is_dir() and _learnt_from(source).is_file() and (source / "test.csv").is_file()
        else None
    ),
)
