"""One file for each raw format; a new one is a file and its name here."""

from __future__ import annotations

from importlib import import_module

from gainakt.data.sources import Reader

_MODULES = ("akt_lines", "assist2015", "generic", "pykt")

READERS: dict[str, Reader] = {
    name: import_module(f"gainakt.data.readers.{name}").READER for name in _MODULES
}
