"""EdNet KT1: a file of answers for each student, and the table of questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from gainakt.data.logs import Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import (
    ROW,
    Reader,
    Reading,
    check_columns,
    file_in,
    fingerprint,
    read_csv,
)
from gainakt.errors import DataError

QUESTIONS = "questions.csv"
NEEDED = ("timestamp", "question_id", "user_answer")
# Files that are read at a time.
PART = 5_000

# As pyKT reads it, but for its sample of 5,000 students: the tags of a question are its skills.
LOG = Log(
    columns={STUDENT: "file", QUESTION: "question_id", TIMESTAMP: "timestamp", ORDER: "timestamp"},
    also=("user_answer", "correct_answer"),
    made={
        CORRECT: pl.when(pl.col("user_answer").is_null())
        .then(None)
        .when(pl.col("user_answer") == pl.col("correct_answer"))
        .then(pl.lit("1"))
        .otherwise(pl.lit("0"))
    },
    skills_apart=";",
    left_out=(without(CORRECT, "answer"), without(SKILL, "tag")),
)


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read ``u*.csv`` and ``questions.csv`` from the folder ``source``."""
    table = file_in(source, QUESTIONS)
    known = fingerprint(table)
    questions, _ = read_csv(
        table, {QUESTION: "question_id", "correct_answer": "correct_answer", SKILL: "tags"}
    )
    questions = questions.drop(ROW).with_columns(pl.col(SKILL).replace({"-1": None}))
    files = sorted(source.rglob("u*.csv"), key=lambda path: (len(path.stem), path.stem))
    if not files:
        raise DataError(f"{source} holds no u*.csv, the files of students")
    parts = [_part(files[begin : begin + PART]) for begin in range(0, len(files), PART)]
    rows = pl.concat(parts).join(questions, on=QUESTION, how="left", maintain_order="left")
    kept, filters = LOG.rows(rows, f"{source.name}/u*.csv")
    return Reading(kept, [known, _fingerprint_of_all(files)], filters)


def _part(files: list[Path]) -> pl.DataFrame:
    """The answers of some students; rows are counted within each file."""
    try:
        table = pl.scan_csv(
            files, infer_schema=False, include_file_paths="path", glob=False
        ).collect()
    except pl.exceptions.PolarsError as error:
        for path in files:  # which of them it was
            fingerprint(path)
            read_csv(path, {name: name for name in NEEDED})
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise DataError(f"{files[0].parent}/u*.csv cannot be read together: {reason}") from None
    check_columns(files[0], table.columns, NEEDED)
    return table.select(
        (pl.int_range(pl.len(), dtype=pl.Int64).over("path") + 2).alias(ROW),
        pl.col("path").str.extract(r"([^/\\]+)\.csv$").alias(STUDENT),
        pl.col("question_id").alias(QUESTION),
        pl.col("timestamp").alias(TIMESTAMP),
        pl.col("timestamp").alias(ORDER),
        "user_answer",
    )


def _fingerprint_of_all(files: list[Path]) -> dict[str, Any]:
    """One fingerprint of all students' files: the hash of their names and contents, in order."""
    digest, size = hashlib.sha256(), 0
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
        size += len(content)
    return {"file": f"{len(files):,} u*.csv", "bytes": size, "sha256": digest.hexdigest()}


READER = Reader(
    name="ednet",
    source=f"the folder of EdNet KT1: u*.csv, a file a student, and {QUESTIONS}, in whatever "
    "folders",
    example="gainakt prepare ednet path/to/EdNet --out data/ednet",
    read=read,
    recognises=lambda source: (
        f"it holds {QUESTIONS} and u*.csv"
        if source.is_dir() and any(source.rglob(QUESTIONS)) and any(source.rglob("u[0-9]*.csv"))
        else None
    ),
)
