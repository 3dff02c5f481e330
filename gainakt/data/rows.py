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


def _column(source: str, dtype: type[np.generic], **more: Any) -> Any:
    return field(metadata={"source": source, "dtype": dtype}, **more)


@dataclass(frozen=True, eq=False)
class Rows:
    """Equally long columns of N rows, a row for each skill of an answer; optional ones may be None.

    skill: codes from 0. response: 0 or 1. order: the same for the skills of one answer, rising
    within a student. question: codes from 1, 0 where it is unknown. time: milliseconds since 1970.

    A new column is a field here: the mapped arrays, sequences and batches follow the fields.
    """

    skill: IntArray = _column(SKILL, np.int32)  # noqa: RUF009
    response: IntArray = _column(CORRECT, np.int8)  # noqa: RUF009
    order: IntArray = _column(ORDER, np.int32)  # noqa: RUF009
    question: IntArray | None = _column(QUESTION, np.int32, default=None)  # noqa: RUF009
    time: IntArray | None = _column(TIMESTAMP, np.int64, default=None)  # noqa: RUF009

    SOURCES: ClassVar[dict[str, str]]
    """Each column's name in the interaction table."""
    DTYPES: ClassVar[dict[str, type[np.generic]]]

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
        """Return the rows of several, one after the other; all have the same columns."""
        return cls(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in parts[0].present()
            }
        )

    def replace(self, **columns: IntArray | None) -> Rows:
        """Return rows with other values in some columns."""
        return Rows(**self.present() | columns)  # type: ignore[arg-type]


Rows.SOURCES = {f.name: f.metadata["source"] for f in fields(Rows)}
Rows.DTYPES = {f.name: f.metadata["dtype"] for f in fields(Rows)}


def one_student(
    skills: Sequence[int] | IntArray, responses: Sequence[int] | IntArray, order: int = 0
) -> Rows:
    """Return the rows of answers to one skill each, in order of time."""
    return Rows(
        np.asarray(skills, np.int32),
        np.asarray(responses, np.int8),
        np.arange(order, order + len(skills), dtype=np.int32),
    )
