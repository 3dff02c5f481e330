"""What `make docs` does to the pages besides: mkdocs calls these functions, see mkdocs.yml.

Pages stay plain Markdown that reads well where it lies; the site gets links from the names of
functions to their docstrings, figures that follow its light and dark, and the notebook with what
it prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<!\[)`(gainakt\.[a-z]\w*\.[\w.]+)`")
_FIGURE = re.compile(r"^!\[(?P<words>[^\]]+)\]\((?P<path>figures/\w+\.svg)\)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Link names of the package to their docstrings, and put figures into the page."""
    return _outside_code(lambda text: _with_figures(_with_links(text)), markdown)


def _outside_code(change: Callable[[str], str], markdown: str) -> str:
    blocks = _FENCE.findall(markdown)
    parts = [change(part) for part in _FENCE.split(markdown)]
    return "".join(part + block for part, block in zip(parts, [*blocks, ""], strict=True))


def _with_links(text: str) -> str:
    return _NAME.sub(r"[`\1`][]", text)


def _with_figures(text: str) -> str:
    """An image of its own follows the system's colours; in the page it follows the page's."""

    def drawn(found: re.Match[str]) -> str:
        svg = (DOCS / found["path"]).read_text(encoding="utf-8")
        svg = re.sub(
            r"@media \(prefers-color-scheme: dark\) \{ svg\.figure (\{.*?\}) \}",
            r'[data-md-color-scheme="slate"] svg.figure \1',
            svg,
            flags=re.DOTALL,
        )
        words = escape(found["words"])
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
        return f'<div class="figure-box">\n{svg}</div>'

    return _FIGURE.sub(drawn, text)
