"""The 3-line and 4-line files of the DKVMN and AKT repositories: a few lines a student."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from gainakt.data.rows import CORRECT, FOLD, QUESTION, SKILL, STUDENT
from gainakt.data.sources import ROW, Reader, Reading, fingerprint, unroll
from gainakt.data.validation import check_rows, number_interactions
from gainakt.errors import DataError

_LISTS_OF_LINES = {3: (SKILL, CORRECT), 4: (QUESTION, SKILL, CORRECT)}
_SOURCE_NAMES = {STUDENT: "student", QUESTION: "problems", SKILL: "skills", CORRECT: "answers"}
_SUFFIXES = (".csv", ".txt")


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read one file, or a folder whose files are the folds, in the order of their names."""
    files = _files(source)
    lines = _line_option(options)
    parts: list[pl.DataFrame] = []
    for fold, path in enumerate(files):
        # students without an id of their own are numbered through all files
        numbered = sum(part.get_column(STUDENT).n_unique() for part in parts)
        rows = _read_file(path, lines, options.get("heads"), numbered)
        if len(files) > 1:
            rows = rows.with_columns(pl.lit(fold, pl.Int8).alias(FOLD))
        parts.append(rows)
    if len({tuple(part.columns) for part in parts}) > 1:
        raise DataError(
            f"{source}: some files have 3 lines a student and some 4; they must be alike"
        )
    rows = pl.concat(parts)
    return Reading(number_interactions(rows), [fingerprint(path) for path in files])


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


def _read_file(path: Path, lines: int | None, heads: str | None, numbered: int) -> pl.DataFrame:
    fingerprint(path)
    content = path.read_text("utf-8-sig")
    if "\n" not in content:
        content = content.replace("\r", "\n")
    # One comma too many at the end of a line is common in these files and means nothing.
    text = [line.strip().removesuffix(",") for line in content.split("\n")]
    while text and not text[-1]:
        text.pop()
    for number, line in enumerate(text, start=1):
        if not line:
            raise DataError(
                f"{path}, line {number} is blank; a student's lines follow one another with "
                "something on each, and nothing between students"
            )
        if '"' in line:
            raise DataError(f"{path}, line {number} holds a quote; these files have none")
    lines = lines or _guess_lines(text)
    if not text or len(text) % lines:
        raise DataError(
            f"{path} has {len(text)} lines, which is no multiple of {lines} (lines a student); "
            "the option lines says how many there are: 3 or 4"
        )
    names = _LISTS_OF_LINES[lines]
    records: dict[str, list[Any]] = {
        STUDENT: _student_ids(path, text, lines, heads, numbered),
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


def _student_ids(
    path: Path, text: list[str], lines: int, heads: str | None, numbered: int
) -> list[str]:
    """Each record's student: the first field of its first line, or its number.

    The first lines are only counts of answers where all of them are; a number that comes again is
    never one person by itself.
    """
    found = text[0::lines]
    lengths = [answers.count(",") + 1 for answers in text[lines - 1 :: lines]]
    fits = [head == str(length) for head, length in zip(found, lengths, strict=True)]
    if heads not in (None, "ids", "counts"):
        raise DataError(f"option heads is {heads!r}; allowed are ids and counts")
    if heads == "counts" or (heads is None and all(fits)):
        for number, (head, length, good) in enumerate(zip(found, lengths, fits, strict=True)):
            if not good:
                raise DataError(
                    f"{path}, line {number * lines + 1}: the count is {head!r}, but {length} "
                    "answers follow"
                )
        return [str(numbered + number) for number in range(1, len(found) + 1)]
    ids = [head.split(",")[0].strip() for head in found]
    if heads == "ids" or len(set(ids)) == len(ids):
        return ids
    first: dict[str, int] = {}
    for number, student in enumerate(ids):
        if student in first:
            raise DataError(
                f"{path}, lines {first[student] * lines + 1} and {number * lines + 1} both begin "
                f"with {student!r}: say with the option heads whether the first line is a "
                "student's id ('ids': these are one student) or a count of answers ('counts'; "
                f"{fits.count(False)} of {len(fits)} do not fit)"
            )
        first[student] = number
    return ids


def _recognises(source: Path) -> str | None:
    files = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        return None
    with files[0].open("rb") as file:
        begin = file.read(1 << 20).decode("latin-1").splitlines()
    lines = [[item.strip() for item in line.rstrip(",").split(",")] for line in begin[:4]]
    for count in (3, 4):
        if len(lines) < count:
            continue
        skills, answers = lines[count - 2 : count]
        if len(skills) == len(answers) and set(answers) <= {"0", "1"} and len(lines[0]) < 3:
            return f"it has {count} lines a student"
    return None


READER = Reader(
    name="akt_lines",
    source="a file with 3 lines (student, skills, answers) or 4 lines (student, problems, skills, "
    "answers) a student, or a folder of such files, each a fold",
    example="gainakt prepare akt_lines path/to/assist2009 --out data/assist2009",
    read=read,
    recognises=_recognises,
    options={
        "lines": "lines a student, 3 or 4 (default: found out from the first student)",
        "heads": "what a student's first line is, ids or counts of answers (default: found out)",
    },
)
