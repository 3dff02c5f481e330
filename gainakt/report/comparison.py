"""The report of several runs, or of groups of runs: beside one another on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from gainakt.errors import ExperimentError
from gainakt.evaluation.calibration import Calibration
from gainakt.evaluation.significance import (
    Difference,
    Scored,
    Summary,
    paired_over_parts,
    parts_in_common,
    summarise_runs,
)
from gainakt.experiment.compare import differing_settings
from gainakt.experiment.groups import find_group
from gainakt.record.folder import COMPARISON_PAGE, RunFolder
from gainakt.report import words
from gainakt.report.curves import Line, epoch_curves
from gainakt.report.drawing import DASHES, NAMES, SERIES
from gainakt.report.layout import Panel, Section, Table, write_page
from gainakt.report.material import Material, Split, read_run
from gainakt.report.quality import calibration_figure, reliability, roc, roc_figure

# More than this and colours and dashes repeat.
MOST_SERIES = len(SERIES) * len(DASHES)
# A group of more runs than this is drawn in one colour.
MOST_APART = 8
SAMPLES = 1000
# The AUC of which split has which name.
SPLITS = {"val_auc": "valid", "test_auc": "test"}


@dataclass(frozen=True, eq=False)
class Series:
    """What is drawn in one colour: a run, or a group of runs, under a letter."""

    letter: str
    name: str
    runs: list[Material]

    @property
    def colour(self) -> str:
        """The name of its colour in the style sheet."""
        return NAMES[SERIES[ascii_uppercase.index(self.letter) % len(SERIES)]]


def write_comparison(folders: Sequence[RunFolder], path: Path | None = None) -> Path:
    """Write one page on several runs or groups, its figures and numbers beside it.

    Args:
        folders: runs, or parent folders of runs, such as `gainakt crossval` makes.
        path: of the HTML file; report.html in the folder of a single group, else comparison.html.

    Raises:
        ExperimentError: a folder is damaged, or there are too many.
    """
    groups = [find_group(folder) for folder in folders]
    series = _series([(group.name, group.runs) for group in groups])
    runs = [run for one in series for run in one.runs]
    split = _common_split(runs)
    rows = [_figures(one, run, split) for one in series for run in one.runs]
    settings = _settings(series)
    tables = [Table("runs", [{k: v for k, v in row.items() if k != "checks"} for row in rows])]
    if settings:
        tables.append(Table("settings", settings))
    # runs that belong together are a sample, not rivals
    together = len(folders) == 1
    values = {
        "words": words,
        "series": series,
        "rows": rows,
        "columns": _columns(rows),
        "settings": settings,
        "summaries": _summaries([None] if together else series, series, rows),
        "differences": [] if together else _differences(series, split),
        "split": split,
        "failed": [run for run in runs if not all(check.passed for check in run.checks)],
    }
    target = path or (folders[0].report if together else Path(COMPARISON_PAGE))
    sections = [_curves(series), _predictions(series, split)]
    return write_page(target, "comparison.html.jinja", sections, tables, values)


def _series(groups: Sequence[tuple[str, list[RunFolder]]]) -> list[Series]:
    if len(groups) == 1 and len(groups[0][1]) <= MOST_APART:
        groups = [(run.path.name, [run]) for run in groups[0][1]]
    if len(groups) > MOST_SERIES:
        raise ExperimentError(
            f"{len(groups)} runs cannot be told apart on one page; at most {MOST_SERIES} can"
        )
    return [
        Series(letter, name, [read_run(run, ask=False) for run in runs])
        for letter, (name, runs) in zip(ascii_uppercase, groups, strict=False)
    ]


def _common_split(runs: Sequence[Material]) -> str | None:
    """The split to compare predictions on: test where every run has it, else validation."""
    for name in ("test", "valid"):
        if all(_split(run, name) is not None for run in runs):
            return name
    return None


def _split(run: Material, name: str) -> Split | None:
    return run.test if name == "test" else run.valid


def _compared(run: Material, name: str) -> Split:
    split = _split(run, name)
    assert split is not None
    return split


def _figures(one: Series, run: Material, split: str | None) -> dict[str, Any]:
    """One row of the table of runs; None where a run does not say it."""
    best, consistency = run.results["best"], run.results.get("consistency") or {}
    found: dict[str, Any] = {
        "letter": one.letter,
        "run": run.folder.path.name,
        "model": run.model,
        "data": run.data["name"],
        "best_epoch": best["epoch"],
        "val_auc": best["val_auc"],
        "val_accuracy": best["val_accuracy"],
        "test_auc": run.test.metrics["auc"] if run.test else None,
        "test_accuracy": run.test.metrics["accuracy"] if run.test else None,
        "calibration_error": None,
        "mastery_correlation": consistency.get("mastery_correlation"),
        "clock_correlation": consistency.get("clock_correlation"),
        "checks": f"{sum(c.passed for c in run.checks)} of {len(run.checks)}",
    }
    if split is not None:
        compared = _compared(run, split)
        calibration = Calibration(compared.answer, compared.probability)
        error = calibration.corrected(compared.student, SAMPLES, seed=0)
        found["calibration_error"] = error.value
    return found


TITLES = {
    "best_epoch": "Best epoch",
    "val_auc": "Validation AUC",
    "val_accuracy": "Validation accuracy",
    "test_auc": "Test AUC",
    "test_accuracy": "Test accuracy",
    "calibration_error": "Calibration error",
    "mastery_correlation": "Mastery correlation",
    "clock_correlation": "Clock correlation",
}


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns that any run has a figure in."""
    return {n: title for n, title in TITLES.items() if any(row[n] is not None for row in rows)}


