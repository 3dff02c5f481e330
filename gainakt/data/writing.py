"""Writing a prepared data set: table and manifest together, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gainakt._version import __version__
from gainakt.data.contents import ContentHash
from gainakt.data.interactions import (
    COLUMN_TYPES,
    FORMAT_VERSION,
    MANIFEST_FILE,
    TABLE_FILE,
    TEST_FOLD,
    Dataset,
    load_dataset,
    skill_order,
)
from gainakt.data.mapped import sync
from gainakt.data.rows import CORRECT, FOLD, ORDER, SKILL, STUDENT
from gainakt.errors import DataError

_ROW_GROUP_ROWS = 1 << 20


def refuse_existing(out: Path) -> None:
    """Raise DataError when the target is there already: a data set is never overwritten."""
    try:
        there = os.path.lexists(out)
    except OSError as error:
        raise _disk_error(out, error) from None
    if there:
        raise DataError(f"{out} exists already; choose another --out or remove it first")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling that becomes ``out`` when the block ends well, else vanishes.

    Raises DataError when ``out`` exists or the disk refuses, whatever the reason.
    """
    refuse_existing(out)
    place = out.absolute().parent
    temporary = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        # a name of its own, for a process number says nothing where machines share the disk
        temporary = Path(mkdtemp(prefix=f".{out.name[:100]}.", suffix=".unfinished", dir=place))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        refuse_existing(out)
        temporary.rename(out)
        with suppress(OSError):  # the data set is there and whole: too late to report a failure
            sync(temporary.parent)
    except OSError as error:
        raise _disk_error(out, error) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _disk_error(out: Path, error: OSError) -> DataError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = {
        errno.ENOSPC: "free some space or choose a place on another disk",
        errno.EDQUOT: "free some space or choose a place on another disk",
        errno.ENOTDIR: "part of the path is a file; choose another place",
    }.get(error.errno or 0, "choose a folder that can be written")
    return DataError(f"cannot write {out}: {reason}; nothing was left behind; {advice}")


def write_dataset(
    out: Path,
    tables: Iterable[pa.Table],
    *,
    name: str,
    reader: str,
    split_method: str,
    sources: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    options: dict[str, Any],
    notes: list[dict[str, Any]] | None = None,
) -> Dataset:
    """Write tables as one data set at ``out`` and read it back.

    ``tables`` come one after the other, each with all rows of its students, so that any amount of
    data fits; the other arguments go into the manifest. Raises DataError when ``out`` exists,
    cannot be written, or the rows cannot be learned from (none at all, or only one kind of answer).
    """
    with new_folder(out) as folder:
        summary = _Summary()
        _write_tables(folder / TABLE_FILE, tables, summary)
        summary.check(name)
        manifest = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "reader": reader,
            "options": options,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "gainakt_version": __version__,
            "sources": sources,
            "filters": filters,
            "notes": notes or [],
            "counts": summary.counts(),
            "splits": {"method": split_method, **summary.splits()},
            "skills": skill_order(summary.skills),
            "sha256": _file_sha256(folder / TABLE_FILE),
            "interactions_sha256": summary.content_sha256,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return load_dataset(out)


class _Summary:
    """What the manifest says about the table, gathered while the table streams by."""

    def __init__(self) -> None:
        self.students: Counter[int] = Counter()
        self.rows: Counter[int] = Counter()
        self.answers = 0
        self.skills: set[str] = set()
        self.responses: set[int] = set()
        self.content_sha256 = ""

    def add(self, table: pa.Table) -> None:
        self.skills.update(pc.unique(table.column(SKILL)).to_pylist())
        self.responses.update(pc.unique(table.column(CORRECT)).to_pylist())
        folds = np.asarray(table.column(FOLD))
        students = table.column(STUDENT).combine_chunks()
        starts = np.asarray(pc.run_end_encode(students).run_ends)[:-1]
        orders = np.asarray(table.column(ORDER))
        first = np.zeros(len(folds), bool)
        first[0] = True
        first[starts] = True
        self.answers += int((first[1:] | (orders[1:] != orders[:-1])).sum()) + 1
        for counter, values in ((self.rows, folds), (self.students, folds[first])):
            present, counts = np.unique(values, return_counts=True)
            counter.update(dict(zip(present.tolist(), counts.tolist(), strict=True)))

    def check(self, name: str) -> None:
        if not self.rows:
            raise DataError(f"data set {name!r} has no interactions")
        if len(self.responses) == 1:
            only = next(iter(self.responses))
            raise DataError(
                f"data set {name!r}: every answer is {only}; column {CORRECT!r} needs both 0 "
                "and 1, there is nothing to learn or to measure otherwise"
            )

    def counts(self) -> dict[str, int]:
        """Interactions are rows; answers count a question with several skills once."""
        return {
            "students": self.students.total(),
            "interactions": self.rows.total(),
            "answers": self.answers,
            "skills": len(self.skills),
        }

    def splits(self) -> dict[str, Any]:
        def share(fold: int) -> dict[str, int]:
            return {"students": self.students[fold], "interactions": self.rows[fold]}

        folds = sorted(fold for fold in self.students if fold != TEST_FOLD)
        return {
            "test": share(TEST_FOLD),
            "folds": [{"fold": fold, **share(fold)} for fold in folds],
        }


def _write_tables(path: Path, tables: Iterable[pa.Table], summary: _Summary) -> None:
    writer: pq.ParquetWriter | None = None
    content: ContentHash | None = None
    try:
        for table in tables:
            if table.num_rows == 0:
                continue
            if writer is None or content is None:
                schema = _schema(table.column_names)
                writer = pq.ParquetWriter(path, schema, compression="zstd")
                content = ContentHash({field.name: field.type for field in schema})
            table = table.select(schema.names).cast(schema)
            writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
            content.update(table)
            summary.add(table)
    finally:
        if writer is not None:
            writer.close()
    summary.content_sha256 = content.hexdigest() if content is not None else ""


def _schema(names: list[str]) -> pa.Schema:
    return pa.schema([(name, kind) for name, kind in COLUMN_TYPES.items() if name in names])


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
