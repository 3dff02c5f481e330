"""Many runs as one experiment: every fold with every seed, in one parent folder with a summary."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gainakt.config import Config
from gainakt.data.interactions import TEST_FOLD, Dataset, load_dataset
from gainakt.errors import ConfigError, ExperimentError
from gainakt.evaluation.significance import Summary, summarise_runs
from gainakt.experiment.cells import (
    METRICS,
    Cell,
    CrossExperiment,
    figures_in_words,
    parent_folder,
)
from gainakt.experiment.compare import as_csv, as_markdown
from gainakt.experiment.console import RunConsole
from gainakt.experiment.groups import headline_figures, scored_by
from gainakt.experiment.stopping import stop_on_interrupt
from gainakt.files import write_atomically
from gainakt.record.folder import read_json, write_json
from gainakt.words import counted

_POLL_SECONDS = 0.2
SPLIT_NAMES = {"val": "valid", "test": "test"}


@dataclass(frozen=True)
class CrossValidation:
    """The summary of an experiment: a row for each run, and each metric over all of them."""

    path: Path
    rows: list[dict[str, Any]]
    summaries: dict[str, Summary]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "folder": str(self.path),
            "runs": self.rows,
            "summary": {name: asdict(summary) for name, summary in self.summaries.items()},
        }

    def text(self) -> str:
        """Return the summary for people, the figure to quote last."""
        lines = [
            f"fold {row['fold']}  seed {row['seed']}  {figures_in_words(row)}" for row in self.rows
        ]
        lines += [f"{name}: {summary.text()}" for name, summary in self.summaries.items()]
        lines.append(f"figure to quote: {self.headline()}")
        return "\n".join(lines)

    def headline(self) -> str:
        """Return the one figure to quote."""
        name = "test_auc" if "test_auc" in self.summaries else "val_auc"
        folds = len({row["fold"] for row in self.rows})
        seeds = len({row["seed"] for row in self.rows})
        return (
            f"{name} over {counted(folds, 'fold')} and {counted(seeds, 'seed')}: "
            f"{self.summaries[name].text()}"
        )


def cross_validate(
    config: Config,
    data: Path,
    out: Path,
    *,
    folds: Sequence[int] | None,
    seeds: Sequence[int] | None,
    jobs: int | None,
    console: RunConsole,
    rotate_test: bool = False,
) -> CrossValidation:
    """Train every fold with every seed in processes of their own, and summarise.

    Args:
        config: what every run has in common.
        data: a prepared data set.
        out: where the parent folder is; the same configuration and data have the same one, so the
            same call goes on where it was stopped.
        folds: to validate on; all of the data set's by default.
        rotate_test: let each of `folds` test in turn, and the one after it validate: for data
            without test students of their own.
        seeds: to train with; `seeds.all` of the configuration by default.
        jobs: runs at a time; by default as many as there are cores, or one on a GPU.
        console: where to report.

    Raises:
        ConfigError: a fold or seed is impossible, or named twice.
        ExperimentError: a run failed; those that finished are kept.
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    experiment = plan(config, data, out, folds=folds, seeds=seeds, rotate_test=rotate_test)
    failed = carry_out([experiment], jobs, console)
    if failed:
        raise ExperimentError(
            f"{len(failed)} of {len(experiment.cells)} runs failed: {'; '.join(failed)}. Mend the "
            "cause and give the same command again; finished runs are kept"
        )
    return summarise_experiment(experiment)


def plan(
    config: Config,
    data: Path,
    out: Path,
    *,
    folds: Sequence[int] | None,
    seeds: Sequence[int] | None,
    rotate_test: bool = False,
) -> CrossExperiment:
    """Make the parent folder of an experiment, with the list of its runs; see `cross_validate`."""
    dataset = load_dataset(data)
    _refuse_repeated(folds=folds or (), seeds=seeds or config.seeds.all)
    cells = [
        Cell(fold, seed, test_fold)
        for seed in (seeds or config.seeds.all)
        for fold, test_fold in _folds(dataset, folds, config.data.test_fold, rotate_test)
    ]
    tests = bool(np.isin(dataset.folds, [cell.test_fold for cell in cells]).any())
    experiment = CrossExperiment(parent_folder(config, dataset, out), config, data, tests, cells)
    experiment.record_cells()
    return experiment


