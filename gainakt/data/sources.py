"""Source files: that they can be read at all, and what a reader hands on once it has read them."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from gainakt.errors import DataError

ROW = "row"
ITEM = "item"
FILE = "file"
KEY = "order_key"
"""What rows were sorted by, as the source has it: equal keys are ties."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Filter:
    """Rows that a reader left out, how many, and why."""

    name: str
    reason: str
    rows_removed: int
    students_removed: int


@dataclass(frozen=True)
class Note:
    """Something about the data that changes nothing but should be known, and how often it is so."""

    name: str
    text: str
    count: int


@dataclass(frozen=True)
class Reading:
    """What a reader hands on: checked rows in the order of the source.

    ``rows`` has student_id, skill_id, correct, optional question_id, timestamp and fold, ``file``
    and ``row`` for error messages, and ``order``: an integer that sorts a student's rows, the same
    for rows that are one interaction (the skills of one question). ``sources`` are fingerprints of
    the files.
    """

    rows: pl.DataFrame
    sources: list[dict[str, Any]]
    filters: list[Filter] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """A raw format: its name, the documented shape of its source in a sentence, and how to read it.

    ``options`` maps the name of each option to a sentence; those in ``required`` must be given.
    ``recognises`` says by what a source looks like this format, None where it does not.
    """

    name: str
    source: str
    example: str
    read: Callable[[Path, Mapping[str, str]], Reading]
    options: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    recognises: Callable[[Path], str | None] = lambda source: None


def fingerprint(path: Path, *, text: bool = True, encoding: str = "utf-8") -> dict[str, Any]:
    """Name, size and SHA-256 of a source file, read once; for a text file, proof of its encoding.

    Raises DataError when the file is missing, a folder, empty, unreadable, compressed or (``text``)
    not in ``encoding``.
    """
    _check_file(path)
    digest = hashlib.sha256()
    size, lines = 0, 1
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                if not size and text:
                    _refuse_compressed(path, chunk)
                digest.update(chunk)
                size += len(chunk)
                if text:
                    decoder.decode(chunk)
                    lines += chunk.count(b"\n")
        if text:
            decoder.decode(b"", final=True)
    except LookupError:
        raise DataError(f"there is no encoding {encoding!r}; utf-8 and latin-1 are two") from None
    except UnicodeDecodeError as error:
        line = lines + error.object.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not {encoding.upper()}"
            "; save the file as UTF-8, or name its encoding"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if size == 0:
        raise DataError(f"{path} is empty")
    return {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}


