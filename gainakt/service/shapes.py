"""What goes in and out of the service, and what is allowed of it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from gainakt.evaluation.certainty import Mastery
from gainakt.service.answers import NewAnswer

MOST_ANSWERS = 1_000
MOST_SKILLS = 20

# No control characters: PostgreSQL cannot hold some, and no id needs any.
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
# Before 1973 in milliseconds is this century in seconds: a slip, not a date.
Time = Annotated[
    int,
    Field(ge=100_000_000_000, le=253_402_300_799_999, description="Milliseconds since 1970, UTC."),
]
Probability = Annotated[float, Field(ge=0, le=1)]
Skills = Annotated[list[Id], Field(min_length=1, max_length=MOST_SKILLS)]


class Said(BaseModel):
    """What comes out."""


class Asked(BaseModel):
    """What goes in: nothing else than is named, and of the right type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """What goes in as text, in the address."""

    model_config = ConfigDict(extra="forbid")

    student: Annotated[Id, Field(description="Id of the student.")]


class AnswerIn(Asked):
    """An answer of a student."""

    event: Annotated[Id, Field(description="Id of the answer; a student has each once.")]
    student: Annotated[Id, Field(description="Id of the student, of your choice.")]
    skills: Annotated[Skills, Field(description="Skills that the question asks for.")]
    right: Annotated[bool, Field(description="Whether the answer is right.")]
    question: Annotated[Id | None, Field(description="Id of the question.")] = None
    time: Annotated[Time, Field(description="When it was given, in milliseconds since 1970, UTC.")]

    def new(self) -> NewAnswer:
        """Return the answer as it is stored."""
        return NewAnswer(
            self.student, self.event, tuple(self.skills), self.right, self.question, self.time
        )


class AnswersIn(Asked):
    """Several answers, of one student or many."""

    answers: Annotated[list[AnswerIn], Field(min_length=1, max_length=MOST_ANSWERS)]


class AnswerOut(Said):
    """An answer that is stored."""

    event: str
    student: str
    arrival: Annotated[int, Field(description="Rises with every answer of the student.")]


class AnswersOut(Said):
    """Answers that are stored, in the order in which they were sent."""

    answers: list[AnswerOut]


class MasteryQuery(Query):
    """Whose mastery."""

    skill: Annotated[
        list[Id], Field(max_length=1000, description="Skills; by default all practised ones.")
    ] = []


class SkillMastery(Said):
    """The mastery of a skill, with a 90% interval and what it rests on."""

    skill: str
    value: Probability
    low: Probability
    high: Probability
    answers: Annotated[int, Field(description="Answers on the skill that it rests on.")]
    last: Annotated[int | None, Field(description="When the last of them was given.")]

    @classmethod
    def of(cls, skill: str, found: Mastery) -> Self:
        """Return the mastery of a skill."""
        return cls(
            skill=skill,
            value=found.value,
            low=found.low,
            high=found.high,
            answers=found.answers,
            last=found.last,
        )


class MasteryOut(Said):
    """The mastery of a student's skills."""

    student: str
    answers: Annotated[int, Field(description="All answers that the student's state is made of.")]
    left_out: Annotated[int, Field(description="Stored answers to skills the model lacks.")]
    mastery: list[SkillMastery]


class PredictionQuery(Query):
    """What would be asked of whom."""

    skill: Annotated[Skills, Field(description="Skills of the question.")]
    question: Annotated[Id | None, Field(description="Id of the question.")] = None
    time: Annotated[
        Time | None, Field(description="When it would be asked; by default at the last answer.")
    ] = None


class PredictionOut(Said):
    """How probable a right answer is."""

    student: str
    skills: list[str]
    question: str | None
    question_known: Annotated[
        bool, Field(description="Whether the model has met the question; else its skill counts.")
    ]
    probability: Probability
    answers: Annotated[int, Field(description="Answers it rests on; 0: what is usual at first.")]


class Contribution(Said):
    """A past answer, and what it adds to the log-odds."""

    event: str
    skills: list[str]
    question: str | None
    right: bool
    time: int
    contribution: Annotated[float | None, Field(description="None: the model is no sum.")]


class ExplanationOut(Said):
    """A prediction taken apart: logit = prior + sum of the contributions of a model that is a sum.

    Answers that the model no longer reads, those long ago, are not listed.
    """

    student: str
    skills: list[str]
    question: str | None
    probability: Probability
    low: Probability | None
    high: Probability | None
    logit: float
    prior: float | None
    past: list[Contribution]


class NextQuery(Query):
    """For whom, and how hard."""

    target: Annotated[float, Field(gt=0, lt=1, description="Wanted rate of success.")] = 0.7
    count: Annotated[int, Field(ge=1, le=100, description="How many skills, at most.")] = 5
    time: Annotated[Time | None, Field(description="When; by default at the last answer.")] = None


class NextSkill(Said):
    """A skill that may be asked next."""

    skill: str
    probability: Probability


class NextOut(Said):
    """Skills by how near their prediction is to the target."""

    student: str
    target: float
    skills: list[NextSkill]


class ExportedAnswer(Said):
    """An answer as it is stored."""

    event: str
    skills: list[str]
    right: bool
    question: str | None
    time: int
    arrival: int


class ExportOut(Said):
    """All that is stored of a student, in order of time."""

    student: str
    answers: list[ExportedAnswer]


class DeletionQuery(Query):
    """Whom to delete."""

    dry_run: Annotated[bool, Field(description="Only say what would be deleted.")] = True


class DeletionOut(Said):
    """What was deleted, or would be."""

    student: str
    answers: int
    deleted: bool


class SkillsOut(Said):
    """All skills that the model knows."""

    skills: list[str]


class HealthOut(Said):
    """That the service answers and reaches its database."""

    status: str
    version: str
    model: str


class ErrorDetail(Said):
    """One thing that is wrong."""

    where: str
    message: str


class Error(Said):
    """What is wrong."""

    code: str
    message: str
    details: list[ErrorDetail] = []


class ErrorOut(Said):
    """The shape of every error."""

    error: Error
