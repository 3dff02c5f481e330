"""Knowledge tracing that anyone can reproduce, with predictions that explain themselves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gainakt._version import __version__

if TYPE_CHECKING:
    from gainakt.api import Run, train
    from gainakt.estimator import GainSumClassifier
    from gainakt.session import Answer
    from gainakt.tracer import Tracer, load

# Public names and the modules they come from, which are imported when a name is first used:
# `import gainakt` alone loads nothing heavy.
_HOME = {
    "Answer": "gainakt.session",
    "GainSumClassifier": "gainakt.estimator",
    "Run": "gainakt.api",
    "Tracer": "gainakt.tracer",
    "load": "gainakt.tracer",
    "train": "gainakt.api",
}

__all__ = ["Answer", "GainSumClassifier", "Run", "Tracer", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
