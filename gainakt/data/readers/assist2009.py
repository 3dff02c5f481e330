"""ASSISTments 2009-2010, the raw skill builder CSV, collapsed or with a row for each skill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from gainakt.data.logs import PARTIAL, LeftOut, Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT
from gainakt.data.sources import Reader, Reading, TextFormat
from gainakt.errors import DataError

# As pyKT reads it: rows without a skill are left out, answers sorted by order_id. A problem's
# several skills are joined by "_", or rows of one order_id; either way they are one answer.
LOG = Log(
    columns={
        STUDENT: "user_id",
        ORDER: "order_id",
        QUESTION: "problem_id",
        SKILL: "skill_id",
        CORRECT: "correct",
    },
    skills_apart="_",
    left_out=(without(SKILL, "skill"), without(CORRECT, "answer"), PARTIAL),
)
_SCAFFOLDING = LeftOut(
    "scaffolding",
    "scaffolding, asked after a wrong answer (original is 0)",
    pl.col("original") == "0",
)


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the CSV ``source``."""
    log = replace(LOG, form=TextFormat(encoding=options.get("encoding", "utf-8")))
    scaffolding = options.get("scaffolding", "keep")
    if scaffolding not in ("keep", "drop"):
        raise DataError(f"option scaffolding is {scaffolding!r}; allowed are keep and drop")
    if scaffolding == "drop":
        log = replace(log, also=("original",), left_out=(*log.left_out, _SCAFFOLDING))
    return log.read(source)


def _recognises(source: Path) -> str | None:
    # ASSISTments 2012 has order ids too, but also times
    return None if replace(LOG, also=("start_time",)).recognises(source) else LOG.recognises(source)


READER = Reader(
    name="assist2009",
    source="the raw ASSISTments 2009-2010 skill builder CSV, columns order_id, user_id, "
    "problem_id, skill_id, correct",
    example="gainakt prepare assist2009 path/to/skill_builder_data_corrected_collapsed.csv "
    "--out data/assist2009",
    read=read,
    options={
        "scaffolding": "keep or drop the problems that break another one down (default: keep)",
        "encoding": "encoding of the file; the uncorrected one is latin-1 (default: utf-8)",
    },
    recognises=_recognises,
)
