"""Eedi, the NeurIPS 2020 education challenge, tasks 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gainakt.data.logs import Log, without
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP
from gainakt.data.sources import Reader, Reading, file_in, fingerprint, read_csv
from gainakt.errors import DataError

ANSWERS = "train_task_3_4.csv"
DATES = "answer_metadata_task_3_4.csv"
QUESTIONS = "question_metadata_task_3_4.csv"
SUBJECTS = "subject_metadata.csv"

# As pyKT reads it: the skills of a question are its subjects of level 3.
LEVEL = "3"
LOG = Log(
    columns={
        STUDENT: "UserId",
        QUESTION: "QuestionId",
        CORRECT: "IsCorrect",
    },
    skills_apart=",",
    left_out=(
        without(SKILL, "subject of that level"),
        without(CORRECT, "answer"),
        without(TIMESTAMP, "date"),
    ),
)


def read(source: Path, options: Mapping[str, str]) -> Reading:
    """Read answers, their dates and the questions' subjects from the folder ``source``."""
    names = (ANSWERS, DATES, QUESTIONS, SUBJECTS)
    answers, dates, questions, subjects = (file_in(source, name) for name in names)
    fingerprints = [fingerprint(path) for path in (answers, dates, questions, subjects)]
    rows, notes = read_csv(answers, {**LOG.columns, "answer": "AnswerId"})
    when, _ = read_csv(dates, {"answer": "AnswerId", TIMESTAMP: "DateAnswered"})
    when = when.drop("row").unique("answer", keep="first", maintain_order=True)
    rows = rows.join(when, on="answer", how="left", maintain_order="left")
    skills = _skills(questions, subjects, options.get("level", LEVEL))
    rows = rows.join(skills, on=QUESTION, how="left", maintain_order="left")
    rows = rows.drop("answer").with_columns(pl.col(TIMESTAMP).alias(ORDER))
    kept, filters = LOG.rows(rows, answers.name)
    return Reading(kept, fingerprints, filters, notes)


def _skills(questions: Path, subjects: Path, level: str) -> pl.DataFrame:
    """The subjects of a level of each question, joined by commas."""
    known, _ = read_csv(subjects, {"subject": "SubjectId", "level": "Level"})
    levels = sorted(known["level"].drop_nulls().unique().to_list())
    if level not in levels:
        raise DataError(f"option level is {level!r}; {subjects.name} has {', '.join(levels)}")
    kept = known.filter(pl.col("level") == level)["subject"].to_list()
    listed, _ = read_csv(questions, {QUESTION: "QuestionId", SKILL: "SubjectId"})
    of_level = (
        pl.col(SKILL)
        .str.extract_all(r"\d+")
        .list.eval(pl.element().filter(pl.element().is_in(kept)))
    )
    joined = listed.with_columns(of_level.list.join(",").alias(SKILL))
    return joined.select(QUESTION, SKILL).unique(QUESTION, keep="first", maintain_order=True)


READER = Reader(
    name="eedi",
    source=f"a folder with {ANSWERS}, {DATES}, {QUESTIONS} and {SUBJECTS}, in whatever folders",
    example="gainakt prepare eedi path/to/neurips2020 --out data/eedi",
    read=read,
    options={"level": "level of the subjects that are taken for skills (default: 3)"},
    recognises=lambda source: (
        f"it holds {ANSWERS}" if source.is_dir() and any(source.rglob(ANSWERS)) else None
    ),
)
