"""Logs with an answer a row: a reader made from a statement of what the columns are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    KEY,
    ROW,
    Filter,
    Reading,
    TextFormat,
    fingerprint,
    header_of,
    read_csv,
)
from gainakt.data.validation import (
    check_rows,
    number_interactions,
    parse_order,
    parse_times,
    refuse_siblings,
)
from gainakt.errors import DataError

# How cells without a value are spelt in exported tables.
NOTHING = ("", "NA", "NaN", "nan", "NULL", "null", "None")


@dataclass(frozen=True)
class LeftOut:
    """Rows that a reader leaves out, and why; `rows` is a condition on the columns as text."""

    name: str
    reason: str
    rows: pl.Expr


@dataclass(frozen=True)
class Log:
    """What the columns of a log say; an answer a row, or a row for each skill of an answer.

    columns: names in the interaction table to names in the log; `ORDER` is what answers are sorted
    by, rows of equal order staying as they stand. also: columns of the log that the rest is made
    from, under their own names. made: interaction columns made from those, as text. time_format: of
    times and order, see `gainakt.data.validation.parse_times`. skills_apart: what stands between
    several skills in one cell. left_out: applied in this order.
    """

    columns: Mapping[str, str]
    also: tuple[str, ...] = ()
    made: Mapping[str, pl.Expr] = field(default_factory=dict)
    time_format: str | None = None
    skills_apart: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    form: TextFormat = field(default_factory=TextFormat)

    def read(self, source: Path) -> Reading:
        """Read one file."""
        fingerprints = [fingerprint(source, encoding=self.form.encoding)]
        needed = {**self.columns, **{name: name for name in self.also}}
        rows, notes = read_csv(source, needed, form=self.form)
        kept, filters = self.rows(rows, source.name)
        return Reading(kept, fingerprints, filters, notes)

    def rows(self, rows: pl.DataFrame, file: str) -> tuple[pl.DataFrame, list[Filter]]:
        """Return checked rows of a `Reading` from rows of text, and what was left out of them."""
        rows = rows.with_columns(_plain(pl.col(name)) for name in rows.columns if name != ROW)
        rows = rows.with_columns(**self.made) if self.made else rows
        filters = []
        for rule in self.left_out:
            kept = rows.filter(~rule.rows.fill_null(False))
            if len(kept) == 0:
                raise DataError(f"{file}: nothing is left: {rule.reason}, in all rows")
            students = rows[STUDENT].n_unique() - kept[STUDENT].n_unique()
            filters.append(Filter(rule.name, rule.reason, len(rows) - len(kept), students))
            rows = kept
        if self.skills_apart is not None:
            several = pl.col(SKILL).str.split(self.skills_apart)
            stripped = several.list.eval(pl.element().str.strip_chars()).list.unique(
                maintain_order=True
            )
            rows = rows.with_columns(stripped.alias(SKILL)).explode(SKILL)
        return checked_rows(rows, file, self.columns, self.time_format), filters

    def recognises(self, source: Path) -> str | None:
        """Say what in a file is as this log has it, None where something is not."""
        needed = [*dict.fromkeys([*self.columns.values(), *self.also])]
        present = header_of(source, self.form)
        if present is None or not set(needed) <= set(present):
            return None
        return "it has the columns " + ", ".join(needed)


def _plain(cell: pl.Expr) -> pl.Expr:
    """A cell without blanks around it, whole numbers spelt alike (27.0 is 27), null for nothing."""
    text = cell.str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
    return pl.when(text.is_in(NOTHING)).then(None).otherwise(text).name.keep()


def without(column: str, what: str) -> LeftOut:
    """Return the rule that leaves out rows without a value in a column."""
    return LeftOut(f"no_{what}", f"rows without {_article(what)}", pl.col(column).is_null())


PARTIAL = LeftOut(
    "fractional_correct",
    "correct between 0 and 1 (partial credit) is neither right nor wrong",
    pl.col(CORRECT).cast(pl.Float64, strict=False).is_between(0, 1, closed="none"),
)
"""Answers with partial credit."""


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def checked_rows(
    rows: pl.DataFrame, file: str, columns: Mapping[str, str], time_format: str | None = None
) -> pl.DataFrame:
    """The rows of a `Reading` from rows of text, every one of them checked.

    ``rows`` has ``row`` and columns of the interaction table; ``columns`` maps these to the names
    that ``file`` uses. Raises DataError that names the first bad cell: file, row, column, value
    and what is allowed.
    """
    if TIMESTAMP in rows.columns:
        named = columns.get(TIMESTAMP, TIMESTAMP)
        times = parse_times(rows, TIMESTAMP, file, named, time_format)
        rows = rows.with_columns(times.alias(TIMESTAMP))
    if ORDER in rows.columns:
        keys = parse_order(rows, ORDER, file, columns.get(ORDER, ORDER), time_format)
        rows = rows.with_columns(keys.alias(ORDER))
    rows = _in_order(check_rows(rows, file, columns))
    if KEY in rows.columns and QUESTION not in rows.columns:
        refuse_siblings(rows, file)
    return rows


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the file's order unless an order column says otherwise, answers numbered.

    Rows of one student and question that are neighbours then are the skills of one answer.
    """
    if ORDER not in rows.columns:
        return number_interactions(rows)
    by = [ORDER]
    if QUESTION in rows.columns:  # of those with equal order, the rows of a question together
        first = pl.col(ROW).min().over(STUDENT, ORDER, QUESTION).alias("first")
        rows, by = rows.with_columns(first), [ORDER, "first"]
    rows = rows.sort(*by, ROW, maintain_order=True).with_columns(pl.col(ORDER).alias(KEY))
    rows = rows.sort(pl.col(ROW).min().over(STUDENT), *by, ROW, maintain_order=True)
    return number_interactions(rows, KEY).drop("first", strict=False)
