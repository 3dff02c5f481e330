"""Steps of PSLC DataShop: the KDD Cup 2010 (Algebra, Bridge to Algebra) and exports like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from gainakt.data.logs import Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader, Reading, TextFormat, header_of
from gainakt.errors import DataError

# As pyKT reads it: a question is a step of a problem; its skills are apart by ~~.
LOG = Log(
    columns={
        STUDENT: "Anon Student Id",
        CORRECT: "Correct First Attempt",
        TIMESTAMP: "First Transaction Time",
        ORDER: "First Transaction Time",
    },
    also=("Problem Name", "Step Name"),
    made={QUESTION: pl.concat_str("Problem Name", pl.lit(" / "), "Step Name")},
    skills_apart="~~",
    left_out=(
        without(CORRECT, "answer"),
        without(QUESTION, "question"),
        without(SKILL, "skill"),
        without(TIMESTAMP, "time"),
    ),
    form=TextFormat(separator="\t", quote=None),
)


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read the tab-separated ``source``; skills are those of one of its knowledge models."""
    models = [name for name in header_of(source, LOG.form) or [] if name.startswith("KC(")]
    chosen = options.get("kc") or (models[0] if models else "KC(Default)")
    if models and chosen not in models:
        raise DataError(f"{source} has no knowledge model {chosen!r}; it has {', '.join(models)}")
    return replace(LOG, columns={**LOG.columns, SKILL: chosen}).read(source)


READER = Reader(
    name="datashop",
    source="tab-separated steps of DataShop or the KDD Cup 2010, columns Anon Student Id, Problem "
    "Name, Step Name, First Transaction Time, Correct First Attempt, KC(...)",
    example="gainakt prepare datashop path/to/algebra_2005_2006_train.txt --out data/algebra2005",
    read=read,
    options={"kc": "column with the skills, such as 'KC(Default)' (default: the first KC(...))"},
    recognises=LOG.recognises,
)
