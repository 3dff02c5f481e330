"""What every row must fulfil before anything is written, and errors that say where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import dataframely as dy
import polars as pl

from gainakt.data.interactions import TEST_FOLD
from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT
from gainakt.data.sources import FILE, ITEM, KEY, ROW
from gainakt.errors import DataError

_MAX_FOLD = 126
_IDS = (STUDENT, SKILL, QUESTION)


MAX_ID_BYTES = 4000
# Of fewer rows of equal order nothing is concluded: they are only counted.
ENOUGH_TIES = 50
# Control characters, line and paragraph separators, and code points that stand for no character.
_UNPRINTABLE = (
    r"[\x{00}-\x{1f}\x{7f}-\x{9f}\x{2028}\x{2029}\x{FDD0}-\x{FDEF}"
    + "".join(rf"\x{{{plane:X}FFFE}}\x{{{plane:X}FFFF}}" for plane in range(1, 17))
    + r"\x{FFFE}\x{FFFF}]"
)


def _filled(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars().str.len_bytes() > 0


def _printable(column: str) -> pl.Expr:
    return ~pl.col(column).str.contains(_UNPRINTABLE)


def _short(column: str) -> pl.Expr:
    return pl.col(column).str.len_bytes() <= MAX_ID_BYTES


def _number(column: str) -> pl.Expr:
    text = pl.col(column).str.strip_chars()
    words = text.str.to_lowercase().replace_strict(
        {"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64
    )
    return pl.coalesce(text.cast(pl.Float64, strict=False), words)


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
    def student_id__too_long(cls) -> pl.Expr:
        return _short(STUDENT)

    @dy.rule()
    def skill_id__unprintable(cls) -> pl.Expr:
        return _printable(SKILL)

    @dy.rule()
    def skill_id__too_long(cls) -> pl.Expr:
        return _short(SKILL)

    @dy.rule()
    def question_id__unprintable(cls) -> pl.Expr:
        return _printable(QUESTION)

    @dy.rule()
    def question_id__too_long(cls) -> pl.Expr:
        return _short(QUESTION)

    @dy.rule()
    def correct__not_binary(cls) -> pl.Expr:
        return _number(CORRECT).is_in([0.0, 1.0]).fill_null(False)

    @dy.rule()
    def fold__not_a_fold(cls) -> pl.Expr:
        fold = pl.col(FOLD).str.strip_chars().cast(pl.Int64, strict=False)
        return fold.is_between(TEST_FOLD, _MAX_FOLD).fill_null(False)


_ALLOWED = {
    "missing": "an id is missing; every row needs one",
    "unprintable": "an id may not hold line breaks, control characters or code points that are "
    "no characters (often a sign of broken quoting)",
    "too_long": f"an id may have {MAX_ID_BYTES:,} bytes at most",
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


_ISO = (
    r"^\d{4}-\d{2}-\d{2}"
    r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?\s*(?:Z|z|[+-]\d{2}:?\d{2})?$"
)
FORM_OPTION = "--time_format, such as %m/%d/%Y %H:%M"
_ZONE = r"(Z|z|[+-]\d{2}:?\d{2})$"
# A number as spreadsheets write long ones; what its digits were is lost. Short ones they spell out.
_LONG = 5
_ROUNDED = r"^[+-]?\d(?:[.,]\d+)?[eE]\+?(\d+)$"


UNITS = {"ms": 1, "s": 1000}
"""Units of times that are whole numbers since 1970, in milliseconds."""


def parse_times(
    rows: pl.DataFrame, column: str, file: str, source: str, form: str | None = None
) -> pl.Series:
    """A column of text as milliseconds since 1970: whole numbers, or dates.

    Dates are ISO dates, or of ``form`` (such as %m/%d/%Y %H:%M) where that is given; whole numbers
    are milliseconds, or of the unit that ``form`` names, a key of `UNITS`. Raises
    DataError at the first cell that is neither, and where some name a zone and some do not.
    """
    text = rows.get_column(column).str.strip_chars()
    unit, form = UNITS.get(form or "ms"), None if form in UNITS else form
    if unit is not None:
        numbers = text.cast(pl.Int64, strict=False)
        if not numbers.has_nulls():
            return numbers * unit
    dates = _dates(rows, text, pl.Int64, column, file, source, form)
    return dates.dt.epoch("ms")


def parse_order(
    rows: pl.DataFrame, column: str, file: str, source: str, form: str | None = None
) -> pl.Series:
    """A column of text as whole numbers that sort alike: of numbers of any size, or of dates.

    Raises DataError as `parse_times` does, and for numbers that a spreadsheet has rounded.
    """
    text = rows.get_column(column).str.strip_chars()
    form = None if form in UNITS else form
    if form is None:
        numbers = text.cast(pl.Int64, strict=False)
        if not numbers.has_nulls():
            return numbers
        ranks = _ranks(rows, text, column, file, source)
        if ranks is not None:
            return ranks
    return _dates(rows, text, pl.Float64, column, file, source, form).dt.epoch("ns")


def _ranks(
    rows: pl.DataFrame, text: pl.Series, column: str, file: str, source: str
) -> pl.Series | None:
    """Places of numbers among one another, however large or fine they are; None if not numbers."""
    if text.cast(pl.Float64, strict=False).fill_nan(None).has_nulls():
        return None
    rounded = text.str.extract(_ROUNDED).cast(pl.Int64, strict=False)
    digits = text.str.extract(r"[.,](\d+)[eE]").str.len_chars().fill_null(0)
    lost = ((rounded > digits) & (rounded >= _LONG)).fill_null(False)
    if lost.any():
        row = rows.filter(lost).row(0, named=True)
        allowed = (
            "a number that a spreadsheet has rounded cannot be sorted by; export the column as text"
        )
        raise bad_cell(file, row, source, row[column], allowed, int(lost.sum()))
    distinct = text.unique().to_list()
    exact = {spelt: Decimal(spelt) for spelt in distinct}
    place = {value: rank for rank, value in enumerate(sorted(set(exact.values())))}
    return text.replace_strict(
        distinct, [place[exact[spelt]] for spelt in distinct], return_dtype=pl.Int64
    )


def _dates(
    rows: pl.DataFrame,
    text: pl.Series,
    number: type[pl.Int64 | pl.Float64],
    column: str,
    file: str,
    source: str,
    form: str | None,
) -> pl.Series:
    """Dates (n,) from text; ``number`` is what else would have been allowed, for the message."""
    if form is not None:
        dates = _strptime(text, form)
        if dates.has_nulls():
            row = rows.filter(dates.is_null()).row(0, named=True)
            allowed = f"only times of the form {form} are allowed"
            raise bad_cell(file, row, source, row[column], allowed, dates.null_count())
        return dates
    iso = text.str.contains(_ISO)
    zoned = text.str.contains(_ZONE) & iso
    # a date alone ends in digits and a hyphen, which is no zone
    zoned = zoned & (text.str.len_chars() > 10)
    clock, zone = text.str.replace(_ZONE, ""), text.str.extract(_ZONE)
    clock = pl.select(pl.when(zoned).then(clock).otherwise(text)).to_series().str.strip_chars()
    clock = clock.str.replace("T", " ").str.replace(",", ".")
    clock = pl.select(
        pl.when(clock.str.len_chars() == 10)
        .then(clock + " 00:00:00")
        .when(clock.str.len_chars() == 16)
        .then(clock + ":00")
        .otherwise(clock)
    ).to_series()
    parsed = clock.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False)
    bad = parsed.is_null() | ~iso.fill_null(False)
    if bad.any():
        no_number = text.cast(number, strict=False).is_null()
        if number == pl.Float64:
            no_number = text.cast(pl.Float64, strict=False).fill_nan(None).is_null()
        # what most cells are is what the first other one should have been
        bad = min((no_number, bad), key=lambda mask: int(mask.sum()))
        row = rows.filter(bad).row(0, named=True)
        numbers = "whole numbers" if number == pl.Int64 else "numbers"
        allowed = f"only {numbers} or ISO dates such as 2015-03-01T09:30:00 are allowed" + (
            "" if not row[column] else f"; `gainakt prepare` reads others by {FORM_OPTION}"
        )
        raise bad_cell(file, row, source, row[column], allowed, int(bad.sum()))
    if zoned.any() and not zoned.all():
        row = rows.filter(zoned != zoned[0]).row(0, named=True)
        allowed = "some times name a zone and some do not; all must, or none"
        raise bad_cell(file, row, source, row[column], allowed)
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    hours = zone.str.extract(r"[+-](\d{2})").cast(pl.Int64).fill_null(0)
    minutes = zone.str.extract(r"[+-]\d{2}:?(\d{2})").cast(pl.Int64).fill_null(0)
    ahead = pl.select(sign * (hours * 60 + minutes)).to_series() * zoned.cast(pl.Int64)
    return parsed - (ahead * 60_000_000_000).cast(pl.Duration("ns"))


def _strptime(text: pl.Series, form: str) -> pl.Series:
    for kind in (pl.Datetime("ns"), pl.Date):
        try:
            parsed = text.str.strptime(kind, form, strict=False)
        except pl.exceptions.PolarsError:
            continue
        if not parsed.is_null().all():
            return parsed.cast(pl.Datetime("ns"))
    return pl.Series([None] * len(text), dtype=pl.Datetime("ns"))


def number_interactions(rows: pl.DataFrame, *sorted_by: str) -> pl.DataFrame:
    """Number the answers, one number for all skills of an answer, in the order of the rows.

    With question ids, neighbours can be the skills of one answer: rows of one student with the same
    question (and the same ``sorted_by``) belong together until a skill comes again: then it is
    another attempt. Without ``sorted_by`` the answers must agree too, for then nothing but the
    question says that the rows are one.
    """
    if QUESTION not in rows.columns:
        return rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ORDER))
    same = (STUDENT, QUESTION, *(sorted_by or (CORRECT,)))
    rows = rows.with_columns(pl.struct(*same).rle_id().alias("run"))
    rows = rows.with_columns(pl.int_range(pl.len()).over("run", SKILL).alias("seen"))
    rows = rows.with_columns(pl.col("seen").cum_max().over("run").alias("attempt"))
    number = pl.struct("run", "attempt").rle_id().cast(pl.Int64).alias(ORDER)
    return rows.with_columns(number).drop("run", "seen", "attempt")


def refuse_siblings(rows: pl.DataFrame, file: str) -> None:
    """Raise DataError where rows of equal order have one answer far too often to be answers apart.

    They are the skills of one question then, and each would give the next one's answer away.
    """
    from scipy.stats import binom

    before = pl.col(STUDENT, KEY, SKILL, CORRECT).shift().name.prefix("before_")
    pairs = rows.with_columns(before).filter(pl.col(STUDENT) == pl.col("before_student_id"))
    pairs = pairs.select(
        tied=pl.col(KEY) == pl.col(f"before_{KEY}"),
        agree=(pl.col(CORRECT) == pl.col("before_correct")),
        apart=pl.col(SKILL) != pl.col("before_skill_id"),
    )
    tied, others = pairs.filter("tied", "apart"), pairs.filter(~pl.col("tied"))
    agreeing, count = int(tied.get_column("agree").sum()), len(tied)
    # few others say little of how often answers agree
    usual = (int(others.get_column("agree").sum()) + 1) / (len(others) + 2)
    if (
        count < ENOUGH_TIES
        or agreeing / count < 0.95
        or binom.sf(agreeing - 1, count, usual) > 1e-6
    ):
        return
    raise DataError(
        f"{file}: {count:,} rows have the order of their student's row before and another skill, "
        f"and {agreeing / count:.0%} of them its answer too, where others agree in {usual:.0%}: "
        "they look like the skills of one question, of which each would give the next one's answer "
        "away. Name the question's column (question), or an order that tells answers apart"
    )


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