def file_in(folder: Path, name: str) -> Path:
    """Return the file of a name in a folder or in one of the folders in it.

    Raises DataError when it is no folder, or no or several such files are there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; one with {name} is needed")
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        places = ", ".join(str(path.relative_to(folder)) for path in found[:5])
        there = f"several, {places}; leave one of them" if found else "none"
        raise DataError(f"{folder} must hold one {name}; there is {there}")
    return found[0]


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path} is a folder; a file is needed here")
    if not path.exists():
        raise DataError(f"no such file: {path}")


# What compressed files begin with.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def _refuse_compressed(path: Path, begin: bytes) -> None:
    for mark, kind in _COMPRESSED.items():
        if begin.startswith(mark):
            raise DataError(f"{path} is compressed ({kind}); unpack it first")


@dataclass(frozen=True)
class TextFormat:
    """How a text table is written; where ``quote`` is None, quotes mean nothing.

    ``quote_given`` says that somebody named the quote character, and so answers for line breaks in
    quoted cells.
    """

    separator: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    quote_given: bool = False


def read_csv(
    path: Path,
    columns: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
    form: TextFormat | None = None,
) -> tuple[pl.DataFrame, list[Note]]:
    """Columns of a text table, every cell as it is spelt (empty: null), with ``row``.

    ``columns`` and ``optional`` map names of the result to those in the file; ``row`` is the line
    in the file on which a row begins, the header's being 1. ``path`` must have passed
    ``fingerprint``. Raises DataError when a column is missing or there twice, quoting or the number
    of fields is broken, a quoted cell swallows rows, or there is no row.
    """
    form = form or TextFormat()
    source = _readable(path, form)
    try:
        table = pl.read_csv(
            source,
            infer_schema=False,
            separator=form.separator,
            quote_char=form.quote,
            glob=False,
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(_first_fault(path, form, error)) from None
    check_columns(path, table.columns, list(columns.values()))
    wanted = {**columns, **{k: v for k, v in (optional or {}).items() if v in table.columns}}
    _refuse_doubled(path, table.columns, wanted.values())
    breaks = table.select(pl.sum_horizontal(pl.all().str.count_matches("\n")).fill_null(0))
    lines = breaks.to_series().cast(pl.Int64)
    notes = _line_breaks(path, table, lines, form) if lines.sum() else []
    row = (2 + pl.int_range(pl.len(), dtype=pl.Int64) + lines.cum_sum() - lines).alias(ROW)
    # Blank lines at the end of a file are no rows; anywhere else they are looked at as rows.
    filled = table.select(~pl.all_horizontal(pl.all().is_null())).to_series()
    last = filled.arg_true().max()
    if last is None:
        raise DataError(f"{path} has a header but no rows")
    chosen = table.select(row, **{name: pl.col(source) for name, source in wanted.items()})
    return chosen.head(int(str(last)) + 1), notes


def header_of(path: Path, form: TextFormat | None = None) -> list[str] | None:
    """The names in the first line of a text table, None where there is no such line to be read."""
    form = form or TextFormat()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        begin = file.read(_CHUNK_BYTES)
    text = begin.removeprefix(codecs.BOM_UTF8).decode("latin-1")
    first = text.splitlines()[:1]
    if not first or "\0" in first[0]:
        return None
    return next(csv.reader(first, delimiter=form.separator), None)


def _readable(path: Path, form: TextFormat) -> Path | bytes:
    """What polars reads: the file itself, or its text with line ends and encoding that it knows."""
    with path.open("rb") as file:
        begin = file.read(_CHUNK_BYTES)
    if begin.lstrip()[:1] in (b"{", b"["):
        raise DataError(f"{path} looks like JSON; a table of separated columns is needed")
    alone = b"\r" in begin and b"\n" not in begin
    if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") and not alone:
        return path
    text = path.read_bytes().decode(form.encoding)
    return (text.replace("\r", "\n") if alone else text).encode()


def _refuse_doubled(path: Path, present: Collection[str], wanted: Collection[str]) -> None:
    for name in wanted:
        if any(re.fullmatch(rf"{re.escape(name)}_duplicated_\d+", other) for other in present):
            raise DataError(
                f"{path} has several columns {name!r}; give them names of their own, so that it is "
                "clear which is meant"
            )


def _line_breaks(path: Path, table: pl.DataFrame, lines: pl.Series, form: TextFormat) -> list[Note]:
    """What to say of quoted cells with line breaks; a cell that holds whole rows is refused."""
    cells = (
        pl.all()
        .str.split("\n")
        .list.eval(pl.element().str.count_matches(form.separator, literal=True))
    )
    # a line within a cell that has as many separators as a row is a row that a quote swallowed
    swallowed = table.select(
        pl.any_horizontal((cells.list.max() >= max(table.width - 1, 1)).fill_null(False))
    ).to_series()
    if swallowed.any() and not form.quote_given:
        place = int(swallowed.arg_true()[0])
        row = 2 + place + int(lines.head(place).sum())
        raise DataError(
            f"{path}, row {row}: a quoted cell goes on over {int(lines[place]) + 1} lines and "
            "holds what looks like whole rows; where quotes mean nothing in this file, give the "
            "option quote as 'none', and where the cell is meant so, as '\"'"
        )
    count = int((lines > 0).sum())
    return [Note("line_breaks", "rows with line breaks inside quoted cells", count)]


def as_text(table: pl.DataFrame) -> pl.DataFrame:
    """A typed table as `read_csv` would give it: cells of text (nan: null), ``row`` from 1."""
    whole = [
        name
        for name, kind in table.schema.items()
        if kind.is_float() and (table[name].drop_nans().drop_nulls() % 1 == 0).all()
    ]
    table = table.with_columns(
        pl.col(pl.Boolean).cast(pl.Int8), pl.col(pl.Float32, pl.Float64).fill_nan(None)
    )
    # numbers are spelt alike whatever their type: 27.0 is 27
    table = table.with_columns(pl.col(whole).cast(pl.Int64, strict=False))
    text = table.select(pl.all().cast(pl.String))
    return text.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))


def shortened(names: Collection[object], most: int = 20) -> str:
    """Names for a message, which no file can make as long as it likes."""
    spelt = map(str, list(names)[:most])
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in spelt]
    return ", ".join(shown) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def check_columns(file: str | Path, present: Collection[str], needed: Collection[str]) -> None:
    """Raise DataError when a needed column is not there."""
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(
            f"{file} has no column {', '.join(map(repr, map(str, missing)))}; "
            f"needed are {shortened(needed)}; it has {shortened(present)}"
        )


def _first_fault(path: Path, form: TextFormat, error: Exception) -> str:
    """Where polars gave up, found again record by record: its own message has no row."""
    previous_limit = csv.field_size_limit(1 << 30)
    quoting: dict[str, Any] = (
        {"quoting": csv.QUOTE_NONE} if form.quote is None else {"quotechar": form.quote}
    )
    try:
        with path.open(encoding=form.encoding, newline="") as file:
            records = csv.reader(file, delimiter=form.separator, strict=True, **quoting)
            width, line = None, 1
            try:
                for record in records:
                    width = width or len(record)
                    if len(record) > width:
                        return f"{path}, row {line}: {len(record)} fields, the header has {width}"
                    line = records.line_num + 1
            except csv.Error as fault:
                return f"{path}, row {line}: broken quoting ({fault})"
            if form.quote is not None:
                file.seek(0)
                for line, text in enumerate(file, start=1):
                    if text.count(form.quote) % 2:
                        return f"{path}, row {line}: broken quoting (a quote that is never closed)"
    finally:
        csv.field_size_limit(previous_limit)
    reason = (str(error).splitlines() or ["unknown reason"])[0][:200]
    return f"{path} cannot be read as a table separated by {form.separator!r}: {reason}"


def unroll(
    histories: pl.DataFrame, file: str, columns: Mapping[str, str], *, per_student: Collection[str]
) -> pl.DataFrame:
    """One row per item from one row per student whose cells are comma-joined lists.

    ``columns`` maps names of the interaction table to list columns of ``histories``;
    ``per_student`` are columns to repeat. Adds ``item``, the position in the list from 1. Raises
    DataError when the lists of a row are not equally long.
    """
    lists = histories.select(
        ROW,
        *per_student,
        *(
            pl.col(source)
            .fill_null("")
            .str.split(",")
            .list.eval(pl.element().str.strip_chars())
            .alias(name)
            for name, source in columns.items()
        ),
    )
    first, *others = columns
    for other in others:
        uneven = lists.filter(pl.col(first).list.len() != pl.col(other).list.len())
        if not uneven.is_empty():
            row = uneven.row(0, named=True)
            raise DataError(
                f"{file}, row {row[ROW]}: {columns[first]!r} has {len(row[first])} items but "
                f"{columns[other]!r} has {len(row[other])}; they must be equally many"
            )
    lists = lists.with_columns(pl.int_ranges(1, pl.col(first).list.len() + 1).alias(ITEM))
    return lists.explode(*columns, ITEM)
