"""One student, one answer at a time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from gainakt.data.rows import UNKNOWN, Rows, asked_next
from gainakt.data.tables import plain_id
from gainakt.data.vocabulary import Vocabulary, known_id
from gainakt.errors import DataError, GainaktError
from gainakt.evaluation.certainty import Mastery, mastery_of, review_time
from gainakt.evaluation.predictor import Predictor


@dataclass(frozen=True)
class Answer:
    """A student's answer to one question.

    skill: id of the skill, or a list of ids where the question has several. right: 1 or True, 0 or
    False. question: id, None where questions are not told apart. time: milliseconds since 1970.
    """

    skill: object
    right: object
    question: object = None
    time: int | None = None


class Session:
    """One student, one answer at a time: what the model knows is kept, not computed again.

    It says at every step what `Tracer.predict` and `Tracer.mastery` say of a table with the same
    answers, up to rounding. An answer costs the same however long the history is. Several threads
    may use one session: each call is carried out whole. `copy.copy` gives a session that goes on by
    itself. A session holds the model and is not to be pickled: keep the student's answers, and hand
    them to `Tracer.session` where it is to go on.

    Args:
        predictor: what reads the answers.
        model_name: for messages.
        first_answers: (K,), the share of right answers among students' first to each skill, which
            is what is expected before the first answer; None where it is not known.
    """

    def __init__(
        self,
        predictor: Predictor,
        model_name: str,
        first_answers: Sequence[float] | None = None,
    ) -> None:
        self.vocabulary: Vocabulary = predictor.vocabulary
        self.model_name = model_name
        self.first_answers = first_answers
        self.answers = 0
        self.state = predictor.student()
        self.pools_skills = predictor.model.pools_skills
        self._turn = threading.RLock()

    def __len__(self) -> int:
        return self.answers

    def __copy__(self) -> Session:
        copied = object.__new__(Session)
        with self._turn:
            copied.__dict__ |= self.__dict__
            copied.state = copy.copy(self.state)
        copied._turn = threading.RLock()
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return copy.copy(self)  # the model is shared: nothing changes it

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a session holds the whole model and cannot be pickled; keep the student's answers and "
            "make it anew with tracer.session(answers)"
        )

    def observe(
        self,
        answer: object,
        right: object = None,
        question: object = None,
        time: int | None = None,
    ) -> None:
        """Take in the student's next answer.

        Args:
            answer: an `Answer`; or the skill's id (a list of ids for a question with several
                skills), with what follows.
            right: 1 or True for a right answer, 0 or False for a wrong one.
            question, time: see `Answer`.

        Raises:
            DataError: a skill is unknown to the model, the answer is neither 0 nor 1, or the
                question is no id.
        """
        if not isinstance(answer, Answer):
            answer = Answer(answer, right, question, time)
        self.extend([answer])

    @torch.inference_mode()
    def extend(self, answers: Iterable[Answer]) -> None:
        """Take in several answers, in order of time; none is taken in where one is refused."""
        with self._turn:
            taken = [self._rows(a, number) for number, a in enumerate(answers, self.answers)]
            if taken:
                self.state.extend(Rows.join(taken))
                self.answers += len(taken)

    def predict(self, skill: object, question: object = None, time: int | None = None) -> float:
        """Return the probability of a right answer if `skill` were asked next.

        Before the first answer it is what students' first answers were like in training.

        Args:
            skill: id, or a list of ids where the question has several. Unless the model reads such
                a question as one step, it is the mean of what its skills say.
            question: id of the question that asks for it. One that the model does not know is
                predicted as questions on its skill are.
            time: when, in milliseconds since 1970; by default when the last answer was given. Of
                meaning to models that read times.

        Raises:
            DataError: the skill is unknown to the model.
        """
        codes, which = self._codes(skill), self._question(question)
        if self.pools_skills:
            return float(self._probabilities(codes[:1], which, codes[1:], time).mean())
        return float(self._probabilities(codes, which, time=time).mean())

    def predict_many(
        self, skills: Sequence[object] | None = None, time: int | None = None
    ) -> dict[str, float]:
        """Return skill -> probability of a right answer if it were asked next; all by default.

        Args:
            skills: ids.
            time: see `predict`.

        Raises:
            DataError: a skill is unknown to the model.
        """
        known = self.vocabulary.skills
        if isinstance(skills, str):
            raise DataError(f"predict_many takes a list of skills, not one: [{skills!r}]")
        codes = range(len(known)) if skills is None else map(self._code, skills)
        asked = list(codes)
        found = self._probabilities(asked, time=time).tolist() if asked else []
        return {known[code]: p for code, p in zip(asked, found, strict=True)}

    def mastery(self, time: int | None = None) -> dict[str, float]:
        """Return skill -> mastery now, for every skill.

        Args:
            time: see `predict`.

        Raises:
            DataError: there is no answer yet.
            GainaktError: the model has no mastery.
        """
        return dict(zip(self.vocabulary.skills, self.mastery_vector(time).tolist(), strict=True))

    @torch.inference_mode()
    def mastery_vector(self, time: int | None = None) -> Tensor:
        """Return the mastery (K,) now, in the order of `Tracer.skills`; see `mastery`."""
        with self._turn:
            self._need_answers()
            mastery = self.state.mastery(time or 0)
        if mastery is None:
            raise GainaktError(
                f"the model {self.model_name} has no mastery; predict gives "
                "the probability of a right answer"
            )
        return mastery

    def mastery_of(self, skill: object, *, time: int | None = None, level: float = 0.9) -> Mastery:
        """Return the mastery of one skill with its interval, and the answers that it rests on.

        Args:
            skill: id.
            time: see `predict`.
            level: share of students like this one whose mastery lies in the interval.

        Raises:
            DataError: there is no answer yet, or the skill is unknown to the model.
            GainaktError: the model's mastery is not what it predicts.
        """
        asked = asked_next([self._code(skill)], time=time or 0)
        with self._turn:
            self._need_answers()
            return mastery_of(self.state, asked, level)

    def review_time(self, skill: object, wanted: float = 0.7) -> int | None:
        """Return when the prediction for a skill falls to `wanted` if it is not practised.

        In milliseconds since 1970: the last answer's time where it is as low already, None where it
        will not fall so far in ten years.

        Raises:
            DataError: there is no answer yet, or the skill is unknown to the model.
            GainaktError: the model reads no times, or the last answer has none.
        """
        asked = asked_next([self._code(skill)])
        with self._turn:
            self._need_answers()
            return review_time(self.state, asked, wanted)

    def _need_answers(self) -> None:
        if not self.answers:
            raise DataError("there is no answer yet; mastery is told from answers")

    @torch.inference_mode()
    def _probabilities(
        self,
        codes: list[int],
        question: int = UNKNOWN,
        others: Sequence[int] = (),
        time: int | None = None,
    ) -> Tensor:
        with self._turn:
            if self.answers:
                asked = asked_next(codes, question, others, time or 0)
                return self.state.logits(asked).double().sigmoid()
        if self.first_answers is None:
            raise DataError(
                "there is no answer yet, and this model does not say what to expect of a student's "
                "first: it was trained by an earlier version of GainAKT"
            )
        expected = [np.mean([self.first_answers[c] for c in (code, *others)]) for code in codes]
        return torch.tensor(expected, dtype=torch.float64)

    def _code(self, skill: object) -> int:
        name = plain_id(skill)
        code = self.vocabulary.skill_code(name)
        if code is None:
            return known_id("skill", name, self.vocabulary.skills, "the model", "tracer.skills")
        return code

    def _codes(self, skill: object) -> list[int]:
        """The codes of a question's skills, one or several, each once."""
        several = isinstance(skill, list | tuple | set | frozenset)
        skills = skill if several else [skill]
        codes = list(dict.fromkeys(map(self._code, skills)))  # type: ignore[call-overload]
        if not codes:
            raise DataError("the question names no skill")
        return codes

    def _question(self, question: object) -> int:
        if question is None:
            return UNKNOWN
        plain = isinstance(question, str | int | float | np.generic)
        if not plain or question == "" or question != question:
            raise DataError(f"the question is {question!r}; an id is text or a number")
        return self.vocabulary.question_code(plain_id(question))

    def _rows(self, answer: Answer, number: int) -> Rows:
        """The rows of one answer: one for each of its skills, or one that names all of them."""
        right = answer.right
        if not isinstance(right, int | float | np.number | np.bool_) or right not in (0, 1):
            raise DataError(f"the answer is {right!r}; only 0 and 1 are allowed")
        codes, others = self._codes(answer.skill), None
        if self.pools_skills:
            codes, others = codes[:1], np.array([codes[1:]], np.int32)
        question = self._question(answer.question)
        n = len(codes)
        return Rows(
            skill=np.array(codes, np.int32),
            response=np.full(n, int(right == 1), np.int8),
            order=np.full(n, number, np.int32),
            question=np.full(n, question, np.int32),
            time=np.full(n, answer.time or 0, np.int64),
            others=others,
        )
