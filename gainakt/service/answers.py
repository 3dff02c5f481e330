"""Storing answers once each, and reading and deleting a student's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from gainakt.errors import GainaktError
from gainakt.service.database import Database
from gainakt.service.tables import StoredAnswer, Student


@dataclass(frozen=True)
class NewAnswer:
    """An answer as it arrives; see `StoredAnswer`."""

    student: str
    event: str
    skills: tuple[str, ...]
    right: bool
    question: str | None
    time: int


class Conflict(GainaktError):
    """An event is stored with another content already."""

    def __init__(self, events: Sequence[str]) -> None:
        super().__init__(
            "an answer with this event id and another content is stored already; nothing is stored"
        )
        self.events = list(events)


def store(database: Database, answers: Sequence[NewAnswer]) -> tuple[list[int], int]:
    """Store answers, all or none, each event of a student once.

    Returns:
        The number of arrival of each, the same whenever it is sent again, and how many are new.

    Raises:
        Conflict: an event of the student is stored with another content.
    """
    by_student: dict[str, list[NewAnswer]] = defaultdict(list)
    for answer in answers:
        by_student[answer.student].append(answer)
    with database.writing() as session:
        found: dict[tuple[str, str], StoredAnswer] = {}
        conflicts, new = [], 0
        # in one order everywhere, so that no two writers wait for one another
        for name in sorted(by_student):
            student = _locked(session, name)
            events = {answer.event for answer in by_student[name]}
            known = _by_event(session, student.id, events)
            before = len(known)
            for answer in by_student[name]:
                row = known.setdefault(answer.event, _row(student.id, answer))
                if not _same(row, answer):
                    conflicts.append(answer.event)
            fresh = [row for row in known.values() if row.arrival is None]
            if fresh:
                session.add_all(fresh)
                student.version += 1
                session.flush()
            new += len(known) - before
            found |= {(name, key): row for key, row in known.items()}
        if conflicts:
            raise Conflict(conflicts)
        return [found[a.student, a.event].arrival for a in answers], new


def history(session: Session, student: int, after: int = 0) -> list[StoredAnswer]:
    """Return a student's answers that arrived after a number, in order of time and then arrival."""
    wanted = select(StoredAnswer).where(
        StoredAnswer.student_id == student, StoredAnswer.arrival > after
    )
    return list(session.scalars(wanted.order_by(StoredAnswer.time, StoredAnswer.arrival)))


def find(session: Session, name: str) -> Student | None:
    """Return a student, None where there is no answer of theirs."""
    return session.scalar(select(Student).where(Student.name == name))


def remove(database: Database, name: str, *, dry_run: bool) -> int | None:
    """Delete a student and all their answers, or only count them; None where there is no such."""
    with database.writing() as session:
        student = session.scalar(select(Student).where(Student.name == name).with_for_update())
        if student is None:
            return None
        mine = StoredAnswer.student_id == student.id
        count = session.scalar(select(func.count()).select_from(StoredAnswer).where(mine)) or 0
        if not dry_run:
            session.execute(delete(StoredAnswer).where(mine))
            session.execute(delete(Student).where(Student.id == student.id))
    return count


def _locked(session: Session, name: str) -> Student:
    """The student, made where it is new, whom nobody else changes until the transaction ends."""
    dialect: Any = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(Student).values(name=name, version=0).on_conflict_do_nothing()
    while True:
        session.execute(new)
        student = session.scalar(select(Student).where(Student.name == name).with_for_update())
        if student is not None:  # else it was deleted meanwhile
            return student


def _by_event(session: Session, student: int, events: Iterable[str]) -> dict[str, StoredAnswer]:
    wanted = select(StoredAnswer).where(
        StoredAnswer.student_id == student, StoredAnswer.event.in_(list(events))
    )
    return {row.event: row for row in session.scalars(wanted)}


def _row(student: int, answer: NewAnswer) -> StoredAnswer:
    return StoredAnswer(
        student_id=student,
        event=answer.event,
        skills=list(answer.skills),
        right=answer.right,
        question=answer.question,
        time=answer.time,
    )


def _same(row: StoredAnswer, answer: NewAnswer) -> bool:
    stored = (tuple(row.skills), row.right, row.question, row.time)
    return stored == (answer.skills, answer.right, answer.question, answer.time)