def _summaries(
    groups: Sequence[Series | None], series: Sequence[Series], rows: Sequence[dict[str, Any]]
) -> list[tuple[Series | None, str, Summary]]:
    """Mean and spreads of the figures of each group of several runs; None stands for all runs."""
    found = []
    for group in groups:
        mine = [row for row in rows if group is None or row["letter"] == group.letter]
        runs = [run for one in series if group in (None, one) for run in one.runs]
        for name in ("val_auc", "val_accuracy", "test_auc", "test_accuracy"):
            values = [row[name] for row in mine]
            if len(values) > 1 and None not in values:
                splits = [_split(run, SPLITS[name]) for run in runs] if name in SPLITS else []
                tested = [_tested(split) for split in splits if split is not None]
                of_all = len(tested) == len(values)
                summary = summarise_runs(values, tested if of_all else ())
                found.append((group, TITLES[name], summary))
    return found


def _settings(series: Sequence[Series]) -> list[dict[str, str]]:
    """What differs in how the runs were made: a row for each setting, a column for each letter."""
    differing = differing_settings([run.folder for one in series for run in one.runs])
    ends = np.cumsum([len(one.runs) for one in series]).tolist()
    rows = []
    for name, values in differing.items():
        row = {"setting": name}
        for one, begin, end in zip(series, [0, *ends], ends, strict=False):
            distinct = dict.fromkeys(words.setting(value) for value in values[begin:end])
            row[one.letter] = ", ".join(distinct)
        rows.append(row)
    return rows


def _differences(series: Sequence[Series], split: str | None) -> list[str]:
    """Say of each series after the first whether its AUC differs, on the same answers."""
    if split is None or len(series) < 2:
        return []
    first, *others = series
    return [_difference(first, one, split) for one in others]


def _difference(first: Series, other: Series, split: str) -> str:
    of_first, of_other = (
        [_tested(_compared(run, split)) for run in one.runs] for one in (first, other)
    )
    parts = parts_in_common(of_other, of_first)
    if not parts:
        return (
            f"{other.letter} and {first.letter} were not evaluated on the same answers, so their "
            "figures can only be put side by side."
        )
    found = paired_over_parts(parts, SAMPLES)
    return _said(found, first.letter, other.letter, words.OF_SPLIT[split])


def _said(d: Difference, first: str, other: str, split: str) -> str:
    interval = f"95% interval {words.signed(d.low, '.4f')} to {words.signed(d.high, '.4f')}"
    if d.low <= 0 <= d.high:
        verdict = "no difference is shown"
    else:
        verdict = f"{other} is {'better' if d.difference > 0 else 'worse'}, by more than chance"
    return (
        f"{split.capitalize()} AUC of {other} minus that of {first}: "
        f"{words.signed(d.difference, '.4f')} ({interval}; paired bootstrap over "
        f"{words.counted(d.students, 'student')}): {verdict}."
    )


def _tested(split: Split) -> Scored:
    return Scored.of({name: getattr(split, name) for name in Scored.COLUMNS})


def _label(one: Series, run: Material) -> str:
    return one.letter if len(one.runs) == 1 else f"{one.letter}, {run.folder.path.name}"


def _curves(series: Sequence[Series]) -> Section:
    panels = []
    for column, title in (("val_auc", "Validation AUC"), ("val_loss", "Validation loss")):
        lines = [
            Line(one.letter, run.epochs, column, _label(one, run))
            for one in series
            for run in one.runs
        ]
        rows = [
            {"of": line.run, "epoch": int(row["epoch"] or 0), column: row[column]}
            for line in lines
            for row in line.rows
        ]
        caption = _best_epochs(series) if column == "val_auc" else "Log loss: lower is better."
        panels.append(Panel(column, f"{title} by epoch", caption, epoch_curves(lines, title), rows))
    return Section("training", "How training went", panels)


def _best_epochs(series: Sequence[Series]) -> str:
    said = []
    for one in series:
        epochs = sorted({run.results["best_epoch"] for run in one.runs})
        said.append(f"{one.letter} after epoch {words.listed([str(e) for e in epochs])}")
    return f"Best: {'; '.join(said)}."


def _predictions(series: Sequence[Series], split: str | None) -> Section:
    title = "Do the probabilities mean what they say?"
    if split is None:
        return Section(
            "predictions", title, note="There is no split that every run has predictions of."
        )
    named = [
        (one.letter, _compared(run, split), _label(one, run)) for one in series for run in one.runs
    ]
    whose = f"Of {words.OF_SPLIT[split]} students."
    curves, corners = ([make(*each) for each in named] for make in (reliability, roc))
    panels = [
        Panel(
            "calibration",
            "Calibration",
            f"{whose} On the dashed line, “70%” would come true in 70% of the cases.",
            calibration_figure(curves),
            [row for curve in curves for row in curve.rows()],
        ),
        Panel(
            "roc",
            "ROC curve",
            f"{whose} The further a curve lies above the dashed line, the better it tells right "
            "from wrong answers.",
            roc_figure(corners),
            [row for curve in corners for row in curve.rows()],
        ),
    ]
    return Section("predictions", title, panels)
