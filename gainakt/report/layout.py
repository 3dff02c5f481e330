"""From panels to a page: one HTML file, and a folder of its pictures and numbers beside it."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gainakt.errors import ExperimentError
from gainakt.files import write_atomically
from gainakt.record.folder import figures_beside
from gainakt.report import words
from gainakt.report.drawing import Figure, for_page, natural_width, specification
from gainakt.report.pictures import NotDrawn, Picture, draw


@dataclass(frozen=True)
class Table:
    """Numbers as a CSV file of this name."""

    name: str
    rows: Sequence[Mapping[str, Any]]

    @cached_property
    def csv(self) -> str:
        """The rows as CSV."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return buffer.getvalue()

    @property
    def link(self) -> str:
        """An address that holds the whole file, so that a page sent on alone still has it."""
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(self.csv.encode()).decode()


@dataclass(frozen=True)
class Panel:
    """A figure with its title, a caption that says what to see, and its numbers.

    wide: keeps its size and scrolls where the page is narrower. drawn: the picture, once it is.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    wide: bool = False
    drawn: Picture | None = None

    @cached_property
    def picture(self) -> Markup:
        """The picture for the page; its markup is our own, what data say in it is escaped."""
        assert self.drawn is not None
        return Markup(for_page(self.drawn.svg, f"{self.title}. {self.caption}"))

    @property
    def width(self) -> int:
        """Its natural width in pixels."""
        assert self.drawn is not None
        return natural_width(self.drawn.svg)

    @property
    def table(self) -> Table:
        """Its numbers."""
        return Table(self.name, self.rows)


@dataclass(frozen=True)
class Section:
    """A heading with panels under it, and a sentence on what is left out."""

    key: str
    title: str
    panels: Sequence[Panel] = ()
    text: str = ""
    note: str = ""


def write_page(
    path: Path,
    template: str,
    sections: Sequence[Section],
    tables: Sequence[Table],
    values: Mapping[str, Any],
) -> Path:
    """Write a page, and beside it a folder with every figure as PNG and every number as CSV.

    Args:
        path: the HTML file; the folder has its name without the ending.
        template: of this package.
        sections: with the panels to draw.
        tables: numbers that the page shows without a figure.
        values: what the template asks for besides.

    Raises:
        ExperimentError: the place cannot be written.
    """
    sections = _drawn(sections)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": words.number, "percent": words.percent}
    html = environment.get_template(template).render(
        sections={section.key: section for section in sections},
        tables={table.name: table for table in tables},
        figures=figures_beside(path).name,
        **values,
    )
    panels = [panel for section in sections for panel in section.panels]
    folder = figures_beside(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"cannot make {folder}: {error.strerror or error}") from None
    for panel in panels:
        assert panel.drawn is not None
        write_atomically(folder / f"{panel.name}.png", panel.drawn.png)
    for table in [*(panel.table for panel in panels), *tables]:
        write_atomically(folder / f"{table.name}.csv", table.csv.encode())
    write_atomically(path, html.encode())
    return path


def _drawn(sections: Sequence[Section]) -> list[Section]:
    """Draw every panel; one that cannot be drawn leaves, and a note says why."""
    figures = [specification(panel.figure) for section in sections for panel in section.panels]
    pictures = iter(draw(figures))
    done = []
    for section in sections:
        panels, notes = [], [section.note] if section.note else []
        for panel, picture in zip(section.panels, pictures, strict=False):
            if isinstance(picture, NotDrawn):
                notes.append(f"{panel.title}: this figure could not be drawn ({picture.reason}).")
            else:
                panels.append(replace(panel, drawn=picture))
        done.append(replace(section, panels=panels, note=" ".join(notes)))
    return done
