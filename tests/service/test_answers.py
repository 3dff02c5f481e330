"""Answers go in once each, in any order, and mastery comes out as a batch has it."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from tests.service.client import (
    BEGIN,
    Client,
    answer,
    batch_prediction,
    random_answers,
)


def code(reply: Any) -> str:
    """The code of an error, which has the one shape."""
    (said,) = reply.json().values()
    assert list(reply.json()) == ["error"] and set(said) == {"code", "message", "details"}
    return str(said["code"])


def test_an_answer_sent_again_is_answered_alike_and_stored_once(service: Client) -> None:
    replies = [service("POST", "/v1/answers", json=answer()) for _ in range(3)]
    assert [r.status_code for r in replies] == [200] * 3
    assert replies[0].json() == replies[1].json() == replies[2].json()
    exported = service.get("/v1/student", student="ada")["answers"]
    assert len(exported) == 1
    assert {k: exported[0][k] for k in ("event", "skills", "right", "question", "time")} == {
        k: v for k, v in answer().items() if k != "student"
    }


@pytest.mark.parametrize(
    "change",
    [{"right": False}, {"time": BEGIN + 1}, {"skills": ["k1"]}, {"question": None}],
    ids=lambda change: next(iter(change)),
)
def test_an_event_with_another_content_is_refused(service: Client, change: Any) -> None:
    service.post(answer())
    reply = service("POST", "/v1/answers", json=answer(**change))
    assert (reply.status_code, code(reply)) == (409, "conflict")
    assert service.get("/v1/student", student="ada")["answers"][0]["right"] is True


def test_events_are_told_apart_by_student(service: Client) -> None:
    service.post(answer("ada"), answer("bob", right=False))
    assert not service.get("/v1/student", student="bob")["answers"][0]["right"]


def test_of_several_answers_all_are_stored_or_none(service: Client) -> None:
    service.post(answer("ada", "e1"))
    bad = [answer("ada", "e1", right=False), answer("ada", "e2", skills=["unheard of"])]
    for refused, status in zip(bad, (409, 422), strict=True):
        body = {"answers": [answer("ada", "e3"), answer("new", "e1"), refused]}
        assert service("POST", "/v1/answers/bulk", json=body).status_code == status
        assert len(service.get("/v1/student", student="ada")["answers"]) == 1
        assert service("GET", "/v1/student", params={"student": "new"}).status_code == 404
    twice = service.post(answer("ada", "e4"), answer("ada", "e4"))
    assert twice[0] == twice[1]


def test_shuffled_and_repeated_arrivals_give_what_a_batch_gives(
    tracer: Any, service: Client
) -> None:
    """Histories longer than the 12 steps that the model reads at once, asked in between."""
    rng = random.Random(1)
    students = {f"s{n}": random_answers(f"s{n}", rng.randint(1, 25), 1) for n in range(12)}
    sent = [a for answers in students.values() for a in answers for _ in range(rng.choice([1, 2]))]
    rng.shuffle(sent)
    while sent:
        taken, sent = sent[:29], sent[29:]
        service.post(*taken)
        service.get("/v1/mastery", student=rng.choice(taken)["student"])
    for name, answers in students.items():
        stored = service.get("/v1/student", student=name)["answers"]
        assert {a["event"] for a in stored} == {a["event"] for a in answers}
        assert len(stored) == len(answers)
        assert stored == sorted(stored, key=lambda a: (a["time"], a["arrival"]))
        for skill, question in (("k0", "q3"), ("k4", None)):
            asked = {"student": name, "skill": skill} | ({"question": question} if question else {})
            said = service.get("/v1/prediction", **asked)
            expected = batch_prediction(tracer, stored, skill, question)
            assert said["probability"] == pytest.approx(expected, abs=1e-9)
            assert said["answers"] == len(answers)
            taken_apart = service.get("/v1/explanation", **asked)
            assert taken_apart["probability"] == pytest.approx(expected, abs=1e-9)
            total = taken_apart["prior"] + sum(a["contribution"] for a in taken_apart["past"])
            assert total == pytest.approx(taken_apart["logit"], abs=1e-6)


def test_the_late_answer_goes_to_its_place(tracer: Any, service: Client) -> None:
    answers = random_answers("ada", 6, 3)
    service.post(*answers[1:])
    before = service.get("/v1/prediction", student="ada", skill="k1")["probability"]
    service.post(answers[0] | {"time": BEGIN - 1})
    after = service.get("/v1/prediction", student="ada", skill="k1")["probability"]
    ordered = [answers[0] | {"time": BEGIN - 1}, *answers[1:]]
    assert after == pytest.approx(batch_prediction(tracer, ordered, "k1"), abs=1e-9)
    assert after != before


def test_mastery_is_of_practised_or_chosen_skills(tracer: Any, service: Client) -> None:
    answers = [answer(event=f"e{n}", skills=[f"k{n % 2}"], time=BEGIN + n) for n in range(5)]
    service.post(*answers)
    said = service.get("/v1/mastery", student="ada")
    assert [m["skill"] for m in said["mastery"]] == ["k0", "k1"]
    assert [m["answers"] for m in said["mastery"]] == [3, 2]
    assert [m["last"] for m in said["mastery"]] == [BEGIN + 4, BEGIN + 3]
    assert all(m["low"] <= m["value"] <= m["high"] for m in said["mastery"])
    asked = service.get("/v1/mastery", student="ada", skill=["k4", "k1"])["mastery"]
    assert [(m["skill"], m["answers"]) for m in asked] == [("k4", 0), ("k1", 2)]
    assert asked[1] == said["mastery"][1]


def test_next_skills_are_the_nearest_to_the_target(service: Client) -> None:
    service.post(*random_answers("ada", 9, 5))
    said = service.get("/v1/next", student="ada", target=0.4, count=3)["skills"]
    p = {s: service.get("/v1/prediction", student="ada", skill=s)["probability"] for s in KNOWN}
    assert [s["skill"] for s in said] == sorted(KNOWN, key=lambda s: abs(p[s] - 0.4))[:3]


KNOWN = [f"k{k}" for k in range(5)]


def test_a_new_student_is_predicted_as_new_students_are(service: Client) -> None:
    said = service.get("/v1/prediction", student="nobody", skill="k3")
    assert (said["probability"], said["answers"]) == (0.7, 0)
    assert service.get("/v1/next", student="nobody")["skills"][0]["skill"] == "k3"
    for path in ("mastery", "explanation", "student"):
        params = {"student": "nobody"} | ({"skill": "k3"} if path == "explanation" else {})
        reply = service("GET", f"/v1/{path}", params=params)
        assert (reply.status_code, code(reply)) == (404, "unknown_student")


def test_unknown_skills_are_refused_and_unknown_questions_are_not(service: Client) -> None:
    reply = service("POST", "/v1/answers", json=answer(skills=["k00"]))
    assert reply.status_code == 422 and "near are" in reply.json()["error"]["message"]
    service.post(answer(question="unheard of"))
    for path in ("mastery", "prediction", "explanation"):
        reply = service("GET", f"/v1/{path}", params={"student": "ada", "skill": "k00"})
        assert reply.status_code == 422
    asked = {"student": "ada", "skill": "k1"}
    plain = service.get("/v1/prediction", **asked)["probability"]
    unheard = service.get("/v1/prediction", **asked, question="never")
    assert unheard["probability"] == plain and not unheard["question_known"]
    assert service.get("/v1/prediction", **asked, question="q1")["question_known"]


def test_two_services_over_one_database_agree(
    tracer: Any, open_database: Callable[[], Any]
) -> None:
    one, two = (Client.of(tracer, open_database(), keys=False) for _ in range(2))
    answers = random_answers("ada", 16, 7)
    late = [answers[3], answers[11]]
    for number, each in enumerate(a for a in answers if a not in late):
        (one, two)[number % 2].post(each)
        if number % 4 == 0:
            assert_agree(one, two)
    for each in late:
        one.post(each)
        assert_agree(one, two)
    two("DELETE", "/v1/student", params={"student": "ada", "dry_run": False})
    two.post(*answers[5:9])
    assert_agree(one, two)
    assert one.get("/v1/mastery", student="ada")["answers"] == 4


def assert_agree(one: Client, two: Client) -> None:
    said = [service.get("/v1/mastery", student="ada") for service in (one, two)]
    assert said[0]["answers"] == said[1]["answers"]
    values = [[m["value"] for m in sorted(s["mastery"], key=lambda m: m["skill"])] for s in said]
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_writers_at_the_same_time_store_each_answer_once(
    tracer: Any, open_database: Callable[[], Any]
) -> None:
    services = [Client.of(tracer, open_database(), keys=False) for _ in range(4)]
    students = [random_answers(f"s{n}", 6, 2) for n in range(5)]

    def send(number: int) -> None:
        rng = random.Random(number)
        mine = [a for answers in students for a in answers]
        rng.shuffle(mine)  # each sends all: every answer arrives four times
        for begin in range(0, len(mine), 5):
            services[number].post(*mine[begin : begin + 5])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    for number, answers in enumerate(students):
        stored = services[0].get("/v1/student", student=f"s{number}")["answers"]
        assert sorted(a["event"] for a in stored) == sorted(a["event"] for a in answers)
        # the lists in memory of each service are those of the database
        said = [s.get("/v1/prediction", student=f"s{number}", skill="k2") for s in services]
        expected = batch_prediction(services[0].app.state.students.tracer, stored, "k2")
        assert [s["probability"] for s in said] == pytest.approx([expected] * 4, abs=1e-9)


def test_a_deleted_student_is_nowhere(service: Client, where: str, tmp_path: Any) -> None:
    name = "Zebulon-7731"
    service.post(answer(name, "event-of-zebulon"), answer("ada"))
    service.get("/v1/mastery", student=name)
    dry = service("DELETE", "/v1/student", params={"student": name}).json()
    assert dry == {"student": name, "answers": 1, "deleted": False}
    assert service.get("/v1/student", student=name)["answers"]
    done = service("DELETE", "/v1/student", params={"student": name, "dry_run": "false"}).json()
    assert done == {"student": name, "answers": 1, "deleted": True}
    assert service("GET", "/v1/student", params={"student": name}).status_code == 404
    assert service("DELETE", "/v1/student", params={"student": name}).status_code == 404
    database = service.app.state.database
    with database.engine.connect() as connection:
        tables = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            if database.is_file
            else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).scalars()
        for table in tables.all():
            rows = str(connection.exec_driver_sql(f'SELECT * FROM "{table}"').all())
            assert "ebulon" not in rows
            assert table not in ("students", "answers") or "e1" in rows or "ada" in rows
    assert "ebulon" not in service("GET", "/v1/metrics").text
    if database.is_file:
        database.close()  # what was written ahead goes into the file
        for file in tmp_path.glob("answers.sqlite*"):
            assert b"ebulon" not in file.read_bytes()


def test_metrics_count_without_naming_anybody(service: Client) -> None:
    service.post(answer("somebody"), answer("somebody", "e2"))
    service.post(answer("somebody"))
    service.get("/v1/mastery", student="somebody")
    service("GET", "/v1/somebody")
    text = service("GET", "/v1/metrics").text
    assert "gainakt_answers_total 2.0" in text
    assert 'route="/v1/mastery",status="200"} 1.0' in text
    assert "somebody" not in text
