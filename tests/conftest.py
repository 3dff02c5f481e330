"""Helpers that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

_DEFAULT_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set by name; skips the test where it is not at hand."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("GAINAKT_DATA", _DEFAULT_DATA)).resolve() / name
        if not folder.is_dir():
            pytest.skip(f"real data {name!r} is not at hand; set GAINAKT_DATA to its parent folder")
        return folder

    return find
