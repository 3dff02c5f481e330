"""A client of a service in this process, and answers to send it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import polars as pl

from gainakt.service.app import make_app

BEGIN = 1_750_000_000_000
DAY = 86_400_000


class Client:
    """Sends requests to an application, each to its end."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @classmethod
    def of(cls, tracer: Any, database: Any, **options: Any) -> Client:
        return cls(make_app(tracer, database, **options))

    def __call__(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        host: str = "localhost",
        **more: Any,
    ) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}

        async def send() -> httpx.Response:
            # what an application raises is a server's to answer with 500
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(send())

    def get(self, path: str, **params: Any) -> Any:
        """What a request that must succeed says."""
        reply = self("GET", path, params=params)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, *answers: dict[str, Any]) -> Any:
        """Store answers, which must succeed."""
        reply = self("POST", "/v1/answers/bulk", json={"answers": list(answers)})
        assert reply.status_code == 200, reply.text
        return reply.json()["answers"]


def answer(student: str = "ada", event: str = "e1", **changes: Any) -> dict[str, Any]:
    """A good answer, with changes."""
    good = {"skills": ["k0"], "right": True, "question": "q1", "time": BEGIN}
    return {"student": student, "event": event, **good, **changes}


def random_answers(student: str, count: int, seed: int) -> list[dict[str, Any]]:
    """A student's answers in order of time, some at the same moment, some to several skills."""
    rng = random.Random(f"{student} {seed}")
    time, answers = BEGIN, []
    for number in range(count):
        time += rng.choice([0, 60_000, DAY])
        skills = rng.sample([f"k{k}" for k in range(5)], rng.choice([1, 1, 1, 2]))
        question = rng.choice([None, "never seen", *(f"q{q}" for q in range(1, 8))])
        answers.append(
            answer(
                student,
                f"e{number}",
                skills=skills,
                right=rng.random() < 0.6,
                question=question,
                time=time,
            )
        )
    return answers


def batch_prediction(
    tracer: Any, answers: list[dict[str, Any]], skill: str, question: str | None = None
) -> float:
    """What `Tracer.predict` says of a question after answers that are in their order."""
    last = {"skills": [skill], "right": False, "question": question, "time": answers[-1]["time"]}
    rows = [
        (s, int(a["right"]), number, a["question"] or f"none {number}", a["time"])
        for number, a in enumerate([*answers, last])
        for s in a["skills"]
    ]
    names = ["skill", "correct", "order", "question", "time"]
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(student=pl.lit("s"))
    said = tracer.predict(table, order="order", question="question", time="time")
    return float(said["probability"][-1])
