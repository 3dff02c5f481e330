"""A user's table in long format, from polars or pandas, as a data set in memory and back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from gainakt.arrays import IntArray
from gainakt.data.interactions import Dataset, skill_order
from gainakt.data.logs import checked_rows
from gainakt.data.prepare import arrange
from gainakt.data.rows import CORRECT, ORDER, QUESTION, SKILL, STUDENT, TIMESTAMP, Rows
from gainakt.data.sources import KEY, ROW, as_text, check_columns, shortened
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError
from gainakt.words import counted

TABLE = "the table"
_LOG = logging.getLogger(__name__)
# Columns that are taken for the question's id where none is named.
QUESTIONS = ("question", QUESTION)


@dataclass(frozen=True, eq=False)
class MemoryDataset(Dataset):
    """A data set that lies in memory only; its path names no folder."""

    def column(self, name: str) -> np.ndarray:
        """A column of numbers, (N,). Raises DataError where it is not kept in memory."""
        present = {Rows.SOURCES[column]: values for column, values in self.rows.present().items()}
        if name not in present or name in (SKILL, QUESTION):  # these are kept as codes
            raise DataError(f"{self.name} has no column {name!r} in memory")
        return present[name]

    def keep(self, rows: np.ndarray) -> MemoryDataset:
        """The data set of the rows where ``rows`` (N,) bool holds, at least one.

        Students without such a row leave.
        """
        counts = np.add.reduceat(rows, self.offsets[:-1], dtype=np.int64)
        left = np.flatnonzero(counts)
        return replace(
            self,
            student_ids=[self.student_ids[student] for student in left.tolist()],
            rows=self.rows.take(rows),
            offsets=np.concatenate([[0], np.cumsum(counts[left])]).astype(np.int64),
            folds=self.folds[left],
        )

    def with_used_skills(self) -> MemoryDataset:
        """The data set without the skills that no row has."""
        present, codes = np.unique(self.rows.skill, return_inverse=True)
        skills = tuple(self.skill_ids[code] for code in present)
        return replace(
            self,
            vocabulary=Vocabulary(skills, self.vocabulary.questions),
            rows=self.rows.replace(skill=codes.astype(np.int32)),
        )


@dataclass(frozen=True, eq=False)
class LongTable:
    """A user's table with its data set.

    ``rows`` (N,) int64 says for each row of the data set where it stands in ``frame``;
    ``names`` maps columns of the interaction table to the user's. ``answered`` (N,) bool is False
    where the answer is not known; what ``responses`` holds there means nothing.
    """

    dataset: MemoryDataset
    rows: np.ndarray
    frame: nw.DataFrame[Any]
    names: Mapping[str, str]
    answered: np.ndarray

    def keep(self, rows: np.ndarray) -> LongTable:
        """The table with only those rows in its data set where ``rows`` (N,) bool holds."""
        return replace(
            self,
            dataset=self.dataset.keep(rows),
            rows=self.rows[rows],
            answered=self.answered[rows],
        )

    def with_column(self, name: str, values: np.ndarray) -> Any:
        """The user's table, of the kind that came in, with one more column.

        ``values`` (N,) belong to the rows of the data set; nan, and every row of the table that is
        not in the data set, becomes an empty cell. Raises DataError when the name is taken.
        """
        self.refuse_column(name)
        column = np.full(len(self.frame), np.nan)
        column[self.rows] = values
        series = nw.new_series(name, column, backend=self.frame.implementation).fill_nan(None)
        return self.frame.with_columns(series).to_native()

    def refuse_column(self, name: str) -> None:
        """Raise DataError when the table has a column ``name`` already."""
        if name in self.frame.columns:
            raise DataError(
                f"{TABLE} has a column {name!r} already, which would be overwritten; rename it "
                "or leave it out"
            )

    def per_student(self, values: Mapping[str, list[Any]], skill_ids: tuple[str, ...]) -> Any:
        """A table of the kind that came in: a row for each student and skill.

        ``values`` are columns of S K values. The columns of students and skills have the user's
        names, students are spelt as in the user's table, skills as the model spells them.
        """
        n_students, n_skills = len(self.dataset.student_ids), len(skill_ids)
        students = self.frame[self.names[STUDENT]].to_list()
        first = self.rows[self.dataset.offsets[:-1]]
        columns = {
            self.names[STUDENT]: [students[row] for row in first for _ in range(n_skills)],
            self.names[SKILL]: list(skill_ids) * n_students,
        }
        return nw.from_dict({**columns, **values}, backend=self.frame.implementation).to_native()


def read_table(
    table: Any,
    *,
    student: str = "student",
    skill: str = "skill",
    correct: str = "correct",
    order: str | None = None,
    question: str | None = None,
    time: str | None = None,
    open_answers: bool = False,
) -> LongTable:
    """Check a table of answers and code it as a data set, as ``gainakt prepare generic`` does.

    Args:
        table: a polars or pandas data frame with an answer (or one skill of an answer) a row.
        student, skill, correct: names of the columns that are needed.
        order: column to order a student's rows by, numbers or dates; by default the column
            ``order`` if there is one, else rows stay as they stand. Equal values keep the order of
            the rows.
        question: column with the question's id, by default `question` or `question_id` where there
            is one; neighbouring rows of a student with equal order and question are the skills of
            one answer. In a prepared table (`student_id`, `skill_id`, `order`) rows of equal order
            are.
        time: column with the time, milliseconds since 1970 or dates; none by default.
        open_answers: allow empty cells of `correct`, or no such column: answers not known yet.

    Raises:
        DataError: it is no such table, has no rows, lacks a column, or has a bad cell: which row
            (counted from 1), column and value, and what is allowed.
    """
    frame = _frame(table)
    _refuse_labels(frame.columns, (student, skill, correct, order, question, time))
    if order is None and ORDER in frame.columns:
        order = ORDER
    if question is None:
        question = next((name for name in QUESTIONS if name in frame.columns), None)
    # a prepared table says with equal order which rows are one answer
    prepared = question is None and (student, skill, order) == (STUDENT, SKILL, ORDER)
    if prepared:
        question = order
    names = {STUDENT: student, SKILL: skill, CORRECT: correct, ORDER: order, QUESTION: question}
    names |= {TIMESTAMP: time}
    columns = {key: name for key, name in names.items() if name is not None}
    if open_answers and correct not in frame.columns:
        frame = frame.with_columns(nw.lit(None, nw.Float64).alias(correct))
    check_columns(TABLE, frame.columns, list(columns.values()))
    if len(frame) == 0:
        raise DataError(f"{TABLE} has no rows")
    text = _as_text(frame, columns)
    answered = text.get_column(CORRECT).is_not_null().to_numpy()
    if open_answers:
        text = text.with_columns(pl.col(CORRECT).fill_null("0"))
    rows = arrange(checked_rows(text, TABLE, columns))
    if prepared:
        rows = rows.drop(QUESTION)
        del columns[QUESTION]
    elif question is None:
        _say_ties(rows)
    places = rows.get_column(ROW).to_numpy() - 1
    return LongTable(_dataset(rows), places, frame, columns, answered[places])


def _say_ties(rows: pl.DataFrame) -> None:
    """Say how many answers may be skills of the answer before: then they would give it away."""
    if KEY not in rows.columns:
        return
    tied = pl.all_horizontal((pl.col(c) == pl.col(c).shift()) for c in (STUDENT, KEY))
    count = int(rows.select(tied.sum()).item() or 0)
    if count:
        _LOG.warning(
            "%s of %s have the order of their student's row before; they are taken as answers of "
            "their own, in the order of the table. Where they are skills of one question, name the "
            "question's column: question=...",
            counted(count, "row"),
            TABLE,
        )


def plain_id(value: object) -> str:
    """Return an id as text; a whole number is spelt alike whatever its type, 27.0 as 27."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _frame(table: Any) -> nw.DataFrame[Any]:
    try:
        return nw.from_native(table, eager_only=True)
    except TypeError:
        collect = "; collect it first" if isinstance(table, pl.LazyFrame) else ""
        raise DataError(
            f"a table must be a polars or pandas DataFrame with an answer a row, "
            f"not {type(table).__module__}.{type(table).__qualname__}{collect}"
        ) from None
    except ValueError as error:  # such as two columns of one name
        raise DataError(f"{TABLE} cannot be read: {' '.join(str(error).split())}") from None


