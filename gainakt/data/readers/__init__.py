"""One file for each raw format; a new one is a file and its name here."""

from __future__ import annotations

from importlib import import_module

from gainakt.data.sources import Reader

_MODULES = (
    "akt_lines",
    "assist2009",
    "assist2012",
    "assist2015",
    "assist2017",
    "datashop",
    "ednet",
    "eedi",
    "generic",
    "junyi2015",
    "poj",
    "pykt",
    "slepemapy",
    "statics2011",
)

READERS: dict[str, Reader] = {
    name: import_module(f"gainakt.data.readers.{name}").READER for name in _MODULES
}
