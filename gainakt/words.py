"""Numbers and texts as people and terminals read them."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with what is counted, in the singular or the plural."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """Return text that tells a terminal nothing but to show it; a lone surrogate is spelt out."""
    shown = "".join(c if c in "\n\t" or not _commands(c) else repr(c)[1:-1] for c in text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def _commands(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0
