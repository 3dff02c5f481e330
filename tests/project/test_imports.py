"""Imports follow the stream, and training needs nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import gainakt

PACKAGE = Path(gainakt.__file__).parent

# From the source down; a part may import itself and what stands before it. Parts on one line do
# not import one another.
STREAM = (
    ("_version", "errors", "arrays", "seeds", "html", "words"),
    ("files", "machine"),
    ("config",),
    ("data",),
    ("models",),
    ("baselines",),
    ("objectives",),
    ("record",),
    ("evaluation",),
    ("training",),
    ("experiment",),
    ("report",),
    ("session",),
    ("tracer",),
    ("api", "estimator"),
    ("service", "cluster"),
    ("cli",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(STREAM) for part in parts}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's name relative to the package, and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imported(source: str, module: str) -> Iterator[str]:
    """Names within the package that `source` imports, wherever in the file."""
    is_package = module.split(".")[-1] == "__init__"
    here = module.split(".")[:-1] if is_package else module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ["gainakt", *here][: len(here) + 1 - node.level + is_package]
            names = [".".join([*base, *filter(None, [node.module]), a.name]) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("gainakt."):
                yield name.removeprefix("gainakt.")


def against_the_stream(source: str, module: str) -> list[str]:
    """The imports of `module` that point the wrong way."""
    part = module.split(".")[0]
    found = []
    for name in imported(source, module):
        target = name.split(".")[0]
        if target == part or target not in LEVEL:
            continue
        if LEVEL[target] >= LEVEL[part]:
            found.append(f"{module} imports {name}")
    return found


def test_every_part_has_its_place_in_the_stream() -> None:
    parts = {module.split(".")[0] for module, _ in modules()} - {"__init__"}
    unplaced = sorted(parts - set(LEVEL))
    assert not unplaced, f"say in STREAM where these stand: {unplaced}"


def test_no_import_points_against_the_stream() -> None:
    wrong = [
        arrow
        for module, path in modules()
        # the package's own face shows what it likes; what it must not load is tested below
        if module != "__init__"
        for arrow in against_the_stream(path.read_text(encoding="utf-8"), module)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("models.attention", "from gainakt.data.batches import Batch", False),
        ("models.attention", "from gainakt.training import loop", True),
        ("data.batches", "def f():\n    import gainakt.models.attention", True),
        ("config", "from gainakt import data", True),
        ("service.app", "from gainakt.cluster.plan import plan", True),
        ("evaluation.metrics", "from . import readout", False),
        ("evaluation.metrics", "from ..training import loop", True),
        ("models.__init__", "from .attention import Dropout", False),
        ("models.__init__", "from ..experiment import folder", True),
        ("cli", "from gainakt.service import app", False),
        ("cli", "import torch", False),
    ],
)
def test_the_walk_sees_what_it_should(module: str, source: str, wrong: bool) -> None:
    assert bool(against_the_stream(source, module)) == wrong


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages in memory after importing `modules` in a new process."""
    code = f"import {', '.join(modules)}, sys; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stdout.split())


def test_training_loads_nothing_heavy() -> None:
    """Training runs on machines that have none of these."""
    loaded = loaded_by("gainakt.data.batches", "gainakt.models", "gainakt.training.loop")
    assert "torch" in loaded
    assert not loaded & {"polars", "dataframely", "altair", "optuna", "wandb", "mlflow"}


def test_the_command_line_starts_light() -> None:
    if find_spec("gainakt.cli") is None:
        pytest.skip("there is no command line yet")
    assert not loaded_by("gainakt.cli") & {"torch", "polars", "dataframely", "altair", "optuna"}
