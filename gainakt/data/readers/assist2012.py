"""ASSISTments 2012-2013 with or without affect, the raw CSV."""

from __future__ import annotations

from gainakt.data.logs import PARTIAL, Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader

# As pyKT reads it, but for partial credit, which it takes for wrong answers.
LOG = Log(
    columns={
        STUDENT: "user_id",
        SKILL: "skill_id",
        QUESTION: "problem_id",
        CORRECT: "correct",
        TIMESTAMP: "start_time",
        ORDER: "start_time",
    },
    left_out=(without(SKILL, "skill"), without(CORRECT, "answer"), PARTIAL),
)

READER = Reader(
    name="assist2012",
    source="the raw ASSISTments 2012-2013 CSV, columns user_id, skill_id, problem_id, start_time, "
    "correct",
    example="gainakt prepare assist2012 path/to/2012-2013-data-with-predictions-4-final.csv "
    "--out data/assist2012",
    read=lambda source, options: LOG.read(source),
    recognises=LOG.recognises,
)