def _refuse_labels(present: Sequence[Any], named: Sequence[Any]) -> None:
    """Refuse to look for columns by numbers or tuples; others of the table may be called so."""
    labels = [label for label in present if isinstance(label, str)]
    if odd := [name for name in named if name is not None and not isinstance(name, str)]:
        raise DataError(f"{odd[0]!r} names a column of {TABLE}: a name must be text")
    if present and not labels:
        raise DataError(
            f"{TABLE} has columns called {shortened(present)}: names must be text; "
            "with pandas: table.columns = ['student', 'skill', 'correct']"
        )


def _as_text(frame: nw.DataFrame[Any], columns: Mapping[str, str]) -> pl.DataFrame:
    """Each column on its own, so that the message can name the one that cannot be read."""
    read = {}
    for key, name in columns.items():
        try:
            column = frame[name].to_polars().alias(key)
            read[key] = as_text(column.to_frame()).get_column(key)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            reason = (str(error).splitlines() or ["unknown reason"])[0]
            raise DataError(
                f"{TABLE}, column {name!r} cannot be read as text: {reason}; its cells must be of "
                "one kind, text, numbers or dates"
            ) from None
    return as_text(pl.DataFrame(read))


def _dataset(rows: pl.DataFrame) -> MemoryDataset:
    runs = rows.get_column(STUDENT).rle().struct.unnest()
    skills = skill_order(rows.get_column(SKILL).unique().to_list())
    codes = rows.get_column(SKILL).replace_strict(skills, range(len(skills)))
    students = runs.get_column("value").to_list()
    questions: tuple[str, ...] = ()
    question: IntArray | None = None
    if QUESTION in rows.columns:
        asked = rows.get_column(QUESTION)
        questions = tuple(asked.unique(maintain_order=True).to_list())
        question = Vocabulary((), questions).question_codes(asked.to_list())
    return MemoryDataset(
        name=TABLE,
        path=Path(TABLE),
        manifest={},
        student_ids=students,
        vocabulary=Vocabulary(tuple(skills), questions),
        rows=Rows(
            skill=codes.to_numpy().astype(np.int32),
            response=rows.get_column(CORRECT).to_numpy().astype(np.int8),
            order=rows.get_column(ORDER).to_numpy(),
            question=question,
            time=rows.get_column(TIMESTAMP).to_numpy() if TIMESTAMP in rows.columns else None,
        ),
        offsets=np.concatenate([[0], runs.get_column("len").to_numpy().cumsum()]).astype(np.int64),
        folds=np.zeros(len(students), np.int8),
    )
