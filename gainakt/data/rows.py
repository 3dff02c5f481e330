"""The columns that every reading of students' histories goes through, listed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gainakt.arrays import IntArray

STUDENT = "student_id"
ORDER = "order"
SKILL = "skill_id"
CORRECT = "correct"
QUESTION = "question_id"
TIMESTAMP = "timestamp"
FOLD = "fold"
TRUE_MASTERY = "true_mastery"

UNKNOWN = 0
"""The code of a question that is not known; those that are count from 1."""
NONE = -1
"""What stands in `Rows.others` where a question has no further skill."""


def _column(source: str, dtype: type[np.generic], missing: int | None = None) -> Any:
    """A column; `missing` is what stands for it in rows that lack it, where it may be lacking."""
    about = {"source": source, "dtype": dtype, "missing": missing}
    return field(metadata=about) if missing is None else field(metadata=about, default=None)


@dataclass(frozen=True, eq=False)
class Rows:
    """Equally long columns of N rows, a row for each skill of an answer; optional ones may be None.

    skill: codes from 0. response: 0 or 1. order: the same for the skills of one answer, rising
    within a student. question: codes from 1, 0 where it is unknown. time: milliseconds since 1970.
    others (N, S - 1): where an answer is one row whatever its skills (see `gainakt.data.pooling`),
    those after the first, `NONE` where there are fewer.

    A new column is a field here: the mapped arrays, sequences and batches follow the fields.
    """

    skill: IntArray = _column(SKILL, np.int32)  # noqa: RUF009
    response: IntArray = _column(CORRECT, np.int8)  # noqa: RUF009
    order: IntArray = _column(ORDER, np.int32)  # noqa: RUF009
    question: IntArray | None = _column(QUESTION, np.int32, missing=UNKNOWN)  # noqa: RUF009
    time: IntArray | None = _column(TIMESTAMP, np.int64, missing=0)  # noqa: RUF009
    others: IntArray | None = _column("", np.int32, missing=NONE)  # noqa: RUF009

    SOURCES: ClassVar[dict[str, str]]
    """Each column's name in the interaction table; of those that are not stored, nothing."""
    DTYPES: ClassVar[dict[str, type[np.generic]]]
    MISSING: ClassVar[dict[str, int]]

    def __post_init__(self) -> None:
        assert len({len(values) for values in self.present().values()}) == 1

    def __len__(self) -> int:
        return len(self.skill)

    def present(self) -> dict[str, IntArray]:
        """Return the columns that are there, by name."""
        columns = {name: getattr(self, name) for name in self.SOURCES}
        return {name: values for name, values in columns.items() if values is not None}

    def map(self, change: Callable[[IntArray], IntArray]) -> Rows:
        """Return rows with every column changed in the same way."""
        return Rows(**{name: change(values) for name, values in self.present().items()})

    def take(self, index: npt.NDArray[Any] | slice) -> Rows:
        """Return the rows at `index` (M,), integers or a mask, in that order."""
        return self.map(lambda values: values[index])

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of several, one after the other, with the columns of any of them."""
        names = [name for name in cls.SOURCES if any(name in part.present() for part in parts)]
        return cls(**{name: _stacked([part._filled(name) for part in parts]) for name in names})

    def _filled(self, name: str) -> IntArray:
        """A column, made up where it is not there."""
        values: IntArray | None = getattr(self, name)
        if values is not None:
            return values
        shape = (len(self), 0) if name == "others" else (len(self),)
        return np.full(shape, self.MISSING[name], self.DTYPES[name])

    def replace(self, **columns: IntArray | None) -> Rows:
        """Return rows with other values in some columns."""
        return Rows(**self.present() | columns)  # type: ignore[arg-type]


Rows.SOURCES = {f.name: f.metadata["source"] for f in fields(Rows)}
Rows.DTYPES = {f.name: f.metadata["dtype"] for f in fields(Rows)}
Rows.MISSING = {f.name: f.metadata["missing"] for f in fields(Rows)}


def _stacked(columns: list[IntArray]) -> IntArray:
    """Columns one after the other, narrow ones filled up with `NONE`."""
    if columns[0].ndim > 1:
        width = max(column.shape[1] for column in columns)
        fill = [((0, 0), (0, width - column.shape[1])) for column in columns]
        columns = [
            np.pad(column, more, constant_values=NONE)
            for column, more in zip(columns, fill, strict=True)
        ]
    return np.concatenate(columns)


def one_student(
    skills: Sequence[int] | IntArray, responses: Sequence[int] | IntArray, order: int = 0
) -> Rows:
    """Return the rows of answers to one skill each, in order of time."""
    return Rows(
        np.asarray(skills, np.int32),
        np.asarray(responses, np.int8),
        np.arange(order, order + len(skills), dtype=np.int32),
    )


def asked_next(
    skills: Sequence[int],
    question: int = UNKNOWN,
    others: Sequence[int] = (),
    time: int | Sequence[int] = 0,
) -> Rows:
    """Return the rows of questions that might be asked next, one on each skill; no answer is given.

    Args:
        skills: codes of M skills.
        question: code of the question that asks for them.
        others: codes of the further skills that it asks for besides, of a model that pools them.
        time: when, in milliseconds since 1970, for all or for each; 0 for the last answer's.
    """
    n = len(skills)
    return Rows(
        skill=np.asarray(skills, np.int32),
        response=np.zeros(n, np.int8),
        order=np.zeros(n, np.int32),
        question=np.full(n, question, np.int32),
        time=np.broadcast_to(np.asarray(time, np.int64), n),
        others=np.tile(np.asarray(others, np.int32), (n, 1)) if len(others) else None,
    )
