"""Groups of runs: summaries with both spreads, and each group against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gainakt.errors import ExperimentError
from gainakt.evaluation.significance import (
    Difference,
    Scored,
    Summary,
    paired_over_parts,
    parts_in_common,
    summarise_runs,
)
from gainakt.experiment.compare import read_predictions
from gainakt.record.folder import RunFolder, read_json

NO_TEST = "no runs of both predicted the same answers"


@dataclass(frozen=True)
class GroupedRuns:
    """Runs that belong together: the folds and seeds of one experiment, or a single run."""

    name: str
    runs: list[RunFolder]
    single: bool = False


def find_group(path: RunFolder) -> GroupedRuns:
    """Return the runs at a path: the run itself, or the finished runs in a parent folder.

    Raises:
        ExperimentError: there are none.
    """
    if path.config.is_file():
        return GroupedRuns(path.path.name, [path], single=True)
    inside = sorted(p.parent for p in path.path.glob("*/config.json"))
    runs = [run for run in map(RunFolder, inside) if run.is_completed()]
    if not runs:
        raise ExperimentError(f"{path.path}: neither an experiment folder nor a folder of them")
    return GroupedRuns(path.path.name, runs)


@dataclass(frozen=True)
class GroupComparison:
    """Several groups of runs: a summary of each metric, and each group against the first."""

    summaries: list[tuple[str, str, Summary]]
    against_first: list[tuple[str, Difference | None]]

    def table(self) -> list[dict[str, Any]]:
        """Return one row a group and metric, for CSV and Markdown."""
        return [
            {"group": name, "metric": metric, **asdict(summary)}
            for name, metric, summary in self.summaries
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "summaries": self.table(),
            "test_auc_against_first": [
                {"group": name, **(asdict(d) if d else {"not_tested": NO_TEST})}
                for name, d in self.against_first
            ],
        }

    def text(self) -> str:
        """Return the comparison for people."""
        lines = []
        for name, metric, s in self.summaries:
            lines.append(f"{name}  {metric}  {s.text()}")
        for name, d in self.against_first:
            if d is None:
                lines.append(f"no test of {name} against the first: {NO_TEST}")
                continue
            lines.append(
                f"test AUC of {name} minus the first: {d.difference:+.5f}  "
                f"95% [{d.low:+.5f}, {d.high:+.5f}]  p = {d.p:.4f}  "
                f"(paired bootstrap over {d.students:,} students)"
            )
        return "\n".join(lines)


_GROUP_METRICS = ("val_auc", "val_accuracy", "test_auc", "test_accuracy")


def compare_groups(groups: Sequence[GroupedRuns], samples: int = 1000) -> GroupComparison:
    """Summarise groups of runs, and compare test predictions with the first group's.

    Groups are compared where runs of both predicted the same test answers
    (`gainakt evaluate RUN --split test`), rotated folds fold by fold.
    """
    predictions = [scored_by(group.runs, "test") for group in groups]
    summaries = []
    for group, tested in zip(groups, predictions, strict=True):
        figures = [headline_figures(run) for run in group.runs]
        for metric in _GROUP_METRICS:
            values = [value for f in figures if (value := f.get(metric)) is not None]
            if values:
                of_auc = metric == "test_auc" and len(tested) == len(values)
                summary = summarise_runs(values, tested if of_auc else ())
                summaries.append((group.name, metric, summary))
    against: list[tuple[str, Difference | None]] = []
    for group, tested in zip(groups[1:], predictions[1:], strict=True):
        parts = parts_in_common(tested, predictions[0])
        against.append((group.name, paired_over_parts(parts, samples) if parts else None))
    return GroupComparison(summaries, against)


def headline_figures(run: RunFolder) -> dict[str, float | None]:
    """Return a run's figures to summarise: of its best epoch, and on test students if evaluated."""
    best = read_json(run.results)["best"] or {}
    figures = {"val_auc": best.get("val_auc"), "val_accuracy": best.get("val_accuracy")}
    test = run.current(run.evaluation("test"))
    if test is not None:
        figures |= {"test_auc": test["auc"], "test_accuracy": test["accuracy"]}
    return figures


def scored_by(runs: Sequence[RunFolder], split: str) -> list[Scored]:
    """Return what each run predicted of a split, of those that evaluated it."""
    paths = [run.current_predictions(split) for run in runs]
    return [read_predictions(path) for path in paths if path is not None]
