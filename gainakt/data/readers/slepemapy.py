"""Slepemapy, answers about places on maps."""

from __future__ import annotations

import polars as pl

from gainakt.data.logs import Log, without
from gainakt.data.rows import CORRECT, ORDER, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader, TextFormat

_IS_RIGHT = (pl.col("place_answered") == pl.col(SKILL)).fill_null(False)

# As pyKT reads it: the place asked is the skill, no answer is a wrong one.
LOG = Log(
    columns={STUDENT: "user", SKILL: "place_asked", TIMESTAMP: "inserted", ORDER: "inserted"},
    also=("place_answered",),
    made={CORRECT: pl.when(_IS_RIGHT).then(pl.lit("1")).otherwise(pl.lit("0"))},
    left_out=(without(STUDENT, "user"), without(SKILL, "place"), without(TIMESTAMP, "time")),
    form=TextFormat(separator=";"),
)

READER = Reader(
    name="slepemapy",
    source="answers of slepemapy.cz apart by semicolons, columns user, place_asked, "
    "place_answered, inserted",
    example="gainakt prepare slepemapy path/to/answer.csv --out data/slepemapy",
    read=lambda source, options: LOG.read(source),
    recognises=LOG.recognises,
)
