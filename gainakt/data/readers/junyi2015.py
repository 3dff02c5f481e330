"""Junyi Academy 2015, the log of exercises with the table of their topics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.logs import Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader, Reading, file_in, fingerprint, read_csv

LOGGED, EXERCISES = "junyi_ProblemLog_original.csv", "junyi_Exercise_table.csv"

# As pyKT reads it: a topic is a skill, an exercise a question. Times are microseconds.
LOG = Log(
    columns={
        STUDENT: "user_id",
        QUESTION: "exercise",
        CORRECT: "correct",
        ORDER: "time_done",
    },
    left_out=(without(SKILL, "topic"), without(CORRECT, "answer")),
    made={
        CORRECT: pl.col(CORRECT).str.to_lowercase().replace({"true": "1", "false": "0"}),
        TIMESTAMP: pl.col(ORDER).str.head(-3),
    },
)


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the log and the exercises' topics from the folder ``source``."""
    logged, exercises = file_in(source, LOGGED), file_in(source, EXERCISES)
    fingerprints = [fingerprint(logged), fingerprint(exercises)]
    rows, notes = read_csv(logged, LOG.columns)
    topics, _ = read_csv(exercises, {QUESTION: "name", SKILL: "topic"})
    topics = topics.select(QUESTION, SKILL).unique(QUESTION, keep="first", maintain_order=True)
    rows = rows.join(topics, on=QUESTION, how="left", maintain_order="left")
    kept, filters = LOG.rows(rows, logged.name)
    return Reading(kept, fingerprints, filters, notes)


READER = Reader(
    name="junyi2015",
    source=f"a folder with {LOGGED} and {EXERCISES} of Junyi Academy",
    example="gainakt prepare junyi2015 path/to/junyi --out data/junyi2015",
    read=read,
    recognises=lambda source: (
        f"it holds {LOGGED}" if source.is_dir() and any(source.rglob(LOGGED)) else None
    ),
)
