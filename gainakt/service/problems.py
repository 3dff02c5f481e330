"""Everything that can go wrong, said in one shape."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, TimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gainakt.errors import GainaktError
from gainakt.service.answers import Conflict

_LOG = logging.getLogger(__name__)

CODES = {
    400: "malformed",
    401: "no_key",
    403: "scope",
    404: "not_found",
    405: "method",
    409: "conflict",
    413: "too_large",
    415: "media_type",
    422: "invalid",
    500: "internal",
    503: "database",
}


class Problem(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def problem(
    status: int,
    message: str,
    code: str | None = None,
    details: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the reply that says what is wrong."""
    said = {
        "code": code or CODES.get(status, "error"),
        "message": message,
        "details": details or [],
    }
    # pure ASCII: a request may hold text that UTF-8 cannot spell
    return Response(
        json.dumps({"error": said}).encode("ascii"),
        status,
        media_type="application/json",
        headers=dict(headers or {}),
    )


def answer_in_one_shape(app: FastAPI) -> None:
    """Let every error of the application be answered by `problem`."""

    def on(kind: type[Exception]) -> Callable[[Any], Any]:
        def register(say: Callable[[Any], Response]) -> None:
            async def handle(_: Request, error: Exception) -> Response:
                return say(error)

            app.add_exception_handler(kind, handle)

        return register

    on(Problem)(lambda e: problem(e.status, e.message, e.code, headers=_challenge(e.status)))
    on(HTTPException)(lambda e: problem(e.status_code, str(e.detail), headers=e.headers))
    on(RequestValidationError)(_invalid)
    on(Conflict)(
        lambda e: problem(
            409, str(e), details=[{"where": event, "message": "differs"} for event in e.events]
        )
    )
    on(GainaktError)(lambda e: problem(422, str(e)))
    for kind in (DBAPIError, TimeoutError):
        on(kind)(_database)
    on(Exception)(lambda e: problem(500, "something went wrong; the service's log says what"))


def _challenge(status: int) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def _invalid(error: RequestValidationError) -> Response:
    # what was sent is not repeated: it may be of any size, and is personal
    details = [
        {"where": ".".join(map(str, e["loc"]))[:300], "message": str(e["msg"])[:300]}
        for e in error.errors()[:20]
    ]
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return problem(400, "the body is no JSON", details=details)
    return problem(422, "the request is not what the service takes", details=details)


def _database(error: Exception) -> Response:
    reason = type(getattr(error, "orig", None) or error).__name__  # the rest may name a student
    _LOG.error("the database failed: %s", reason)
    return problem(503, "the database does not answer; try again", headers={"Retry-After": "1"})


App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class BodyLimit:
    """Refuse bodies that are larger than a number of bytes, announced or not."""

    def __init__(self, app: App, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the other side has gone
                return None
            part = message.get("body", b"")
            size += len(part)
            more = message.get("more_body", False)
            if size > self.most or _announced(scope) > self.most:
                refused = problem(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"a body has {self.most:,} bytes at most",
                    headers={"Connection": "close"},
                )
                return await refused(scope, receive, send)
            parts.append(part)
        body: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"".join(parts), "more_body": False}
        ]

        async def replay() -> Any:
            return body.pop() if body else await receive()

        return await self.app(scope, replay, send)


def _announced(scope: dict[str, Any]) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
