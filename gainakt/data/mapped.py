"""The arrays that training reads: made once beside the table, then mapped into memory.

They lie in a folder that is named by a hash over all that they depend on and that takes its name
only when it is whole, so that neither stale nor half-written arrays are ever read.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gainakt.data.rows import Rows
from gainakt.errors import DataError
from gainakt.files import file_hash

try:
    import fcntl
except ImportError:  # Windows has no such locks; there two makers may do the same work
    fcntl = None  # type: ignore[assignment]

# Part of every key: another layout never meets folders of this one.
LAYOUT = 3
BOUNDS: dict[str, type[np.generic]] = {"offsets": np.int64, "folds": np.int8}
STUDENTS_FILE = "students.arrow"
QUESTIONS_FILE = "questions.arrow"
# Lies in every folder of arrays and says what they hold; without it nothing is ever removed.
MARK = "gainakt.made"
# Arrays of so many bytes are read whole to see that they are what was written; of larger ones, only
# files whose size or time of change is another than it was.
READ_WHOLE = 1 << 26
_OUR_NAME = re.compile(r"[0-9a-f]{32}(-\w+\.unfinished)?")

_LOG = logging.getLogger(__name__)


class TextColumn(Sequence[str]):
    """Text in an Arrow column, decoded where it is asked for: millions of ids, none of them held.

    Args:
        column: strings without nulls.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            places = range(*index.indices(len(self)))
            found: list[str] = self.take(np.asarray(places, np.int64)).to_pylist()
            return found
        # Arrow says "index out of bounds" as an IndexError, as a list does
        return str(self._column[int(index)].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._find(text) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def index(self, text: str, *limits: int) -> int:
        """The first place of ``text``; raises ValueError where it is not."""
        place = self._find(text)
        if place < 0 or limits:
            return super().index(text, *limits)
        return place

    def take(self, places: np.ndarray) -> pa.StringArray:
        """The texts at (n,) integer places, as an Arrow array."""
        return _one_array(self._column.take(pa.array(places)))

    def _find(self, text: str) -> int:
        return int(pc.index(self._column, text).as_py())


def text_at(texts: Sequence[str], places: np.ndarray) -> pa.StringArray:
    """The texts at (n,) integer places of a list or a ``TextColumn``, as an Arrow array."""
    if isinstance(texts, TextColumn):
        return texts.take(places)
    return pa.array([texts[place] for place in places.tolist()], pa.string())


class Arrays(NamedTuple):
    """What a ``Dataset`` holds of its table, see there."""

    student_ids: TextColumn
    question_ids: TextColumn
    rows: Rows
    offsets: np.ndarray
    folds: np.ndarray


class Piece(NamedTuple):
    """What a stretch of the table adds: its n rows, and the m students that begin in it.

    ``begins`` (m,) are the rows, counted from the start of the table, at which they do;
    ``question_ids`` those that no stretch before it has, in the order of their codes.
    """

    rows: Rows
    begins: np.ndarray
    folds: np.ndarray
    student_ids: pa.StringArray
    question_ids: pa.StringArray


def open_arrays(
    place: Path,
    key: str,
    students: int,
    rows: int,
    columns: Sequence[str],
    pieces: Callable[[], Iterable[Piece]],
) -> Arrays:
    """The arrays in the folder ``place / key``, made from ``pieces`` where they are not there yet.

    ``key`` names all that the arrays depend on, ``columns`` those of the rows. ``pieces`` reads and
    checks the whole table; what it raises is passed on, and then no arrays come to be. Where
    ``place`` cannot be written, the arrays are made in a temporary folder for this process alone,
    and a line says so.
    """

    def whole() -> Arrays | None:
        return _mapped(place / key, students, rows, columns)

    found = whole()
    if found is not None:
        return found
    try:
        place.mkdir(exist_ok=True)
        with _one_maker(place) as alone:
            found = whole()
            if found is None:
                _make(place, key, columns, pieces(), remove_others=alone)
                found = whole()
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if found is not None:
            return found
        reason = "what was written cannot be read back"
    return _made_in_passing(place, reason, students, rows, columns, pieces())


def _made_in_passing(
    place: Path,
    reason: str,
    students: int,
    rows: int,
    columns: Sequence[str],
    pieces: Iterable[Piece],
) -> Arrays:
    try:
        # maps outlive the names of their files
        with tempfile.TemporaryDirectory(prefix="gainakt-", ignore_cleanup_errors=True) as name:
            _LOG.warning(
                "%s cannot be written (%s): the arrays of this data set are made in %s, for this "
                "process alone",
                place,
                reason,
                Path(name).parent,
            )
            _write(Path(name), columns, pieces)
            _seal(Path(name))
            found = _mapped(Path(name), students, rows, columns)
            assert found is not None
            return found
    except OSError as error:
        raise DataError(
            f"cannot write {place} ({reason}), nor a temporary folder ({error.strerror or error}); "
            "free some space, or set TMPDIR to a folder that can be written"
        ) from None


@contextmanager
def _one_maker(place: Path) -> Iterator[bool]:
    """Let one process at a time make arrays in ``place``; yields whether that is certain."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)  # which ends the lock, as the end of the process would


def _make(
    place: Path, key: str, columns: Sequence[str], pieces: Iterable[Piece], *, remove_others: bool
) -> None:
    if remove_others and not place.is_symlink():
        for path in place.iterdir():
            if _is_ours(path):  # arrays of a table that is no more, and what a killed maker left
                shutil.rmtree(path, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{key}-", suffix=".unfinished", dir=place))
    try:
        (temporary / MARK).touch()
        # mkdtemp keeps others out; whoever may read the table may read its arrays
        temporary.chmod(place.stat().st_mode & 0o777)
        _write(temporary, columns, pieces)
        _seal(temporary)
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        if not (place / key).exists():  # another maker may have been faster
            temporary.rename(place / key)
        sync(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Write down what each file holds."""
    files = {
        path.name: {**_stamp(path), "sha256": file_hash(path)}
        for path in sorted(folder.iterdir())
        if path.name != MARK
    }
    (folder / MARK).write_text(json.dumps(files), encoding="utf-8")


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "changed": status.st_mtime_ns}


