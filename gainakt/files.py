"""Writing files whole or not at all, by one process at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from gainakt.errors import ExperimentError, GainaktError
from gainakt.words import printable

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name that becomes `path` when the block ends well, and vanishes otherwise.

    At every moment the path holds the old content or the new, whole. The temporary file is nobody
    else's: two writers never share one, and no link that lies there is followed.

    Raises:
        ExperimentError: the disk is full, the folder read-only, and the like.
    """
    temporary: Path | None = None
    try:
        descriptor, name = mkstemp(prefix=f"{path.name}.", suffix=".writing", dir=path.parent)
        temporary = Path(name)
        os.fchmod(descriptor, 0o666 & ~_umask())
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ExperimentError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # on a read-only disk this fails even where there is nothing to remove
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def one_after_another(folder: Path) -> Iterator[None]:
    """Let processes pass one at a time, the others waiting; without locks they pass together."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def only_one(folder: Path, doing: str) -> Iterator[None]:
    """Let one process at a time write into a folder; a second one is refused.

    The lock goes with the process, however it ends. On a disk without locks there is none.

    Args:
        folder: what is written into.
        doing: what this process does, for the message of a second one.

    Raises:
        ExperimentError: another process is at it.
    """
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ExperimentError(f"cannot open {folder}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExperimentError(
                f"{folder.name} is being written by another process; wait for its end before "
                f"{doing} it"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def write_atomically(
    path: Path, content: bytes, verify: Callable[[Path], object] | None = None
) -> None:
    """Write a file whole or not at all (see `replacing`).

    Args:
        path: where to.
        content: what.
        verify: reads the written file back and raises when it is not good.

    Raises:
        ExperimentError: the disk is full, the folder read-only, and the like.
    """
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(content)
        if verify is not None:
            verify(temporary)


def refuse_other_than_text(name: str) -> None:
    """Refuse a name that no file of text can hold, as of a file that another system has named.

    Raises:
        GainaktError: the name has bytes that are no UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise GainaktError(
            f"{printable(name)} is not UTF-8, and would be written into the run's record; rename "
            "it, or give another"
        ) from None
