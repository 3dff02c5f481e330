"""Compressed sources, read as they are: unpacked in passing, into a folder that goes again."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gainakt.errors import DataError

SUFFIXES = (".gz", ".zip")


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Yield what is in a .gz or .zip file: its file, or a folder of its files; else the source.

    Raises DataError when the archive is damaged, locked or empty.
    """
    if source.suffix.lower() not in SUFFIXES or not source.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="gainakt-") as temporary:
        folder = Path(temporary) / source.stem
        try:
            if source.suffix.lower() == ".gz":
                folder.mkdir()
                with gzip.open(source) as packed, (folder / source.stem).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            else:
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(folder, _wanted(archive))  # never outside the folder
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error) or type(error).__name__
            raise DataError(f"{source} cannot be unpacked: {reason}") from None
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files:
            raise DataError(f"{source} holds no file")
        while len(within := list(folder.iterdir())) == 1 and within[0].is_dir():
            folder = within[0]  # what was packed with the folder that it lay in
        yield files[0] if len(files) == 1 else folder


def _wanted(archive: zipfile.ZipFile) -> list[str]:
    """Members without what systems leave beside them."""
    return [
        name
        for name in archive.namelist()
        if not name.startswith("__MACOSX/") and not name.endswith(".DS_Store")
    ]
