"""A database of answers, SQLite or PostgreSQL: transactions that read or write, and its schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from gainakt.errors import GainaktError

# Seconds that a writer waits for another one's end, on SQLite.
PATIENCE = 30
# PostgreSQL lets one process at a time change the schema: the number is known to this package.
SCHEMA_LOCK = 7_281_946


class Database:
    """Answers and keys at rest.

    What a transaction that writes has stored is on the disk when it ends: an answer that was
    acknowledged outlives the process.

    Args:
        where: a file for SQLite, or a URL such as postgresql://user@host/name.

    Raises:
        GainaktError: it cannot be opened, is of another kind, or of a later version of GainAKT.
    """

    def __init__(self, where: str) -> None:
        self.url = _url(where)
        self.is_file = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url)
        # the name without a password, for messages
        self.name = str(self.url.database) if self.is_file else self.url.render_as_string()
        try:
            self._upgrade()
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise GainaktError(f"cannot use the database {self.name}: {reason}") from None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees the database as it is at one moment."""
        level = {} if self.is_file else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**level) as connection:
            yield Session(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose changes are kept all, or where the block raises none."""
        with (
            self.engine.connect().execution_options(writes=True) as connection,
            Session(connection) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", "gainakt.service:migrations")
        config.set_main_option("path_separator", "os")
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if not self.is_file:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise GainaktError(
                    f"the database {self.name} is not of this version of GainAKT ({error}); use "
                    "the version that wrote it, or a later one"
                ) from None


def _url(where: str) -> URL:
    if "://" not in where:
        return URL.create("sqlite", database=where)
    try:
        url = make_url(where)
    except ArgumentError:
        raise GainaktError("--database is no URL such as postgresql://user@host/name") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise GainaktError(
            f"--database is of the kind {url.drivername}; a file name, sqlite:///FILE and "
            "postgresql://user@host/name are allowed"
        )
    return url


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True, pool_size=20)
        if url.database in (None, "", ":memory:"):
            raise GainaktError("a database in memory would be lost with the process: name a file")
        engine = create_engine(url, connect_args={"timeout": PATIENCE}, pool_size=20)
    except NoSuchModuleError as error:
        raise GainaktError(f"--database: {error}") from None
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    # what is deleted is overwritten, not only forgotten
    connection.execute("PRAGMA secure_delete = ON")


def _begin(connection: Connection) -> None:
    # a writer takes its turn at once: one that has read first could not wait for another
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
