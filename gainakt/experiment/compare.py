"""Two runs compared, metric by metric."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gainakt.config import FILLED_BY_RUN, flatten
from gainakt.errors import ExperimentError
from gainakt.evaluation.significance import Scored
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.folder import RunFolder, read_json
from gainakt.record.records import recorded_config

DEFAULT_TOLERANCE = 1e-4
# What `gainakt evaluate` may have scored.
SPLITS = ("valid", "test")
# What holds by the model's structure must hold exactly.
STRUCTURAL = ("monotonicity_violation_rate", "negative_gain_rate", "bounds_violation_rate")


class Verdict(StrEnum):
    """The outcome for a value, and for a whole comparison: its worst value."""

    IDENTICAL = "IDENTICAL"
    WITHIN = "WITHIN TOLERANCE"
    DIFFERENT = "DIFFERENT"


@dataclass(frozen=True)
class Value:
    """One metric of one epoch (0: of the finished run) in both runs, and how they compare."""

    epoch: int
    metric: str
    a: float | None
    b: float | None
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        """Whether the two agree."""
        if self.a == self.b:
            return Verdict.IDENTICAL
        if self.a is None or self.b is None or not abs(self.a - self.b) <= self.tolerance:
            return Verdict.DIFFERENT
        return Verdict.WITHIN


@dataclass(frozen=True)
class Comparison:
    """Two runs compared: every value, and what differs in how they were made."""

    a: str
    b: str
    values: list[Value]
    settings: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]

    @property
    def verdict(self) -> Verdict:
        """The worst of the values' verdicts."""
        found = {value.verdict for value in self.values}
        return next(v for v in (Verdict.DIFFERENT, Verdict.WITHIN, Verdict.IDENTICAL) if v in found)

    @property
    def parted(self) -> Value | None:
        """The first value outside its tolerance, None when there is none."""
        return next((v for v in self.values if v.verdict is Verdict.DIFFERENT), None)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        parted = self.parted
        return {
            "a": self.a,
            "b": self.b,
            "verdict": str(self.verdict),
            "first_difference": asdict(parted) if parted else None,
            "settings": self.settings,
            "environment": self.environment,
            "values": [{**asdict(v), "verdict": str(v.verdict)} for v in self.values],
        }

    def text(self) -> str:
        """Return the comparison for people."""
        counts = {v: sum(value.verdict is v for value in self.values) for v in Verdict}
        lines = [
            f"A: {self.a}",
            f"B: {self.b}",
            f"{len(self.values)} values: {counts[Verdict.IDENTICAL]} identical, "
            f"{counts[Verdict.WITHIN]} within tolerance, {counts[Verdict.DIFFERENT]} outside",
        ]
        if self.parted:
            v = self.parted
            where = f"epoch {v.epoch}" if v.epoch else "the finished run"
            lines.append(
                f"first difference: {where}, {v.metric}: {v.a} and {v.b} "
                f"(tolerance {v.tolerance:g})"
            )
        for title, differing in (("settings", self.settings), ("environment", self.environment)):
            for name, (a, b) in differing.items():
                lines.append(f"{title} differ: {name}: {_short(a)} and {_short(b)}")
        lines.append(f"verdict: {self.verdict}")
        return "\n".join(lines)

    def table(self) -> list[dict[str, Any]]:
        """Return one row a value, for CSV and Markdown."""
        return [{**asdict(v), "verdict": str(v.verdict)} for v in self.values]


def parse_tolerances(words: Sequence[str]) -> dict[str, float]:
    """Read `1e-3` (for every metric, under "") and `val_auc=1e-3` (for one).

    Raises:
        ExperimentError: not a number of at least 0.
    """
    tolerances: dict[str, float] = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not value >= 0:
            raise ExperimentError(
                f"tolerance {word!r}: must be a number of at least 0, or METRIC=NUMBER"
            )
        tolerances[name if equals else ""] = value
    return tolerances


def compare_two(
    a: RunFolder, b: RunFolder, tolerances: Mapping[str, float] | None = None
) -> Comparison:
    """Compare two runs: every metric of every epoch, the final metrics, and the weights.

    Args:
        a, b: experiment folders.
        tolerances: by metric, under "" for all others; see `parse_tolerances`.
    """
    given = dict(tolerances or {})
    names = {row_name for run in (a, b) for row in run.read_metrics() for row_name in row}
    final_a, final_b = _final(a, b)
    names |= set(final_a) | set(final_b) | set(WEIGHTS)
    names |= {f"{split}_predictions_largest_difference" for split in SPLITS}
    unknown = [name for name in given if name and name not in names]
    if unknown:
        raise ExperimentError(
            f"tolerance for {unknown[0]!r}: the runs have no such metric; they have "
            f"{', '.join(sorted(names - {'epoch'}))}"
        )
    values = list(_values(a, b, given))
    return Comparison(
        a.path.name, b.path.name, values, _settings(a, b), environment_differences(a, b)
    )


WEIGHTS: dict[str, Callable[[RunFolder], Path]] = {
    "best_weights_largest_difference": lambda run: run.best,
    "last_weights_largest_difference": lambda run: run.last,
}


