"""A leaderboard as text: for a terminal, a page, a paper and a spreadsheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gainakt.experiment.compare import as_csv, as_markdown
from gainakt.experiment.leaderboard import Column, Row, as_records, columns_of, in_a_line

# The columns that are figures stand to the right, so that their digits stand under one another.
_WORDS = ("data", "model", "settings", "remarks")
# What a paper has no room for, unless it is all there is to say.
_NOT_IN_A_PAPER = ("remarks", "seconds", "val_auc")
_LATEX = {
    "±": r"$\pm$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal: a block for each data set, remarks under it."""
    blocks = []
    for data in dict.fromkeys(row.data for row in rows):
        mine = [row for row in rows if row.data == data]
        columns = [c for c in columns_of(mine) if c.key not in ("data", "remarks")]
        lines = _aligned([[c.heading for c in columns], *_cells(columns, mine)], columns)
        lines.insert(1, "-" * max(map(len, lines)))
        remarks = [f"{_name(row)}: {row.remarks}" for row in mine if row.remarks]
        blocks.append("\n".join([data, *lines, *remarks]))
    return "\n\n".join([*blocks, in_a_line(rows)]) + "\n"


def _name(row: Row) -> str:
    return f"{row.model} ({row.settings})" if row.settings else row.model


def _cells(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    return [[column.text(row) or "-" for column in columns] for row in rows]


def _aligned(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if column.key in _WORDS else text.rjust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]


def as_markdown_table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown, the best of each data set in bold."""
    columns = columns_of(rows)
    return as_markdown(
        [
            {
                column.title: f"**{text}**"
                if row.is_best and column.key in ("model", "auc")
                else text.replace("|", r"\|")
                for column in columns
                for text in [column.text(row)]
            }
            for row in rows
        ]
    )


def as_csv_table(rows: Sequence[Row]) -> str:
    """Return every value in full precision, under the columns' keys."""
    records = as_records(rows)
    return as_csv([record | {"folders": " ".join(record["folders"])} for record in records])


def as_latex(rows: Sequence[Row]) -> str:
    """Return the table for a paper; it needs the package booktabs.

    Data sets are parted by a rule, the best of each is bold. What is not finished is left out, and
    a comment says so.
    """
    shown = [row for row in rows if row.auc is not None]
    left_out = [
        f"% left out: {_name(row)} on {row.data}: {row.remarks}" for row in rows if not row.auc
    ]
    columns = [c for c in columns_of(shown) if c.key not in _NOT_IN_A_PAPER]
    if not columns:
        return "\n".join(["% no model was evaluated on test students", *left_out]) + "\n"
    placed = "".join("l" if column.key in _WORDS else "r" for column in columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        *left_out,
        rf"\begin{{tabular}}{{{placed}}}",
        r"\toprule",
        " & ".join(latex(column.heading) for column in columns) + r" \\",
    ]
    before = None
    for row in shown:
        if row.data != before:
            lines.append(r"\midrule")
            before = row.data
        cells = [_latex_cell(column, row) for column in columns]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex(text: str) -> str:
    """Return text as LaTeX sets it, whatever is in it."""
    return "".join(_LATEX.get(c, c if c.isprintable() else "?") for c in text)


def _latex_cell(column: Column, row: Row) -> str:
    text = column.text(row)
    words = column.key in _WORDS
    text = latex(text) if words else text.replace("-", "$-$").replace(" to ", "--")
    return rf"\textbf{{{text}}}" if row.is_best and column.key in ("model", "auc") else text


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "text": as_text,
    "markdown": as_markdown_table,
    "csv": as_csv_table,
    "latex": as_latex,
}
