"""ASSISTments 2017, the CSV of the data mining competition."""

from __future__ import annotations

from gainakt.data.logs import PARTIAL, Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader

# As pyKT reads it; times are seconds.
LOG = Log(
    columns={
        STUDENT: "studentId",
        SKILL: "skill",
        QUESTION: "problemId",
        CORRECT: "correct",
        TIMESTAMP: "startTime",
        ORDER: "startTime",
    },
    time_format="s",
    left_out=(without(SKILL, "skill"), without(CORRECT, "answer"), PARTIAL),
)

READER = Reader(
    name="assist2017",
    source="the CSV of the 2017 ASSISTments competition, columns studentId, skill, problemId, "
    "startTime, correct",
    example="gainakt prepare assist2017 path/to/anonymized_full_release_competition_dataset.csv "
    "--out data/assist2017",
    read=lambda source, options: LOG.read(source),
    recognises=LOG.recognises,
)
