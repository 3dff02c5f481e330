"""POJ, submissions to the Peking University online judge."""

from __future__ import annotations

import polars as pl

from gainakt.data.logs import LeftOut, Log, without
from gainakt.data.rows import CORRECT, ORDER, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader

_NO_RESULT = ["Waiting", "Running & Judging", "Compiling"]
_WRONG = (
    "Wrong Answer",
    "Compile Error",
    "Time Limit Exceeded",
    "Memory Limit Exceeded",
    "Runtime Error",
    "Output Limit Exceeded",
    "Presentation Error",
    "System Error",
    "Validator Error",
)

# As pyKT reads it: a problem is a skill, whatever is not accepted is wrong.
LOG = Log(
    columns={
        STUDENT: "User",
        SKILL: "Problem",
        CORRECT: "Result",
        TIMESTAMP: "Submit Time",
        ORDER: "Submit Time",
    },
    left_out=(
        without(CORRECT, "result"),
        LeftOut(
            "not_judged", "submissions without a result yet", pl.col(CORRECT).is_in(_NO_RESULT)
        ),
        without(SKILL, "problem"),
        without(TIMESTAMP, "time"),
    ),
    made={CORRECT: pl.col(CORRECT).replace({"Accepted": "1", **dict.fromkeys(_WRONG, "0")})},
)

READER = Reader(
    name="poj",
    source="the CSV of POJ submissions, columns User, Problem, Result, Submit Time",
    example="gainakt prepare poj path/to/poj_log.csv --out data/poj",
    read=lambda source, options: LOG.read(source),
    recognises=LOG.recognises,
)