def carry_out(
    experiments: Sequence[CrossExperiment], jobs: int | None, console: RunConsole
) -> list[str]:
    """Carry out every run of experiments that is not finished, in one queue.

    Args:
        experiments: planned ones.
        jobs: runs at a time; see `cross_validate`.
        console: where to report.

    Returns:
        What failed and why; the other runs are finished.

    Raises:
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    settings = [experiment.settings(jobs) for experiment in experiments]
    cells = [(experiment, cell) for experiment in experiments for cell in experiment.cells]
    waiting = [(experiment, cell) for experiment, cell in cells if not experiment.is_done(cell)]
    where = " and ".join(dict.fromkeys(str(experiment.parent) for experiment in experiments[:2]))
    console.say(
        f"{len(cells)} runs in {where}{' and others' if len(experiments) > 2 else ''}, "
        f"{len(cells) - len(waiting)} finished already; "
        f"{settings[0]['jobs']} at a time with {settings[0]['threads']} threads each"
    )
    with stop_on_interrupt(console, "as soon as every run has kept its state") as stopped:
        failed = _work_through(waiting, settings[0]["jobs"], console, stopped)
    if stopped():
        raise KeyboardInterrupt
    return failed


def _work_through(
    waiting: list[tuple[CrossExperiment, Cell]],
    jobs: int,
    console: RunConsole,
    stopped: Callable[[], bool],
) -> list[str]:
    """Keep every slot busy until nothing waits; return what went wrong.

    A cell comes back to the queue until it is done: it is trained, then evaluated. When this
    process is stopped its children are stopped with it, and the next call resumes them.
    """
    free = list(range(jobs))
    running: dict[int, tuple[CrossExperiment, Cell, subprocess.Popen[bytes]]] = {}
    failed = []
    try:
        while (waiting or running) and not stopped():
            while waiting and free:
                (experiment, cell), slot = waiting.pop(0), free.pop(0)
                threads = experiment.settings(None)["threads"]
                process = experiment.start(cell, slot, threads)
                running[slot] = experiment, cell, process
            time.sleep(_POLL_SECONDS)
            for slot in [s for s, (_, _, process) in running.items() if process.poll() is not None]:
                experiment, cell, process = running.pop(slot)
                free.append(slot)
                if process.returncode:
                    reason = experiment.last_words(cell)
                    experiment.record_cells({cell: reason})
                    failed.append(f"{cell.title(experiment.config)}: {reason}")
                    console.say(failed[-1])
                elif experiment.is_done(cell):
                    experiment.record_cells({cell: None})
                    console.say(experiment.headline(cell))
                else:
                    waiting.insert(0, (experiment, cell))
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.wait()
    return failed


def _refuse_repeated(**named: Sequence[int]) -> None:
    """A run counted twice would narrow the interval over runs without a measurement behind it."""
    for name, values in named.items():
        repeated = sorted({value for value in values if list(values).count(value) > 1})
        if repeated:
            raise ConfigError(f"{name} names {repeated[0]} twice; each is trained once")


def _folds(
    dataset: Dataset, folds: Sequence[int] | None, test_fold: int, rotate_test: bool
) -> list[tuple[int, int]]:
    """Return the (validation fold, test fold) of every run."""
    present = sorted({int(f) for f in dataset.folds if f != TEST_FOLD})
    unknown = [fold for fold in folds or () if fold not in present]
    if unknown:
        raise ConfigError(
            f"fold {unknown[0]} is not in data set {dataset.name!r}; it has {present}"
        )
    if rotate_test:
        after = dict(zip(present, [*present[1:], *present[:1]], strict=True))
        return [(after[fold], fold) for fold in folds or present]
    return [(fold, test_fold) for fold in folds or present if fold != test_fold]


def summarise_experiment(experiment: CrossExperiment) -> CrossValidation:
    """Collect the figures of finished runs, and write the summary as JSON, CSV and Markdown."""
    cells = experiment.cells
    rows: list[dict[str, Any]] = []
    for cell in cells:
        run = experiment.run_of(cell)
        assert run is not None
        results = read_json(run.results)
        rows.append(
            {
                "fold": cell.fold,
                "test_fold": cell.test_fold,
                "seed": cell.seed,
                "best_epoch": results["best_epoch"],
                **headline_figures(run),
                "run": run.path.name,
            }
        )
    runs = [run for cell in cells if (run := experiment.run_of(cell)) is not None]
    tested = {f"{name}_auc": scored_by(runs, split) for name, split in SPLIT_NAMES.items()}
    summaries = {
        name: summarise_runs([row[name] for row in rows], tested.get(name, ()))
        for name in METRICS
        if all(row.get(name) is not None for row in rows)
    }
    summary = CrossValidation(experiment.parent, rows, summaries)
    write_json(experiment.parent / "summary.json", summary.as_dict())
    write_atomically(experiment.parent / "summary.csv", as_csv(rows).encode())
    page = f"# {experiment.parent.name}\n\n{as_markdown(rows)}\n{summary.headline()}\n"
    write_atomically(experiment.parent / "summary.md", page.encode())
    return summary
