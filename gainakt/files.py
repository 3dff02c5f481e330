"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gainakt.errors import ExperimentError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name that becomes `path` when the block ends well, and vanishes otherwise.

    At every moment the path holds the old content or the new, whole.

    Raises:
        ExperimentError: the disk is full, the folder read-only, and the like.
    """
    temporary = path.with_name(path.name + ".writing")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ExperimentError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # on a read-only disk this fails even where there is nothing to remove
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
