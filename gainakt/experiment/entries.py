"""What a leaderboard is made of: each training of each model, found in folders at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gainakt.config import FILLED_BY_RUN, Config, flatten
from gainakt.errors import ExperimentError, GainaktError
from gainakt.experiment.cells import CELLS, Cell, Planned, common_hash
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.external import ExternalFolder
from gainakt.record.folder import COMPLETED, RunFolder, read_json
from gainakt.record.records import recorded_config

# What may differ between trainings of one model, and what says nothing of it.
_NOT_OF_THE_MODEL = {
    *FILLED_BY_RUN,
    *("short_title", "purpose", "seed", "primary", "all", "fold", "test_fold", "dataset"),
    *("threads", "devices", "monitor_freq", "bootstrap_samples"),
}
NOT_EVALUATED = "not evaluated on test students"
NOT_BEGUN = "not begun"


@dataclass(frozen=True, eq=False)
class Entry:
    """One training of a model, or predictions of another tool.

    key: the same for trainings that differ in fold and seed alone. figures: those there are, by
    name; problem: why it has none of test students. predictions: the table behind them.
    """

    folder: Path
    model: str
    key: str
    data: str
    data_sha256: str
    fold: int
    test_fold: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None
    predictions: Path | None = None

    @property
    def cell(self) -> tuple[str, str, int, int, int]:
        """What no two trainings in a table may share: a repetition is no further measurement."""
        return self.data_sha256, self.key, self.fold, self.test_fold, self.seed


def find_entries(paths: Sequence[Path]) -> list[Entry]:
    """Return the trainings in folders, and in folders within them; each once.

    Of several with the same configuration, data, fold and seed the latest with figures stays.

    Raises:
        ExperimentError: a folder is not there, or there is nothing in them.
    """
    found: dict[tuple[str, str, int, int, int], Entry] = {}
    for path in paths:
        if not path.is_dir():
            raise ExperimentError(f"no folder {path}")
        for entry in _within(path.resolve()):
            before = found.get(entry.cell)
            if before is None or before.problem is not None or entry.problem is None:
                found[entry.cell] = entry
    if not found:
        raise ExperimentError(
            f"{', '.join(map(str, paths))}: no experiment folders in it; `gainakt train`, "
            "`gainakt crossval` and `gainakt benchmark` make them"
        )
    return list(found.values())


def _within(path: Path) -> Iterator[Entry]:
    if (path / "config.json").is_file():
        yield from _of_run(RunFolder(path))
    elif ExternalFolder(path).record.is_file():
        yield _of_external(ExternalFolder(path))
    else:
        inside = [e for child in sorted(path.iterdir()) if child.is_dir() for e in _within(child)]
        yield from _of_cells(path, inside)


def _of_cells(path: Path, inside: list[Entry]) -> Iterator[Entry]:
    """The entries of a folder, with what its list of runs says of those that failed or lack."""
    plan = Planned.read(path / CELLS) if (path / CELLS).is_file() else None
    failed = {c.cell: c.failed for c in plan.cells} if plan else {}
    seen = set()
    for entry in inside:
        cell = Cell(entry.fold, entry.seed, entry.test_fold)
        reason = failed.get(cell)
        seen.add(cell)
        lost = reason is not None and entry.problem is not None
        yield replace(entry, problem=f"failed: {reason}") if lost else entry
    if plan is None:
        return
    for cell, reason in failed.items():
        if cell in seen:
            continue
        yield Entry(
            folder=path,
            model=plan.config.experiment.model,
            key=common_hash(plan.config),
            data=plan.data["name"],
            data_sha256=plan.data["interactions_sha256"],
            fold=cell.fold,
            test_fold=cell.test_fold,
            seed=cell.seed,
            settings=_settings(plan.config),
            problem=f"failed: {reason}" if reason else NOT_BEGUN,
        )


def _settings(config: Config) -> dict[str, Any]:
    named = flatten(config)
    return {name: value for name, value in named.items() if name not in _NOT_OF_THE_MODEL}


def _of_run(run: RunFolder) -> Iterator[Entry]:
    """A run; nothing where it was stopped before its data were recorded."""
    if not run.data.is_file():
        return
    try:
        config = recorded_config(run)
        manifest: dict[str, Any] = read_json(run.data)["manifest"]
        entry = Entry(
            folder=run.path,
            model=config.experiment.model,
            key=common_hash(config),
            data=manifest["name"],
            data_sha256=manifest["interactions_sha256"],
            fold=config.data.fold,
            test_fold=config.data.test_fold,
            seed=config.runtime.seed,
            settings=_settings(config),
        )
    except (LookupError, TypeError) as error:
        raise ExperimentError(f"{run.path}: data.json is damaged: {error}") from None
    except GainaktError as error:
        raise ExperimentError(f"{run.path}: {error}") from None
    try:
        yield _measured(run, entry)
    except GainaktError as error:
        yield replace(entry, problem=f"damaged: {error}")


def _measured(run: RunFolder, entry: Entry) -> Entry:
    """Add a run's figures, or why there are none."""
    results: dict[str, Any] = {"status": "unfinished"}
    if run.results.is_file():
        results = read_json(run.results)
    best = results.get("best") or {}
    figures = {"val_auc": best.get("val_auc"), "val_accuracy": best.get("val_accuracy")}
    problem = None
    if results["status"] != COMPLETED:
        problem = str(results["status"])
    else:
        figures["seconds"] = results.get("seconds", {}).get("total")
        figures["parameters"] = results.get("parameters") or _numbers_kept(run)
        test = run.current(run.evaluation("test"))
        if test is None:
            stale = run.evaluation("test").is_file() and run.stale(run.evaluation("test"))
            problem = stale or NOT_EVALUATED
        else:
            figures |= test_figures(test)
    known = {name: float(value) for name, value in figures.items() if value is not None}
    predictions = run.current_predictions("test") if problem is None else None
    return replace(entry, figures=known, problem=problem, predictions=predictions)


def test_figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of an evaluation that a leaderboard shows."""
    names = ("auc", "accuracy", "log_loss", "question_auc", "question_accuracy")
    figures = {name: metrics.get(name) for name in names}
    if figures["question_auc"] == figures["auc"]:  # where every question has one skill
        figures["question_auc"] = figures["question_accuracy"] = None
    within = metrics.get("within") or {}
    return figures | {f"within_{name}": value["auc"] for name, value in within.items()}


def _numbers_kept(run: RunFolder) -> int | None:
    """How many numbers a learner without gradients has fitted: they lie in its checkpoint."""
    if not run.best.is_file():
        return None
    return sum(weight.numel() for weight in load_checkpoint(run.best).weights.values())


def _of_external(folder: ExternalFolder) -> Entry:
    record = folder.read()
    figures = test_figures(record["metrics"])
    return Entry(
        folder=folder.path,
        model=record["name"],
        key=f"external {record['name']}",
        data=str(record["data"].get("name")),
        data_sha256=str(record["data"].get("interactions_sha256")),
        fold=record["fold"],
        test_fold=record["test_fold"],
        seed=record["seed"],
        figures={name: float(value) for name, value in figures.items() if value is not None},
        predictions=folder.predictions,
    )
