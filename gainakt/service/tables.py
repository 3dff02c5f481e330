"""The tables of the service: students, their answers, and keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NUMBER = BigInteger().with_variant(Integer(), "sqlite")
"""Counted up by the database; SQLite does so for this type alone."""
NEVER_AGAIN = {"sqlite_autoincrement": True}
"""A number that was given is not given again, as PostgreSQL has it by itself."""


class Base(DeclarativeBase):
    """What the tables have in common."""


class Student(Base):
    """A student with an answer at least; each change of the answers raises `version`."""

    __tablename__ = "students"
    __table_args__ = NEVER_AGAIN

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    version: Mapped[int] = mapped_column(default=0)


class StoredAnswer(Base):
    """An answer; `arrival` rises within a student. `time` is in milliseconds since 1970."""

    __tablename__ = "answers"
    __table_args__: Any = (
        UniqueConstraint("student_id", "event", name="one_answer_an_event"),
        Index("history", "student_id", "time", "arrival"),
        NEVER_AGAIN,
    )

    arrival: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    student_id: Mapped[int] = mapped_column(NUMBER, ForeignKey("students.id"))
    event: Mapped[str] = mapped_column(String(200))
    skills: Mapped[list[str]] = mapped_column(JSON)
    right: Mapped[bool]
    question: Mapped[str | None] = mapped_column(String(200))
    time: Mapped[int] = mapped_column(BigInteger)


class Key(Base):
    """A key, of which the hash of its secret is kept. `added`: milliseconds since 1970."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(10))
    note: Mapped[str] = mapped_column(String(200))
    added: Mapped[int] = mapped_column(BigInteger)
