"""The service as an ASGI application: routes, keys and limits over a model and a database."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import text

from gainakt._version import __version__
from gainakt.service import shapes
from gainakt.service.answers import find, history, remove, store
from gainakt.service.database import Database
from gainakt.service.keys import allows, scope_of
from gainakt.service.metrics import TYPE, Metrics
from gainakt.service.problems import BodyLimit, Problem, answer_in_one_shape
from gainakt.service.students import State, Students
from gainakt.tracer import Tracer

MOST_BYTES = 2_000_000
HERE = ("localhost", "127.0.0.1", "::1")

_BEARER = HTTPBearer(auto_error=False, description="A key of `gainakt keys add`.")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of errors."""
    return {status: {"model": shapes.ErrorOut} for status in (401, 403, 503, *statuses)}


def make_app(tracer: Tracer, database: Database, *, keys: bool = True) -> FastAPI:
    """Return the application.

    Args:
        tracer: the model.
        database: where answers and keys are.
        keys: ask for keys. Without, requests that name another host than this machine are refused,
            so that no page in a browser here can have another's name lead to the service.
    """
    app = FastAPI(
        title="GainAKT",
        version=__version__,
        summary="Knowledge tracing: answers in, mastery and predictions out.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages would fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.students = Students(tracer, database)
    app.state.database = database
    app.state.metrics = Metrics(app.state.students)
    app.state.keys = keys
    answer_in_one_shape(app)
    app.add_middleware(BodyLimit, most=MOST_BYTES)
    app.middleware("http")(_count)
    _add_writing(app)
    _add_reading(app)
    _add_data(app)
    _add_running(app)
    return app


async def _count(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    begun, status = time.perf_counter(), 500
    try:
        reply = await proceed(request)
        status = reply.status_code
        reply.headers["Cache-Control"] = "no-store"
        return reply
    finally:
        route = getattr(request.scope.get("route"), "path", "other")
        known = request.method if route != "other" else "other"
        took = time.perf_counter() - begun
        request.app.state.metrics.request(route, known, status, took)


def needs(scope: str) -> Any:
    """What lets a request through whose key has a scope or a wider one."""

    def check(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        if not request.app.state.keys:
            if request.url.hostname not in HERE:
                raise Problem(403, "without keys, this service is for this machine alone")
            return
        if given is None:
            raise Problem(401, "give a key: Authorization: Bearer KEY")
        has = scope_of(request.app.state.database, given.credentials)
        if has is None:
            raise Problem(401, "this key is not known here")
        if not allows(has, scope):
            raise Problem(403, f"this key is of scope {has}; {scope} is needed")

    return Depends(check)


def _students(request: Request) -> Students:
    students: Students = request.app.state.students
    return students


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


StudentsOf = Annotated[Students, Depends(_students)]
DatabaseOf = Annotated[Database, Depends(_database)]


def _unknown(student: str) -> Problem:
    return Problem(404, f"no answer of student {student!r} is stored", "unknown_student")


def _known_state(students: Students, student: str) -> State:
    state = students.state(student)
    if state is None:
        raise _unknown(student)
    return state


def _add_writing(app: FastAPI) -> None:
    allowed = needs("write")

    def keep(request: Request, answers: list[shapes.AnswerIn]) -> list[shapes.AnswerOut]:
        _students(request).refuse_unknown(skill for a in answers for skill in a.skills)
        arrivals, new = store(_database(request), [answer.new() for answer in answers])
        request.app.state.metrics.answers.inc(new)
        return [
            shapes.AnswerOut(event=a.event, student=a.student, arrival=arrival)
            for a, arrival in zip(answers, arrivals, strict=True)
        ]

    @app.post("/v1/answers", dependencies=[allowed], responses=errors(400, 409, 413, 422))
    def post_answer(request: Request, answer: shapes.AnswerIn) -> shapes.AnswerOut:
        """Store an answer. Sent again, it is answered alike and stored once.

        Answers may arrive in any order: each is put in its place by time, then arrival. A skill
        that the model does not know is refused; a question it does not know counts as its skills.
        """
        return keep(request, [answer])[0]

    @app.post("/v1/answers/bulk", dependencies=[allowed], responses=errors(400, 409, 413, 422))
    def post_answers(request: Request, body: shapes.AnswersIn) -> shapes.AnswersOut:
        """Store several answers, all or, where one is refused, none."""
        return shapes.AnswersOut(answers=keep(request, body.answers))


def _add_reading(app: FastAPI) -> None:
    allowed = needs("read")

    @app.get("/v1/skills", dependencies=[allowed], responses=errors())
    def get_skills(students: StudentsOf) -> shapes.SkillsOut:
        """List the skills that the model knows."""
        return shapes.SkillsOut(skills=list(students.tracer.skills))

    @app.get("/v1/mastery", dependencies=[allowed], responses=errors(404, 422))
    def get_mastery(
        query: Annotated[shapes.MasteryQuery, Query()], students: StudentsOf
    ) -> shapes.MasteryOut:
        """Say how far a student masters skills, and how sure that is."""
        students.refuse_unknown(query.skill)
        state = _known_state(students, query.student)
        skills = dict.fromkeys(query.skill or state.practised)
        return shapes.MasteryOut(
            student=query.student,
            answers=len(state.session),
            left_out=state.left_out,
            mastery=[shapes.SkillMastery.of(s, state.session.mastery_of(s)) for s in skills],
        )

    @app.get("/v1/prediction", dependencies=[allowed], responses=errors(422))
    def get_prediction(
        query: Annotated[shapes.PredictionQuery, Query()], students: StudentsOf
    ) -> shapes.PredictionOut:
        """Say how probable a right answer is; of a new student, as new students usually are."""
        students.refuse_unknown(query.skill)
        state = students.state(query.student)
        session = students.tracer.session() if state is None else state.session
        vocabulary = students.tracer.predictor.vocabulary
        asked = query.question
        return shapes.PredictionOut(
            student=query.student,
            skills=query.skill,
            question=asked,
            question_known=asked is not None and vocabulary.question_code(asked) > 0,
            probability=session.predict(query.skill, asked, query.time),
            answers=len(session),
        )

    @app.get("/v1/explanation", dependencies=[allowed], responses=errors(404, 422))
    def get_explanation(
        query: Annotated[shapes.PredictionQuery, Query()], students: StudentsOf
    ) -> shapes.ExplanationOut:
        """Take a prediction apart: what each past answer adds to it."""
        if len(set(query.skill)) > 1 and not students.tracer.predictor.model.pools_skills:
            raise Problem(422, "this model reads one skill at a time: ask for one")
        explained = students.explain(query.student, query.skill, query.question, query.time)
        if explained is None:
            raise _unknown(query.student)
        e, answers = explained
        past = [(answers[a.step], a) for a in e.past]
        return shapes.ExplanationOut(
            student=query.student,
            skills=query.skill,
            question=query.question,
            probability=e.probability,
            low=e.low,
            high=e.high,
            logit=e.logit,
            prior=e.prior,
            past=[
                shapes.Contribution(
                    event=stored.event,
                    skills=stored.skills,
                    question=stored.question,
                    right=stored.right,
                    time=stored.time,
                    contribution=a.contribution,
                )
                for stored, a in past
            ],
        )

    @app.get("/v1/next", dependencies=[allowed], responses=errors(422))
    def get_next(
        query: Annotated[shapes.NextQuery, Query()], students: StudentsOf
    ) -> shapes.NextOut:
        """List the skills whose prediction is nearest to a wanted rate of success."""
        state = students.state(query.student)
        session = students.tracer.session() if state is None else state.session
        found = session.predict_many(time=query.time)
        nearest = sorted(found, key=lambda skill: abs(found[skill] - query.target))
        return shapes.NextOut(
            student=query.student,
            target=query.target,
            skills=[
                shapes.NextSkill(skill=skill, probability=found[skill])
                for skill in nearest[: query.count]
            ],
        )


def _add_data(app: FastAPI) -> None:
    allowed = needs("admin")

    @app.get("/v1/student", dependencies=[allowed], responses=errors(404, 422))
    def get_student(
        query: Annotated[shapes.Query, Query()], database: DatabaseOf
    ) -> shapes.ExportOut:
        """Export all that is stored of a student."""
        with database.reading() as session:
            student = find(session, query.student)
            rows = [] if student is None else history(session, student.id)
        if student is None:
            raise _unknown(query.student)
        names = shapes.ExportedAnswer.model_fields
        answers = [shapes.ExportedAnswer(**{n: getattr(row, n) for n in names}) for row in rows]
        return shapes.ExportOut(student=query.student, answers=answers)

    @app.delete("/v1/student", dependencies=[allowed], responses=errors(404, 422))
    def delete_student(
        query: Annotated[shapes.DeletionQuery, Query()], students: StudentsOf, database: DatabaseOf
    ) -> shapes.DeletionOut:
        """Delete all that is stored of a student; by default only say what that would be."""
        count = remove(database, query.student, dry_run=query.dry_run)
        if count is None:
            raise _unknown(query.student)
        if not query.dry_run:
            students.forget(query.student)
        return shapes.DeletionOut(student=query.student, answers=count, deleted=not query.dry_run)


def _add_running(app: FastAPI) -> None:
    @app.get("/v1/health", responses={503: {"model": shapes.ErrorOut}})
    def get_health(students: StudentsOf, database: DatabaseOf) -> shapes.HealthOut:
        """Say that the service answers and reaches its database; needs no key."""
        with database.reading() as session:
            session.execute(text("SELECT 1"))
        model = students.tracer.config.experiment.model
        return shapes.HealthOut(status="ok", version=__version__, model=model)

    @app.get(
        "/v1/metrics",
        dependencies=[needs("read")],
        responses={**errors(), 200: {"content": {"text/plain": {}}}},
        response_class=Response,
    )
    def get_metrics(request: Request) -> Response:
        """Count requests, their times and answers, for Prometheus; no student is named."""
        return Response(request.app.state.metrics.text(), media_type=TYPE)
