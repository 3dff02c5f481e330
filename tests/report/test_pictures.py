"""Pictures are drawn in a process of its own, which may die without taking the page along."""

from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest

from gainakt.errors import GainaktError
from gainakt.record.folder import RunFolder
from gainakt.report import pictures
from gainakt.report.drawing import specification
from gainakt.report.figures import save
from gainakt.report.page import write_report
from gainakt.report.pictures import NotDrawn, Picture, draw

# a text that ends the process of the library that draws
DEADLY = "\ufffe"


def figure(title: str) -> Any:
    table = pl.DataFrame({"x": [1, 2], "y": [1, 3]})
    return alt.Chart(table).mark_line().encode(x="x", y="y").properties(title=title)


def test_a_figure_that_ends_the_process_is_one_reason_among_pictures() -> None:
    titles = ["first", DEADLY, "second", DEADLY]
    first, deadly, second, last = draw([specification(figure(title)) for title in titles])
    assert isinstance(first, Picture) and "first" in first.svg and first.png[:4] == b"\x89PNG"
    assert isinstance(second, Picture) and "second" in second.svg
    for none in (deadly, last):
        assert isinstance(none, NotDrawn)
        assert "the drawing process was ended by SIG" in none.reason


def test_a_mistake_in_a_figure_is_its_reason() -> None:
    wrong, right = draw([{"mark": 7}, specification(figure("right"))])
    assert isinstance(wrong, NotDrawn) and wrong.reason
    assert isinstance(right, Picture)


def test_a_process_that_cannot_start_is_the_reason_of_every_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise MemoryError('none left')")
    monkeypatch.setattr(pictures, "__file__", str(broken))
    assert draw([{}, {}]) == [NotDrawn("MemoryError: none left")] * 2


def test_the_page_says_which_figure_is_missing_and_shows_the_others(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_report(RunFolder(run_copy)).read_text(encoding="utf-8")
    asked = []

    def one_is_deadly(drawn: Any) -> dict[str, Any]:
        asked.append(drawn)
        return specification(figure(DEADLY) if len(asked) == 2 else drawn)

    monkeypatch.setattr("gainakt.report.layout.specification", one_is_deadly)
    page = write_report(RunFolder(run_copy)).read_text(encoding="utf-8")
    assert 'id="auc_by_epoch"' in page
    assert 'id="loss_by_epoch"' in whole and 'id="loss_by_epoch"' not in page
    assert "this figure could not be drawn (the drawing process was ended by SIG" in page
    assert page.count("<figure") == whole.count("<figure") - 1


def test_an_explanation_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(GainaktError, match="could not be drawn: the drawing process was ended"):
        save(figure(DEADLY), tmp_path / "explained.png")
    assert not list(tmp_path.iterdir())
