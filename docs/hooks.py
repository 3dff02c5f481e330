"""What `make docs` does to the pages besides: mkdocs calls these functions, see mkdocs.yml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<!\[)`(gainakt\.[a-z]\w*\.[\w.]+)`")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Link every name of the package to its docstring."""
    return outside_code(_link_names, markdown)


def outside_code(change, markdown: str) -> str:
    kept = _FENCE.findall(markdown)
    parts = [change(part) for part in _FENCE.split(markdown)]
    return "".join(part + block for part, block in zip(parts, [*kept, ""], strict=True))


def _link_names(text: str) -> str:
    return _NAME.sub(r"[`\1`][]", text)
