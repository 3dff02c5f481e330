"""One table of many trainings: a row for each model on each data set, beside the best of its data.

Every statistic comes from `gainakt.evaluation.significance`; this puts them into rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gainakt.evaluation.calibration import Calibration
from gainakt.evaluation.significance import (
    Difference,
    Scored,
    Summary,
    holm,
    paired_over_parts,
    parts_in_common,
    summarise_runs,
)
from gainakt.experiment.compare import read_predictions
from gainakt.experiment.entries import Entry
from gainakt.words import counted

SAMPLES = 1000
# Of m comparisons none could have a corrected p under .05 with fewer than 40 m resamples.
ENOUGH_FOR_EACH = 40


@dataclass(frozen=True)
class Row:
    """A model on a data set: its trainings summarised.

    entries: all its trainings, finished or not. auc: of those that were evaluated, None without.
    figures: means over them. against_best: its AUC minus that of the best row on the same data,
    None for the best row itself, and where the two were not tested on the same answers.
    p_corrected: of that difference, for all comparisons on the data set (Holm).
    """

    data: str
    model: str
    settings: str
    entries: tuple[Entry, ...]
    auc: Summary | None
    figures: Mapping[str, float]
    is_best: bool = False
    against_best: Difference | None = None
    p_corrected: float | None = None

    @property
    def evaluated(self) -> list[Entry]:
        """The trainings that have figures of test students."""
        return [entry for entry in self.entries if entry.problem is None]

    @property
    def remarks(self) -> str:
        """What is missing, and why; nothing where everything is there."""
        problems: dict[str, int] = {}
        for entry in self.entries:
            if entry.problem is not None:
                problems[entry.problem] = problems.get(entry.problem, 0) + 1
        said = [why if len(self.entries) == 1 else f"{n} {why}" for why, n in problems.items()]
        if self.auc and not self.is_best and self.against_best is None:
            said.append("not compared: no training of the best predicted the same answers")
        return "; ".join(said)


def leaderboard(
    entries: Sequence[Entry],
    samples: int = SAMPLES,
    say: Callable[[str], object] = lambda line: None,
) -> list[Row]:
    """Return a row for each model on each data set, the best first within a data set.

    Args:
        entries: trainings; those of one key on one data set are one row.
        samples: resamples of students behind each paired difference.
        say: is told what takes time.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.data_sha256, entry.key), []).append(entry)
    rows: list[Row] = []
    for sha256 in dict.fromkeys(entry.data_sha256 for entry in entries):
        mine = [members for (data, _), members in groups.items() if data == sha256]
        rows += _of_data_set(_data_name(mine[0][0], entries), mine, samples, say)
    return rows


def _data_name(entry: Entry, entries: Sequence[Entry]) -> str:
    """A data set's name, with some of its hash where another one has the same."""
    alike = {other.data_sha256 for other in entries if other.data == entry.data}
    return entry.data if len(alike) == 1 else f"{entry.data} ({entry.data_sha256[:6]})"


def _of_data_set(
    data: str,
    groups: Sequence[Sequence[Entry]],
    samples: int,
    say: Callable[[str], object],
) -> list[Row]:
    names = _what_tells_apart([group[0] for group in groups])
    tested = [
        [read_predictions(e.predictions) for e in group if e.predictions is not None]
        for group in groups
    ]
    rows = [
        _row(data, group, name, scored)
        for group, name, scored in zip(groups, names, tested, strict=True)
    ]
    means = [row.auc.mean if row.auc else -1.0 for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -means[i])
    first = order[0]
    if rows[first].auc is None:
        return [rows[i] for i in order]
    rows[first] = replace(rows[first], is_best=True)
    common = {i: parts_in_common(tested[i], tested[first]) for i in order[1:] if tested[i]}
    common = {i: parts for i, parts in common.items() if parts}
    samples = max(samples, ENOUGH_FOR_EACH * len(common))
    differences = {}
    for i, parts in common.items():
        say(f"{data}: {rows[i].model} beside {rows[first].model}, {samples:,} resamples")
        differences[i] = paired_over_parts(parts, samples)
    corrected = holm([difference.p for difference in differences.values()])
    for (i, difference), p in zip(differences.items(), corrected, strict=True):
        rows[i] = replace(rows[i], against_best=difference, p_corrected=p)
    return [rows[i] for i in order]


def _row(data: str, group: Sequence[Entry], settings: str, tested: Sequence[Scored]) -> Row:
    done = [entry for entry in group if entry.problem is None and "auc" in entry.figures]
    names = dict.fromkeys(name for entry in group for name in entry.figures)
    figures = {}
    for name in names:
        of = [entry.figures[name] for entry in group if name in entry.figures]
        figures[name] = sum(of) / len(of)
    if tested and len(tested) == len(done):
        errors = [
            Calibration(run.answer, run.probability).corrected(run.student, SAMPLES, seed=0).value
            for run in tested
        ]
        figures["calibration_error"] = sum(errors) / len(errors)
    auc = None
    if done:
        values = [entry.figures["auc"] for entry in done]
        auc = summarise_runs(values, tested if len(tested) == len(done) else ())
    return Row(data, group[0].model, settings, tuple(group), auc, figures)


