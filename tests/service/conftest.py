"""Databases, real ones, and a service over each."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import small_tracer

if TYPE_CHECKING:
    from gainakt.service.database import Database

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "psycopg", "prometheus_client", "httpx")


@pytest.fixture(scope="session", autouse=True)
def extra() -> None:
    """Skip where the extra is not installed."""
    for name in NEEDED:
        pytest.importorskip(name, reason="the service's tests need the extra `dev`")


def postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian does not put it on the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL of our own, without a port."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no initdb: apt-get install postgresql")
    root = os.geteuid() == 0
    if root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder = tempfile.mkdtemp(prefix="gainakt-pg-", dir="/tmp")  # short: it holds a socket
    if root:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *words: str) -> None:
        before = ["runuser", "-u", "postgres", "--"] if root else []
        command = [*before, str(programs / program), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
        assert done.returncode == 0, done.stderr

    data = f"{folder}/data"
    run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    # what a crash of the machine would lose is of no matter here
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    run("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
    try:
        yield folder
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database, as --database names it."""
    if request.param == "sqlite":
        return str(tmp_path / "answers.sqlite")
    import psycopg

    folder = request.getfixturevalue("postgres")
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={folder}"


@pytest.fixture
def open_database(where: str) -> Iterator[Callable[[], Database]]:
    """Open the database `where`, once more at each call."""
    from gainakt.service.database import Database

    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(where))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture(scope="session")
def tracer() -> Any:
    """A model that reads questions and times, and a question's skills as one step."""
    tracer = small_tracer(
        "gainsum", question_ids=True, pooled_skills=True, forgetting="on", exact=True
    )
    first_answers = (0.5, 0.4, 0.6, 0.7, 0.3)
    tracer.checkpoint = replace(tracer.checkpoint, first_answers=first_answers)
    return tracer


@pytest.fixture
def service(tracer: Any, open_database: Callable[[], Database]) -> Any:
    """A service without keys over a new database."""
    from tests.service.client import Client

    return Client.of(tracer, open_database(), keys=False)
