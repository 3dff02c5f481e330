"""Pseudonyms in place of students' ids; a table that the owner of the data keeps leads back."""

from __future__ import annotations

import csv
import io
import secrets
from pathlib import Path

from gainakt.errors import DataError
from gainakt.files import write_atomically

_HEAD = ["student_id", "pseudonym"]
_BYTES = 8


def pseudonyms(students: list[str], table: Path) -> list[str]:
    """Return a pseudonym for each student: the one in the table, or a random new one added to it.

    Args:
        students: their ids, each once.
        table: CSV file of ids and pseudonyms, made where there is none, readable by its owner
            alone. Data prepared with the same table call a student alike.

    Raises:
        DataError: the table is not one.
        ExperimentError: it cannot be written.
    """
    known = _read(table) if table.exists() else {}
    new = [student for student in students if student not in known]
    taken = set(known.values())
    for student in new:
        while (name := f"p{secrets.token_hex(_BYTES)}") in taken:
            pass
        taken.add(name)
        known[student] = name
    if new:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_HEAD, *known.items()])
        write_atomically(table, text.getvalue().encode(), lambda path: path.chmod(0o600))
    return [known[student] for student in students]


def _read(table: Path) -> dict[str, str]:
    try:
        rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8")), strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table of pseudonyms: {error}") from None
    pairs = [row for row in rows[1:] if len(row) == len(_HEAD)]
    once = all(len(set(column)) == len(pairs) for column in zip(*pairs, strict=True))
    if not rows or rows[0] != _HEAD or len(pairs) != len(rows) - 1 or not once:
        raise DataError(
            f"{table} is no table of pseudonyms: it must be a CSV file with the columns "
            f"{' and '.join(_HEAD)}, each student and each pseudonym once; name a file that does "
            "not exist yet"
        )
    return dict(rows[1:])
