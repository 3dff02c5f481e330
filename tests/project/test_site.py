"""What `make docs` builds on: the notebook runs, figures are as drawn, no page is forgotten."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "notebooks" / "from_data_to_explanation.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells one after the other, but for commands of a shell; `make docs` runs those too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for number, cell in enumerate(CODE):
        lines = [line for line in cell["source"] if not line.startswith("!")]
        exec(compile("".join(lines), f"cell {number}", "exec"), names)
    assert names["again"].equals(names["predicted"])
    assert abs(names["total"] - names["explained"].logit) < 1e-5
    assert 0.6 < names["auc"](names["right"], names["scored"]["probability"].to_numpy()) < 0.9


def test_the_notebook_is_kept_without_outputs() -> None:
    assert CODE
    for cell in CODE:
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_links_of_the_notebook_lead_to_pages() -> None:
    words = "".join(line for c in CELLS if c["cell_type"] == "markdown" for line in c["source"])
    links = re.findall(r"\]\(([^)]+)\)", words)
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).exists(), link


def test_the_figures_are_as_drawn() -> None:
    place = DOCS / "figures" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", place)
    assert spec is not None and spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    for name, figure in draw.FIGURES.items():
        kept = (place.parent / f"{name}.svg").read_text(encoding="utf-8")
        assert kept == figure().svg(), f"{name}: renew with python docs/figures/draw.py"
    assert {path.stem for path in place.parent.glob("*.svg")} == set(draw.FIGURES)


def test_every_page_is_in_the_navigation() -> None:
    """mkdocs says so as well, but only when the site is built."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = re.findall(r"[\w./-]+\.md$", settings, re.MULTILINE)
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert pages <= set(navigation)
    assert len(set(navigation)) == len(navigation)