def _values(a: RunFolder, b: RunFolder, given: Mapping[str, float]) -> Iterator[Value]:
    def tolerance(metric: str) -> float:
        default = 0.0 if metric in STRUCTURAL else given.get("", DEFAULT_TOLERANCE)
        return given.get(metric, default)

    rows_a, rows_b = a.read_metrics(), b.read_metrics()
    for i in range(max(len(rows_a), len(rows_b))):
        row_a = rows_a[i] if i < len(rows_a) else {}
        row_b = rows_b[i] if i < len(rows_b) else {}
        for metric in row_a or row_b:
            if metric != "epoch":
                of_a, of_b = _parse(row_a.get(metric)), _parse(row_b.get(metric))
                yield Value(i + 1, metric, of_a, of_b, tolerance(metric))
    final_a, final_b = _final(a, b)
    for metric in {**final_a, **final_b}:
        yield Value(0, metric, final_a.get(metric), final_b.get(metric), tolerance(metric))
    for name, which in WEIGHTS.items():
        differing = _largest_weight_difference(which(a), which(b))
        yield Value(0, name, 0.0, differing, tolerance(name))
    for split in SPLITS:
        largest = _largest_prediction_difference(a, b, split)
        if largest is not None:
            name = f"{split}_predictions_largest_difference"
            yield Value(0, name, 0.0, largest, tolerance(name))


def _parse(text: str | None) -> float | None:
    return float(text) if text else None


def _final(*runs: RunFolder) -> list[dict[str, float]]:
    """Return each run's final numbers: of the best checkpoint, and of splits that all evaluated."""
    splits = [s for s in SPLITS if all(run.current(run.evaluation(s)) for run in runs)]
    return [_final_numbers(run, splits) for run in runs]


def _final_numbers(run: RunFolder, splits: Sequence[str]) -> dict[str, float]:
    results = read_json(run.results)
    found = {"best_epoch": results["best_epoch"]}
    for name, value in (results.get("consistency") or {}).items():
        if isinstance(value, int | float):
            found[f"final_{name}"] = value
    for split in splits:
        metrics = run.current(run.evaluation(split)) or {}
        for name in ("auc", "accuracy", "log_loss"):
            found[f"{split}_{name}_window"] = metrics[name]
    return found


def _largest_prediction_difference(a: RunFolder, b: RunFolder, split: str) -> float | None:
    """0 when all stored probabilities agree; None unless both predict the same answers."""
    paths = [run.current_predictions(split) for run in (a, b)]
    if None in paths:
        return None
    of_a, of_b = (read_predictions(path) for path in paths if path)
    if of_a.answers != of_b.answers:
        return None
    return float(np.abs(of_a.probability - of_b.probability).max())


def read_predictions(path: Path) -> Scored:
    """Return what a run predicted, from its table of predictions."""
    table = pq.read_table(path, columns=list(Scored.COLUMNS))
    return Scored.of({name: table[name].to_numpy() for name in table.column_names})


def _largest_weight_difference(a: Path, b: Path) -> float | None:
    """0 when all weights agree to the last bit, None when the models have other shapes."""
    weights_a, weights_b = load_checkpoint(a).weights, load_checkpoint(b).weights
    shapes = [{name: tuple(w.shape) for name, w in x.items()} for x in (weights_a, weights_b)]
    if shapes[0] != shapes[1]:
        return None
    return max(float((weights_a[n] - weights_b[n]).abs().max()) for n in weights_a)


def _settings(a: RunFolder, b: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Parameters and data that differ between two runs."""
    return {name: (values[0], values[1]) for name, values in differing_settings([a, b]).items()}


def differing_settings(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """Return the parameters and data in which runs differ, with each run's value."""
    settings = [flatten(recorded_config(run)) for run in runs]
    about = {*FILLED_BY_RUN, "short_title", "purpose"}
    names = {name: None for of_run in settings for name in of_run if name not in about}
    found = {name: [of_run.get(name) for of_run in settings] for name in names}
    found["data (interactions_sha256)"] = [
        read_json(run.data)["manifest"]["interactions_sha256"] for run in runs
    ]
    return {n: values for n, values in found.items() if any(v != values[0] for v in values)}


def environment_differences(a: RunFolder, b: RunFolder) -> dict[str, tuple[Any, Any]]:
    """Return what differs in code, versions, device, threads and way of stepping of two runs."""
    records = [read_json(run.environment) for run in (a, b)]
    steps = (records[0].get("step"), records[1].get("step"))
    return differences(*records) | ({"step": steps} if steps[0] != steps[1] else {})


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two environment records."""
    keys = ("gainakt", "python", "torch", "cuda", "platform", "processor", "gpu", "device")
    found = {k: (a.get(k), b.get(k)) for k in (*keys, "threads", "deterministic")}
    for key in ("commit", "diff"):
        found[f"git {key}"] = (a["git"].get(key), b["git"].get(key))
    packages = {**a["packages"], **b["packages"]}
    found |= {f"package {p}": (a["packages"].get(p), b["packages"].get(p)) for p in packages}
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(_cell(v) for v in row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(value: Any, limit: int = 60) -> str:
    text = str(value)
    return text if len(text) <= limit else text[:limit] + "..."
