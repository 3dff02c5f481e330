"""Students' states in memory, made from the database alone and as new as it is."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from gainakt.data.vocabulary import Vocabulary, known_id
from gainakt.evaluation.explanation import ExplainedPrediction
from gainakt.service.answers import find, history
from gainakt.service.database import Database
from gainakt.service.tables import StoredAnswer
from gainakt.session import Answer, Session
from gainakt.tracer import Tracer

# States that are kept; others are made again when they are asked for.
KEPT = 2_000


@dataclass(frozen=True)
class State:
    """What is known of a student at one version of their answers; the session is not changed.

    student, version: see `gainakt.service.tables.Student`. arrival, time: the latest. practised:
    skills in the order in which they were first met. left_out: answers to skills that the model
    does not know.
    """

    student: int
    version: int
    arrival: int
    time: int
    session: Session
    practised: tuple[str, ...]
    left_out: int


class Students:
    """Every student of a database, as a model sees them."""

    def __init__(self, tracer: Tracer, database: Database, kept: int = KEPT) -> None:
        self.tracer = tracer
        self.database = database
        self.kept = kept
        self._states: OrderedDict[str, State] = OrderedDict()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def state(self, name: str) -> State | None:
        """Return a student's state now, None where no answer of theirs is stored."""
        with self._turn:
            known = self._states.get(name)
        with self.database.reading() as session:
            student = find(session, name)
            if student is None:
                self.forget(name)
                return None
            number, version = student.id, student.version
            if known is not None and (known.student, known.version) == (number, version):
                self._keep(name, known)
                return known
            answers = None
            if known is not None and known.student == number:
                answers = history(session, number, after=known.arrival)
                if not answers or answers[0].time < known.time:  # one came late
                    answers = None
            if answers is None:
                known, answers = None, history(session, number)
        state = self._advanced(known, number, version, answers)
        self._keep(name, state)
        return state

    def explain(
        self, name: str, skills: list[str], question: str | None, time: int | None
    ) -> tuple[ExplainedPrediction, list[StoredAnswer]] | None:
        """Take apart what is predicted for a question that would come next.

        Returns:
            The explanation, and for each of its steps the answer it belongs to; None where no
            answer of the student is stored.

        Raises:
            DataError: a skill is unknown to the model.
        """
        self.refuse_unknown(skills)
        with self.database.reading() as session:
            student = find(session, name)
            answers = [] if student is None else history(session, student.id)
        answers = [a for a in answers if self._read(a)]
        if not answers:
            return None
        rows, steps = [], []
        for number, a in enumerate(answers):
            mine = list(dict.fromkeys(self._read(a)))
            steps += [a] * len(mine)
            rows += [(s, a.right, number, _named(a.question, number), a.time) for s in mine]
        asked = _named(question, len(answers))
        when = answers[-1].time if time is None else time
        rows += [(skill, False, len(answers), asked, when) for skill in dict.fromkeys(skills)]
        names = ["skill", "correct", "order", "question", "time"]
        table = pl.DataFrame(rows, schema=names, orient="row").with_columns(
            pl.lit("student").alias("student"), pl.col("correct").cast(pl.Int8)
        )
        explained = self.tracer.explain(
            table, "student", len(steps), columns={"order": "order", "time": "time"}
        )
        return explained, steps

    def forget(self, name: str) -> None:
        """Drop a student's state from memory."""
        with self._turn:
            self._states.pop(name, None)

    def refuse_unknown(self, skills: Iterable[str]) -> None:
        """Refuse skills that the model does not know.

        Raises:
            DataError: which one, and what is near.
        """
        for skill in skills:
            if self._vocabulary.skill_code(skill) is None:
                known_id("skill", skill, self.tracer.skills, "the model", "GET /v1/skills")

    @property
    def _vocabulary(self) -> Vocabulary:
        return self.tracer.predictor.vocabulary

    def _read(self, answer: StoredAnswer) -> list[str]:
        """The skills of an answer that the model, maybe another than at its arrival, knows."""
        return [s for s in answer.skills if self._vocabulary.skill_code(s) is not None]

    def _advanced(
        self, known: State | None, student: int, version: int, answers: list[StoredAnswer]
    ) -> State:
        """The state after further answers, from a known one or from nothing."""
        read = [(a, skills) for a in answers if (skills := self._read(a))]
        session = self.tracer.session() if known is None else copy.copy(known.session)
        session.extend(Answer(skills, a.right, a.question, a.time) for a, skills in read)
        met = [skill for _, skills in read for skill in skills]
        return State(
            student=student,
            version=version,
            arrival=max([a.arrival for a in answers] + [known.arrival if known else 0]),
            time=max([a.time for a in answers] + [known.time if known else 0]),
            session=session,
            practised=tuple(dict.fromkeys([*(known.practised if known else ()), *met])),
            left_out=len(answers) - len(read) + (known.left_out if known else 0),
        )

    def _keep(self, name: str, state: State) -> None:
        with self._turn:
            old = self._states.get(name)
            if old is None or (old.student, old.version) <= (state.student, state.version):
                self._states[name] = state
            self._states.move_to_end(name)
            while len(self._states) > self.kept:
                self._states.popitem(last=False)


def _named(question: str | None, number: int) -> str:
    """A question's id, or one that no model knows: answers to none are not to the same one."""
    return question if question is not None else f"\N{REPLACEMENT CHARACTER}{number}"
