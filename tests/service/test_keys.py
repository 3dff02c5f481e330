"""Who may do what, and what is said to whoever sends something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from gainakt.service.keys import add_key, list_keys, remove_key
from gainakt.service.server import is_loopback
from tests.service.client import Client, answer

ROUTES = {
    ("GET", "/v1/skills"): "read",
    ("GET", "/v1/mastery"): "read",
    ("GET", "/v1/prediction"): "read",
    ("GET", "/v1/explanation"): "read",
    ("GET", "/v1/next"): "read",
    ("GET", "/v1/metrics"): "read",
    ("POST", "/v1/answers"): "write",
    ("POST", "/v1/answers/bulk"): "write",
    ("GET", "/v1/student"): "admin",
    ("DELETE", "/v1/student"): "admin",
}
SCOPES = ("read", "write", "admin")


def send(client: Client, method: str, path: str, key: str | None) -> Any:
    one = answer()
    body = {"answers": [one]} if path.endswith("bulk") else one
    params = {"student": "ada"}
    if path.endswith(("prediction", "explanation")):
        params["skill"] = "k0"
    more: dict[str, Any] = {"json": body} if method == "POST" else {"params": params}
    if path.endswith(("skills", "metrics")):
        more = {}
    return client(method, path, key=key, **more)


def test_each_route_asks_for_its_scope(tracer: Any, open_database: Callable[[], Any]) -> None:
    database = open_database()
    client = Client.of(tracer, database)
    keys = {scope: add_key(database, scope) for scope in SCOPES}
    send(client, "POST", "/v1/answers", keys["write"])
    paths = client("GET", "/v1/openapi.json").json()["paths"]
    declared = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert declared == set(ROUTES) | {("GET", "/v1/health")}
    for (method, path), needed in ROUTES.items():
        for wrong in (None, "nonsense", keys["read"] + "x", keys["read"][:-1], "gainakt_x_y"):
            reply = send(client, method, path, wrong)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "no_key")
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        for scope, key in keys.items():
            reply = send(client, method, path, key)
            enough = SCOPES.index(scope) >= SCOPES.index(needed)
            assert reply.status_code == (200 if enough else 403), (path, scope, reply.text)
    assert client("GET", "/v1/health").status_code == 200


def test_a_key_is_kept_as_its_hash_and_ends_when_it_is_removed(
    tracer: Any, open_database: Callable[[], Any]
) -> None:
    database = open_database()
    client = Client.of(tracer, database)
    key, other = add_key(database, "read", "the dashboard"), add_key(database, "read")
    assert key != other
    with database.engine.connect() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM keys").all())
    _, number, secret = key.split("_", 2)
    assert number in rows and secret not in rows
    assert [k.note for k in list_keys(database) if k.id == number] == ["the dashboard"]
    assert send(client, "GET", "/v1/skills", key).status_code == 200
    remove_key(database, number)
    assert send(client, "GET", "/v1/skills", key).status_code == 401
    assert send(client, "GET", "/v1/skills", other).status_code == 200


def test_without_keys_the_service_is_for_this_machine(service: Client) -> None:
    assert service("GET", "/v1/skills", host="127.0.0.1").status_code == 200
    assert service("GET", "/v1/skills", host="evil.example").status_code == 403


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.example", False),
    ],
)
def test_loopback_is_told_from_what_others_reach(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone


JSON = {"content-type": "application/json"}
GOOD = answer()


@pytest.mark.parametrize(
    ("status", "request_of"),
    [
        (404, {"method": "GET", "path": "/v1/nothing"}),
        (404, {"method": "GET", "path": "/v1/skills/"}),
        (405, {"method": "PUT", "path": "/v1/answers"}),
        (400, {"content": b"{", "headers": JSON}),
        (400, {"content": b"\xff\xfe", "headers": JSON}),
        (400, {"content": b"[" * 100_000, "headers": JSON}),
        (422, {"content": b"", "headers": JSON}),
        (422, {"content": b"student=ada"}),
        (422, {"content": b'{"event": NaN, "\\ud800": "\\udfff"}', "headers": JSON}),
        (413, {"content": b" " * 2_000_001, "headers": JSON}),
        (422, {"json": {**GOOD, "right": 1}}),
        (422, {"json": {**GOOD, "time": "1750000000000"}}),
        (422, {"json": {**GOOD, "time": 1_750_000_000}}),
        (422, {"json": {**GOOD, "time": 10**400}}),
        (422, {"json": {**GOOD, "skills": []}}),
        (422, {"json": {**GOOD, "skills": "k0"}}),
        (422, {"json": {**GOOD, "event": "a\x00b"}}),
        (422, {"json": {**GOOD, "student": "x" * 201}}),
        (422, {"json": {**GOOD, "more": 1}}),
        (422, {"json": {k: v for k, v in GOOD.items() if k != "event"}}),
        (422, {"path": "/v1/answers/bulk", "json": {"answers": []}}),
        (422, {"path": "/v1/answers/bulk", "json": {"answers": [GOOD] * 1001}}),
        (422, {"method": "GET", "path": "/v1/mastery"}),
        (422, {"method": "GET", "path": "/v1/mastery?student=a&wrong=1"}),
        (422, {"method": "GET", "path": "/v1/mastery?student=%00"}),
        (422, {"method": "GET", "path": "/v1/next?student=a&target=nan"}),
        (422, {"method": "GET", "path": "/v1/next?student=a&target=1"}),
        (422, {"method": "DELETE", "path": "/v1/student?student=a&dry_run=perhaps"}),
    ],
)
def test_every_error_has_one_shape(
    tracer: Any, status: int, request_of: Any, tmp_path: Any
) -> None:
    from gainakt.service.database import Database

    client = Client.of(tracer, Database(str(tmp_path / "a.sqlite")), keys=False)
    reply = client(**{"method": "POST", "path": "/v1/answers"} | request_of)
    assert reply.status_code == status, reply.text
    (error,) = reply.json().values()
    assert set(error) == {"code", "message", "details"} and error["message"]
    client.app.state.database.close()


def test_a_database_that_fails_is_said_without_what_was_asked(
    service: Client, caplog: pytest.LogCaptureFixture
) -> None:
    from sqlalchemy import text

    with service.app.state.database.writing() as session:
        session.execute(text("DROP TABLE answers"))
    reply = service("POST", "/v1/answers", json=answer("somebody"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "database")
    assert "somebody" not in reply.text + caplog.text