def _what_tells_apart(entries: Sequence[Entry]) -> list[str]:
    """Say of each of several models in which parameters it differs from others of its name."""
    found = []
    for entry in entries:
        namesakes = [other for other in entries if other.model == entry.model]
        differing = [
            name
            for name, value in entry.settings.items()
            if any(other.settings.get(name) != value for other in namesakes)
        ]
        found.append(", ".join(f"{name} {_spelt(entry.settings[name])}" for name in differing))
    return found


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Column:
    """A column of the table: how it is called, what is in it, and how it is written.

    value: a number, two that are the bounds of an interval, a word, or None. short: the heading
    where there is little room, digits: decimals of a number.
    """

    key: str
    title: str
    value: Callable[[Row], Any]
    short: str = ""
    digits: int = 4

    @property
    def heading(self) -> str:
        """The heading where there is little room."""
        return self.short or self.title

    def text(self, row: Row) -> str:
        """Return the cell as text, empty where there is nothing."""
        value = self.value(row)
        if isinstance(value, tuple):
            return " to ".join(f"{bound:.{self.digits}f}" for bound in value)
        if isinstance(value, float):
            return f"{value:.{self.digits}f}"
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    def plain(self, row: Row) -> dict[str, Any]:
        """Return the cell as plain values by name, the bounds of an interval apart."""
        value = self.value(row)
        if self.key.endswith("interval"):
            low, high = value or (None, None)
            return {f"{self.key}_low": low, f"{self.key}_high": high}
        return {self.key: value}


def _figure(name: str) -> Callable[[Row], Any]:
    return lambda row: row.figures.get(name)


def _whole(name: str) -> Callable[[Row], Any]:
    return lambda row: round(row.figures[name]) if name in row.figures else None


def _of_auc(name: str) -> Callable[[Row], Any]:
    return lambda row: getattr(row.auc, name) if row.auc else None


def _over_students(row: Row) -> tuple[float, float] | None:
    if row.auc is None or row.auc.students_low is None or row.auc.students_high is None:
        return None
    return row.auc.students_low, row.auc.students_high


def _lead(row: Row) -> float | None:
    return row.against_best.difference if row.against_best else None


def _behind(row: Row) -> tuple[float, float] | None:
    return (row.against_best.low, row.against_best.high) if row.against_best else None


def _distinct(name: str) -> Callable[[Row], Any]:
    return lambda row: len({getattr(e, name) for e in row.evaluated}) or None


# A further column is a line here.
COLUMNS = (
    Column("data", "Data", lambda row: row.data),
    Column("model", "Model", lambda row: row.model),
    Column("settings", "Settings", lambda row: row.settings or None),
    Column("auc", "AUC", _of_auc("mean")),
    Column("auc_std", "± over trainings", _of_auc("std"), "±"),
    Column("auc_interval", "95% over students", _over_students, "95%"),
    Column("accuracy", "Accuracy", _figure("accuracy"), "Acc."),
    Column("log_loss", "Log loss", _figure("log_loss")),
    Column("calibration_error", "Calibration error", _figure("calibration_error"), "ECE"),
    Column("question_auc", "AUC of questions", _figure("question_auc"), "AUC (questions)"),
    Column("question_accuracy", "Accuracy of questions", _figure("question_accuracy"), "Acc. (q.)"),
    Column("within_student", "AUC within students", _figure("within_student"), "in students"),
    Column("within_skill", "AUC within skills", _figure("within_skill"), "in skills"),
    Column("within_student_skill", "AUC within both", _figure("within_student_skill"), "in both"),
    Column("difference", "Against the best", _lead, "vs. best"),
    Column("difference_interval", "95% of that", _behind, "95%"),
    Column("p", "p (Holm)", lambda row: row.p_corrected),
    Column("val_auc", "Validation AUC", _figure("val_auc"), "Val. AUC"),
    Column("parameters", "Parameters", _whole("parameters"), "Par."),
    Column("seconds", "Seconds", _figure("seconds"), "s", digits=0),
    Column("trainings", "Trainings", lambda row: len(row.evaluated) or None, "Tr."),
    Column("folds", "Folds", _distinct("fold")),
    Column("seeds", "Seeds", _distinct("seed")),
    Column("remarks", "Remarks", lambda row: row.remarks or None),
)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that any row has something in."""
    return [c for c in COLUMNS if any(c.value(row) is not None for row in rows)]


def as_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain values by the columns' keys, and the folders behind each."""
    columns = columns_of(rows)
    return [
        {name: value for column in columns for name, value in column.plain(row).items()}
        | {"best": row.is_best, "folders": [str(entry.folder) for entry in row.entries]}
        for row in rows
    ]


def in_a_line(rows: Sequence[Row]) -> str:
    """Say how much there is in a table."""
    trainings = sum(len(row.entries) for row in rows)
    data = len({row.data for row in rows})
    return (
        f"{counted(len(rows), 'model')} on {counted(data, 'data set')}, "
        f"{counted(trainings, 'training')}"
    )