def _intact(folder: Path) -> bool:
    """Whether every file holds what was written."""
    files = json.loads((folder / MARK).read_text(encoding="utf-8"))
    whole = sum(file["size"] for file in files.values()) <= READ_WHOLE
    for name, file in files.items():
        path = folder / name
        same = {key: file[key] for key in ("size", "changed")} == _stamp(path)
        if (whole or not same) and file_hash(path) != file["sha256"]:
            return False
    return True


def _is_ours(path: Path) -> bool:
    """Whether a folder was made here: a name as ours are, our mark, nothing but our files in it."""
    if path.is_symlink() or not path.is_dir() or not _OUR_NAME.fullmatch(path.name):
        return False
    inside = list(path.iterdir())
    return (path / MARK).is_file() and all(
        p.suffix in (".npy", ".arrow", ".made") and p.is_file() and not p.is_symlink()
        for p in inside
    )


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dtypes(columns: Iterable[str]) -> dict[str, type[np.generic]]:
    return BOUNDS | {name: Rows.DTYPES[name] for name in columns}


def _write(folder: Path, columns: Sequence[str], pieces: Iterable[Piece]) -> None:
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_column_file(folder / f"{name}.npy", dtype))
            for name, dtype in _dtypes(columns).items()
        }
        add_students = stack.enter_context(_text_file(folder / STUDENTS_FILE))
        add_questions = stack.enter_context(_text_file(folder / QUESTIONS_FILE))
        rows = 0
        for piece in pieces:
            for name, values in piece.rows.present().items():
                files[name](values)
            files["folds"](piece.folds)
            files["offsets"](piece.begins)
            add_students(piece.student_ids)
            add_questions(piece.question_ids)
            rows += len(piece.rows)
        files["offsets"](np.array([rows]))


@contextmanager
def _text_file(path: Path) -> Iterator[Callable[[pa.StringArray], None]]:
    """An Arrow file of one column of text that grows; yields what appends to it."""
    schema = pa.schema([("id", pa.string())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
        yield lambda texts: file.write_batch(pa.record_batch([texts], schema=schema))


def _text(path: Path) -> TextColumn:
    with pa.memory_map(str(path)) as source:
        return TextColumn(pa.ipc.open_file(source).read_all().column(0))


@contextmanager
def _column_file(path: Path, dtype: type[np.generic]) -> Iterator[Callable[[np.ndarray], None]]:
    """A .npy file of one axis that grows; yields what appends to it."""
    length = 0

    def append(values: np.ndarray) -> None:
        nonlocal length
        file.write(np.ascontiguousarray(values, dtype).data)
        length += len(values)

    with path.open("wb") as file:
        size = _write_header(file, dtype, 0)
        yield append
        file.seek(0)
        # numpy leaves room in the header for the longest axis
        assert _write_header(file, dtype, length) == size


def _write_header(file: BinaryIO, dtype: type[np.generic], length: int) -> int:
    described: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (length,),
    }
    np.lib.format.write_array_header_1_0(file, described)
    return file.tell()


def _mapped(folder: Path, students: int, rows: int, columns: Sequence[str]) -> Arrays | None:
    """The arrays of a folder as maps; None where they are missing or not what was written.

    The maps are private and may be written to, for tensors that share the memory of an array want
    that; no write reaches the disk.
    """
    lengths = {"offsets": students + 1, "folds": students}
    arrays = {}
    try:
        if not _intact(folder):
            return None
        for name, dtype in _dtypes(columns).items():
            array = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            if array.dtype != dtype or array.shape != (lengths.get(name, rows),):
                return None
            arrays[name] = np.asarray(array)
        ids, question_ids = (_text(folder / name) for name in (STUDENTS_FILE, QUESTIONS_FILE))
    except (OSError, ValueError, LookupError, TypeError, EOFError, pa.ArrowException):
        return None
    if len(ids) != students or arrays["offsets"][0] != 0 or arrays["offsets"][-1] != rows:
        return None
    of_rows = Rows(**{name: arrays[name] for name in columns})
    return Arrays(ids, question_ids, of_rows, arrays["offsets"], arrays["folds"])


def release(*arrays: np.ndarray) -> None:
    """Tell the system that pages of mapped arrays are not needed for now; others stay as they are.

    They come back when they are read. A pass over all rows thereby takes no memory of its own.
    """
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def _one_array(column: pa.ChunkedArray) -> pa.StringArray:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
