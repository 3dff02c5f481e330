"""Verbs of the tracing service."""

from __future__ import annotations

import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gainakt.cli.shared import Run, find
from gainakt.errors import GainaktError

if TYPE_CHECKING:
    from gainakt.service.database import Database

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "psycopg", "prometheus_client")

Where = Annotated[
    str,
    Parameter(help="File for SQLite, made where it is not there, or postgresql://user@host/name."),
]


def serve(
    run: Run,
    *,
    database: Where = "answers.sqlite",
    host: Annotated[str, Parameter(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to serve on; 0 for any that is free.")] = 8000,
    no_keys: Annotated[
        bool, Parameter(negative=(), help="Ask for no keys; on 127.0.0.1 alone.")
    ] = False,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, Parameter(help="Threads of the processor for the model.")] = 1,
) -> int:
    """Serve a run over HTTP: answers in, mastery and predictions out.

    For example: `gainakt serve experiments/20260101_120000_gainsum_run --no-keys`.
    """
    if not 0 <= port < 65536 or threads < 1:
        raise GainaktError("--port lies between 0 and 65535, and --threads is 1 at least")
    folder = find(run)
    opened = _open(database)
    from gainakt.service.server import refuse_unguarded
    from gainakt.service.server import serve as serve_tracer
    from gainakt.tracer import load

    refuse_unguarded(opened, host, keys=not no_keys)
    serve_tracer(
        load(folder.path, device=device),
        opened,
        host,
        port,
        keys=not no_keys,
        threads=threads,
        say=lambda line: print(line, flush=True),
    )
    return 0


def keys(
    action: Annotated[Literal["add", "list", "remove"], Parameter(help="What to do.")],
    key_id: Annotated[str | None, Parameter(help="Which key to remove.")] = None,
    *,
    scope: Annotated[
        Literal["read", "write", "admin"],
        Parameter(help="What a new key allows; each allows what those before it do."),
    ] = "read",
    note: Annotated[str, Parameter(help="Who has it, for the list.")] = "",
    database: Where = "answers.sqlite",
) -> int:
    """Add, list or remove keys of the tracing service.

    A new key is printed once; its hash alone is kept. For example: `gainakt keys add --scope
    write`.
    """
    if (action == "remove") != (key_id is not None):
        raise GainaktError("`gainakt keys remove ID` takes the id of a key, add and list take none")
    if len(note) > 200:
        raise GainaktError("--note has 200 characters at most")
    opened = _open(database)
    from gainakt.service import keys as keeping

    if action == "add":
        print(keeping.add_key(opened, scope, note))
    elif key_id is not None:
        keeping.remove_key(opened, key_id)
    else:
        for key in keeping.list_keys(opened):
            added = datetime.datetime.fromtimestamp(key.added / 1000, datetime.UTC)
            print(f"{key.id}  {key.scope:5}  {added:%Y-%m-%d %H:%M}  {key.note}".rstrip())
    opened.close()
    return 0


def _open(where: str) -> Database:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise GainaktError(
            f"the service needs {', '.join(missing)}: pip install 'gainakt[serve]', or in a copy "
            "of the repository pip install -c constraints.txt '.[serve]'"
        )
    from gainakt.service.database import Database

    return Database(where)
