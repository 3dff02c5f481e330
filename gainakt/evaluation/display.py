"""Small HTML tables for notebooks; whatever comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gainakt.evaluation.explanation import ExplainedPrediction, PastAnswer

AGAINST, NEUTRAL, FOR = "#b2182b", "#f7f7f7", "#2166ac"
# A notebook shows so many of the past answers.
ROWS = 20


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


def explanation_html(explained: ExplainedPrediction) -> str:
    """Return a prediction and what it is made of, or what stands beside it, as a coloured table."""
    e = explained
    caption = (
        f"student {e.student}, step {e.step}, skill {e.skill}: probability {e.probability:.4f} of "
        f"a right answer; log-odds {e.logit:+.4f}"
    )
    if e.is_sum:
        return _sum(e, caption)
    names = [name for name in ("gain", "mastery") if getattr(e.past[0], name) is not None]
    if not names:
        return html_table(f"{caption}; this model says no more", [])
    rows = [
        [str(a.step), a.skill, _spelt(a), *(f"{getattr(a, name):.4f}" for name in names)]
        for a in e.past[-ROWS:]
    ]
    beside = f"; {' and '.join(names)} stand beside the prediction and do not explain it"
    return html_table(caption + beside, rows, ("step", "skill", "answer", *names))


def _sum(explained: ExplainedPrediction, caption: str) -> str:
    terms = [(answer, answer.contribution or 0.0) for answer in explained.strongest_first]
    largest = max(abs(value) for _, value in terms) or 1.0
    rows = [["", "", "prior", f"{explained.prior:+.4f}"]]
    rows += [[str(a.step), a.skill, _spelt(a), f"{value:+.4f}"] for a, value in terms[:ROWS]]
    colours = ["", *(_shade(value / largest) for _, value in terms[:ROWS])]
    rest = terms[ROWS:]
    if rest:
        total = sum(value for _, value in rest)
        rows.append(["", "", f"{len(rest)} more answers", f"{total:+.4f}"])
    return html_table(caption, rows, ("step", "skill", "answer", "contribution"), colours)


def _spelt(answer: PastAnswer) -> str:
    return "right" if answer.right else "wrong"


def _shade(share: float) -> str:
    """Blue for what counts for a right answer, red against; the stronger, the fuller."""
    red, green, blue = (int((FOR if share > 0 else AGAINST)[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{0.6 * abs(share):.2f})"
