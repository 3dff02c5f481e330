"""What a model can name: skills and questions, and their codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from gainakt.arrays import IntArray
from gainakt.data.rows import UNKNOWN
from gainakt.errors import DataError


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Ids in code order.

    skills: skill k has code k. questions: question q has code q + 1, for code 0 is an unknown one;
    empty where a model does not read questions.
    """

    skills: tuple[str, ...]
    questions: Sequence[str] = ()
    _codes: dict[str, dict[str, int]] = field(default_factory=dict, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self.skills == other.skills and tuple(self.questions) == tuple(other.questions)

    def __hash__(self) -> int:
        return hash(self.skills)

    @property
    def n_skills(self) -> int:
        """K, the number of skills."""
        return len(self.skills)

    @property
    def n_questions(self) -> int:
        """Q, the number of known questions."""
        return len(self.questions)

    def with_questions(self, questions: Iterable[str]) -> Vocabulary:
        """Return the skills with other questions, or none."""
        return Vocabulary(self.skills, tuple(questions))

    def skill_code(self, skill: str) -> int | None:
        """Return the code of a skill, None where it is not known."""
        return self._of("skills").get(skill)

    def question_code(self, question: str) -> int:
        """Return the code of a question, `UNKNOWN` where it is not known."""
        return self._of("questions").get(question, UNKNOWN - 1) + 1

    def skill_codes(self, skills: Iterable[str]) -> IntArray:
        """Return the codes of skills, -1 where one is not known."""
        known = self._of("skills")
        return np.array([known.get(skill, -1) for skill in skills], np.int32)

    def question_codes(self, questions: Iterable[str]) -> IntArray:
        """Return the codes of questions, `UNKNOWN` where one is not known."""
        return np.array([self.question_code(question) for question in questions], np.int32)

    def _of(self, kind: str) -> dict[str, int]:
        if kind not in self._codes:  # made when first asked for: there may be very many
            self._codes[kind] = {name: code for code, name in enumerate(getattr(self, kind))}
        return self._codes[kind]


def known_id(kind: str, name: str, known: Sequence[str], where: str, listed: str) -> int:
    """Return the place of a student or skill among those that are known.

    Args:
        kind: student or skill.
        name: the id.
        known: all ids.
        where, listed: what knows them, and where they can be looked up.

    Raises:
        DataError: it is not among them.
    """
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=3, cutoff=0.5) or list(known[:3])
    raise DataError(
        f"no {kind} {name!r} in {where}; near are {', '.join(near)}; all {len(known):,} are in "
        f"{listed}"
    )
