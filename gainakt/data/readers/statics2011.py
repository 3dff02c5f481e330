"""Engineering statics 2011 of PSLC DataShop, steps of students as a CSV."""

from __future__ import annotations

import polars as pl

from gainakt.data.logs import LeftOut, Log, without
from gainakt.data.rows import CORRECT, ORDER, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader

_FIRST = {"correct": "1", "incorrect": "0"}

# As pyKT reads it: each step of a problem is a skill of its own, a first attempt that asked for a
# hint is no answer.
LOG = Log(
    columns={
        STUDENT: "Anon Student Id",
        CORRECT: "First Attempt",
        TIMESTAMP: "First Transaction Time",
        ORDER: "First Transaction Time",
    },
    also=("Problem Name", "Step Name"),
    made={
        SKILL: pl.concat_str("Problem Name", pl.lit(" / "), "Step Name"),
        CORRECT: pl.col(CORRECT).replace(_FIRST),
    },
    time_format="%Y/%m/%d %H:%M",
    left_out=(
        LeftOut("hint", "a first attempt that was a request for a hint", pl.col(CORRECT) == "hint"),
        without(CORRECT, "answer"),
        without(SKILL, "skill"),
        without(TIMESTAMP, "time"),
    ),
)

READER = Reader(
    name="statics2011",
    source="the CSV of steps of DataShop's engineering statics, columns Anon Student Id, Problem "
    "Name, Step Name, First Transaction Time, First Attempt",
    example="gainakt prepare statics2011 path/to/AllData_student_step_2011F.csv "
    "--out data/statics2011",
    read=lambda source, options: LOG.read(source),
    recognises=LOG.recognises,
)
