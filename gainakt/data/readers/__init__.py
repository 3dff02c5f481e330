"""One file for each raw format; a new one is a file here, a line below, a paragraph in docs."""

from __future__ import annotations

from gainakt.data.readers import akt_lines, assist2015, generic, pykt
from gainakt.data.sources import Reader

READERS: dict[str, Reader] = {
    "pykt": pykt.READER,
    "assist2015": assist2015.READER,
    "generic": generic.READER,
    "akt_lines": akt_lines.READER,
}
