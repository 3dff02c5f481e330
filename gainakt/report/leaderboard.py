"""The leaderboard as one page that needs no network; a click on a heading sorts by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gainakt.experiment.leaderboard import Row, as_records, columns_of, in_a_line
from gainakt.report import words
from gainakt.report.layout import Table, write_page

_WORDS = ("data", "model", "settings", "remarks")


def write_leaderboard(rows: Sequence[Row], path: Path) -> Path:
    """Write the page, and its numbers as CSV into a folder beside it.

    Args:
        rows: of the leaderboard.
        path: of the HTML file.

    Raises:
        ExperimentError: the place cannot be written.
    """
    records = [record | {"folders": " ".join(record["folders"])} for record in as_records(rows)]
    columns = columns_of(rows)
    of_data: dict[str, list[Row]] = {}
    for row in rows:
        of_data.setdefault(row.data, []).append(row)
    values = {
        "words": words,
        "lead": in_a_line(rows),
        "columns": [column for column in columns if column.key != "data"],
        "texts": _WORDS,
        "of_data": of_data,
        "differences": [said for row in rows if (said := _difference(row, rows))],
    }
    return write_page(path, "leaderboard.html.jinja", [], [Table("leaderboard", records)], values)


def _difference(row: Row, rows: Sequence[Row]) -> str | None:
    """Say whether the model behind the best is so by more than chance."""
    d = row.against_best
    if d is None or row.p_corrected is None:
        return None
    best = next(other for other in rows if other.data == row.data and other.is_best)
    verdict = "more than chance" if row.p_corrected < 0.05 else "no difference is shown"
    return (
        f"{row.data}: {row.model} minus {best.model}: {words.signed(d.difference, '.4f')} "
        f"(95% {words.signed(d.low, '.4f')} to {words.signed(d.high, '.4f')}, corrected p = "
        f"{row.p_corrected:.3f}; {words.counted(d.students, 'student')}): {verdict}."
    )
