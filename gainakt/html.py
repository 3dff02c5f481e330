"""Small HTML tables for notebooks; whatever comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    caption: str,
    rows: Iterable[Sequence[str]],
    header: Sequence[str] = (),
    colours: Sequence[str] = (),
) -> str:
    """Return a table as HTML.

    Args:
        caption: above the table.
        rows: cells as plain text.
        header: titles of the columns.
        colours: background of each row's last cell, empty for none.
    """
    lines = ["<table>", f"<caption>{escape(caption)}</caption>"]
    if header:
        titles = "".join(f"<th>{escape(title)}</th>" for title in header)
        lines.append(f"<thead><tr>{titles}</tr></thead>")
    lines.append("<tbody>")
    for number, row in enumerate(rows):
        colour = colours[number] if number < len(colours) else ""
        style = f' style="background:{colour};color:black"' if colour else ""
        *cells, last = (escape(cell) for cell in row)
        lines.append(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + f"<td{style}>{last}</td></tr>"
        )
    return "\n".join([*lines, "</tbody>", "</table>"])
