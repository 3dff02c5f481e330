"""ASSISTments 2015, the raw skill builder CSV: an answer a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.rows import CORRECT, ORDER, SKILL, STUDENT
from gainakt.data.sources import Filter, Reader, Reading, fingerprint, header_of, read_csv
from gainakt.data.validation import check_rows, parse_order

_COLUMNS = {STUDENT: "user_id", ORDER: "log_id", SKILL: "sequence_id", CORRECT: "correct"}


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the CSV ``source``; answers between 0 and 1 are left out, the rest ordered by log_id."""
    fingerprints = [fingerprint(source)]
    rows, notes = read_csv(source, _COLUMNS)
    whole, filtered = _leave_out_fractional(rows)
    logged = parse_order(whole, ORDER, source.name, "log_id")
    # Equal log ids keep the order of the file and stay interactions of their own.
    whole = whole.with_columns(logged.rank("ordinal").cast(pl.Int64).alias(ORDER))
    return Reading(check_rows(whole, source.name, _COLUMNS), fingerprints, [filtered], notes)


def _leave_out_fractional(rows: pl.DataFrame) -> tuple[pl.DataFrame, Filter]:
    answer = pl.col(CORRECT).str.strip_chars().cast(pl.Float64, strict=False)
    fractional = ((answer > 0) & (answer < 1)).fill_null(False)
    kept = rows.filter(~fractional)
    return kept, Filter(
        "fractional_correct",
        "correct between 0 and 1 (partial credit) is neither right nor wrong",
        len(rows) - len(kept),
        rows.get_column(STUDENT).n_unique() - kept.get_column(STUDENT).n_unique(),
    )


def _recognises(source: Path) -> str | None:
    present = header_of(source) or []
    # the other years' logs tell problems apart
    if not set(_COLUMNS.values()) <= set(present) or "problem_id" in present:
        return None
    return "it has the columns " + ", ".join(_COLUMNS.values())


READER = Reader(
    name="assist2015",
    source="the raw ASSISTments 2015 CSV, columns user_id, log_id, sequence_id, correct",
    example="gainakt prepare assist2015 path/to/2015_100_skill_builders_main_problems.csv "
    "--out data/assist2015",
    read=read,
    recognises=_recognises,
)
