"""The 3-line and 4-line files of the DKVMN and AKT repositories: a few lines a student."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from gainakt.data.rows import CORRECT, FOLD, ORDER, QUESTION, SKILL, STUDENT
from gainakt.data.sources import ROW, Reader, Reading, fingerprint, unroll
from gainakt.data.validation import check_rows
from gainakt.errors import DataError

_LISTS_OF_LINES = {3: (SKILL, CORRECT), 4: (QUESTION, SKILL, CORRECT)}
_SOURCE_NAMES = {STUDENT: "student", QUESTION: "problems", SKILL: "skills", CORRECT: "answers"}
_SUFFIXES = (".csv", ".txt")


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read one file, or a folder whose files are the folds, in the order of their names."""
    files = _files(source)
    lines = _line_option(options)
    parts = []
    for fold, path in enumerate(files):
        rows = _read_file(path, lines)
        if len(files) > 1:
            rows = rows.with_columns(pl.lit(fold, pl.Int8).alias(FOLD))
        parts.append(rows)
    if len({tuple(part.columns) for part in parts}) > 1:
        raise DataError(
            f"{source}: some files have 3 lines a student and some 4; they must be alike"
        )
    rows = pl.concat(parts)
    return Reading(_number_interactions(rows), [fingerprint(path) for path in files])


def _number_interactions(rows: pl.DataFrame) -> pl.DataFrame:
    """One interaction an item; with problem ids, neighbours can be the skills of one answer.

    The files repeat a problem with several skills, one item for each. So neighbours with the same
    problem and answer belong together until a skill comes again: then it is another attempt.
    """
    if QUESTION not in rows.columns:
        return rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ORDER))
    run = pl.struct(STUDENT, QUESTION, CORRECT).rle_id()
    seen = pl.int_range(pl.len()).over("run", SKILL)
    attempt = pl.col("seen").cum_max().over("run")
    numbered = rows.with_columns(run.alias("run")).with_columns(seen.alias("seen"))
    numbered = numbered.with_columns(attempt.alias("attempt"))
    order = pl.struct("run", "attempt").rle_id().cast(pl.Int64).alias(ORDER)
    return numbered.with_columns(order).drop("run", "seen", "attempt")


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = [path for path in source.iterdir() if path.suffix.lower() in _SUFFIXES]
    if not files:
        raise DataError(f"{source} has no file that ends in {' or '.join(_SUFFIXES)}")

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", path.name)]

    return sorted(files, key=natural)


def _line_option(options: Mapping[str, str]) -> int | None:
    lines = options.get("lines")
    if lines is None:
        return None
    if lines not in ("3", "4"):
        raise DataError(f"option lines is {lines!r}; allowed are 3 and 4")
    return int(lines)


def _read_file(path: Path, lines: int | None) -> pl.DataFrame:
    fingerprint(path)
    # One comma too many at the end of a line is common in these files and means nothing.
    text = [line.strip().removesuffix(",") for line in path.read_text("utf-8-sig").split("\n")]
    while text and not text[-1]:
        text.pop()
    lines = lines or _guess_lines(text)
    if not text or len(text) % lines:
        raise DataError(
            f"{path} has {len(text)} lines, which is no multiple of {lines} (lines a student); "
            "the option lines says how many there are: 3 or 4"
        )
    names = _LISTS_OF_LINES[lines]
    records: dict[str, list[Any]] = {
        STUDENT: _student_ids(text, lines),
        ROW: list(range(1, len(text), lines)),
        **{name: text[index::lines] for index, name in enumerate(names, start=1)},
    }
    histories = pl.DataFrame(records, schema_overrides={ROW: pl.Int64}).rename(
        {name: _SOURCE_NAMES[name] for name in names}
    )
    columns = {name: _SOURCE_NAMES[name] for name in names}
    items = unroll(histories, path.name, columns, per_student=(STUDENT,))
    return check_rows(items, path.name, _SOURCE_NAMES)


def _guess_lines(text: list[str]) -> int:
    """4 where the first record reads as problems, skills and 0/1 answers of one length, else 3."""
    head = [line.split(",") for line in text[1:4]]
    alike = len(head) == 3 and len({len(items) for items in head}) == 1
    return 4 if alike and len(text) % 4 == 0 and set(head[2]) <= {"0", "1"} else 3


def _student_ids(text: list[str], lines: int) -> list[str]:
    """The first field of each first line; the record's number where that line is only a count."""
    heads = text[0::lines]
    lengths = [str(answers.count(",") + 1) for answers in text[lines - 1 :: lines]]
    if heads == lengths:
        return [str(number) for number in range(1, len(heads) + 1)]
    return [head.split(",")[0] for head in heads]


READER = Reader(
    name="akt_lines",
    source="a file with 3 lines (student, skills, answers) or 4 lines (student, problems, skills, "
    "answers) a student, or a folder of such files, each a fold",
    example="gainakt prepare akt_lines path/to/assist2009 --out data/assist2009",
    read=read,
    options={"lines": "lines a student, 3 or 4 (default: found out from the first student)"},
)
