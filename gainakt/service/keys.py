"""Keys that allow a program to read, write or administer: made, kept as hashes, checked."""

from __future__ import annotations

import hashlib
import secrets
import time
from hmac import compare_digest

from sqlalchemy import delete, select

from gainakt.errors import GainaktError
from gainakt.service.database import Database
from gainakt.service.tables import Key

SCOPES = ("read", "write", "admin")
"""Each allows what those before it allow."""


def add_key(database: Database, scope: str, note: str = "") -> str:
    """Make a key and return it; nobody can read it again, for its hash alone is kept."""
    assert scope in SCOPES
    number, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    with database.writing() as session:
        added = int(time.time() * 1000)
        session.add(Key(id=number, sha256=_hash(secret), scope=scope, note=note, added=added))
    return f"gainakt_{number}_{secret}"


def list_keys(database: Database) -> list[Key]:
    """Return all keys, the oldest first."""
    with database.reading() as session:
        return list(session.scalars(select(Key).order_by(Key.added, Key.id)))


def remove_key(database: Database, number: str) -> None:
    """Remove a key by its id; it is refused from now on.

    Raises:
        GainaktError: there is no such key.
    """
    with database.writing() as session:
        if session.scalar(select(Key).where(Key.id == number)) is None:
            raise GainaktError(f"no key {number!r}; `gainakt keys list` names those that there are")
        session.execute(delete(Key).where(Key.id == number))


def scope_of(database: Database, key: str) -> str | None:
    """Return the scope of a key, None where it is not one of ours."""
    parts = key.split("_", 2)
    if len(parts) != 3 or parts[0] != "gainakt" or not (parts[1].isascii() and parts[1].isalnum()):
        return None
    with database.reading() as session:
        known = session.scalar(select(Key).where(Key.id == parts[1]))
    right = known is not None and compare_digest(known.sha256, _hash(parts[2]))
    return known.scope if known is not None and right else None


def allows(scope: str, needed: str) -> bool:
    """Whether a scope is enough."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
