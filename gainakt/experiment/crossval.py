"""Many runs as one experiment: every fold with every seed, in one parent folder with a summary."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gainakt.config import Config, config_hash, dump_config
from gainakt.data.interactions import TEST_FOLD, Dataset, load_dataset
from gainakt.errors import ConfigError, ExperimentError
from gainakt.evaluation.significance import Summary, summarise_runs
from gainakt.experiment.compare import as_csv, as_markdown
from gainakt.experiment.console import RunConsole
from gainakt.experiment.groups import headline_figures, scored_by
from gainakt.experiment.stopping import stop_on_interrupt
from gainakt.files import write_atomically
from gainakt.machine import cores
from gainakt.record.folder import COMPLETED, RunFolder, read_json, write_json
from gainakt.words import counted

_POLL_SECONDS = 0.2
_COMMON = "config.common.json"
METRICS = ("val_auc", "val_accuracy", "test_auc", "test_accuracy")
SPLIT_NAMES = {"val": "valid", "test": "test"}


@dataclass(frozen=True)
class Cell:
    """One run of the experiment: the fold that validates, the one that tests, and a seed."""

    fold: int
    seed: int
    test_fold: int

    def title(self, config: Config) -> str:
        """Return the run's short title."""
        tested = "" if self.test_fold == TEST_FOLD else f"-test{self.test_fold}"
        return f"{config.experiment.short_title[:40]}-fold{self.fold}{tested}-seed{self.seed}"


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
        lines = [f"fold {row['fold']}  seed {row['seed']}  {_figures(row)}" for row in self.rows]
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
    dataset = load_dataset(data)
    _refuse_repeated(folds=folds or (), seeds=seeds or config.seeds.all)
    cells = [
        Cell(fold, seed, test_fold)
        for seed in (seeds or config.seeds.all)
        for fold, test_fold in _folds(dataset, folds, config.data.test_fold, rotate_test)
    ]
    tests = bool(np.isin(dataset.folds, [cell.test_fold for cell in cells]).any())
    experiment = _Experiment(_parent(config, dataset, out), config, data, tests)
    settings = experiment.settings(jobs)
    waiting = [cell for cell in cells if not experiment.is_done(cell)]
    console.say(
        f"{len(cells)} runs in {experiment.parent}, {len(cells) - len(waiting)} finished already; "
        f"{settings['jobs']} at a time with {settings['threads']} threads each"
    )
    with stop_on_interrupt(console, "as soon as every run has kept its state") as stopped:
        failed = _work_through(experiment, waiting, settings, console, stopped)
    if stopped():
        raise KeyboardInterrupt
    if failed:
        raise ExperimentError(
            f"{len(failed)} of {len(cells)} runs failed: {'; '.join(failed)}. Mend the cause and "
            "give the same command again; finished runs are kept"
        )
    return summarise_experiment(experiment, cells)


def _work_through(
    experiment: _Experiment,
    waiting: list[Cell],
    settings: dict[str, int],
    console: RunConsole,
    stopped: Callable[[], bool],
) -> list[str]:
    """Keep every slot busy until nothing waits; return what went wrong.

    A cell comes back to the queue until it is done: it is trained, then evaluated. When this
    process is stopped its children are stopped with it, and the next call resumes them.
    """
    free = list(range(settings["jobs"]))
    running: dict[Cell, tuple[int, subprocess.Popen[bytes]]] = {}
    failed = []
    try:
        while (waiting or running) and not stopped():
            while waiting and free:
                cell, slot = waiting.pop(0), free.pop(0)
                running[cell] = slot, experiment.start(cell, slot, settings["threads"])
            time.sleep(_POLL_SECONDS)
            for cell in [c for c, (_, process) in running.items() if process.poll() is not None]:
                slot, process = running.pop(cell)
                free.append(slot)
                if process.returncode:
                    failed.append(f"{cell.title(experiment.config)}: {experiment.last_words(cell)}")
                    console.say(failed[-1])
                elif experiment.is_done(cell):
                    console.say(experiment.headline(cell))
                else:
                    waiting.insert(0, cell)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
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


def _parent(config: Config, dataset: Dataset, out: Path) -> Path:
    """The experiment's folder: named by what determines it, without fold and seed."""
    common = config.model_copy(
        update={
            "runtime": config.runtime.model_copy(update={"seed": 0}),
            "seeds": config.seeds.model_copy(update={"primary": 0}),
            "data": config.data.model_copy(update={"fold": 0, "test_fold": TEST_FOLD}),
        }
    )
    key = config_hash(common)[:8] + dataset.manifest["interactions_sha256"][:4]
    name = f"crossval_{config.experiment.model}_{config.experiment.short_title}_{key}"
    path = out / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"cannot make {path}: {error.strerror or error}") from None
    return path.resolve()


@dataclass(frozen=True)
class _Experiment:
    """The parent folder, and what all of its runs have in common."""

    parent: Path
    config: Config
    data: Path
    tests: bool

    def settings(self, jobs: int | None) -> dict[str, int]:
        """Runs at a time, and threads of each; those of the first call hold, to the last bit."""
        if jobs is not None and jobs < 1:
            raise ConfigError(f"jobs = {jobs}: must be at least 1")
        path = self.parent / "crossval.json"
        if path.is_file():
            recorded: dict[str, int] = read_json(path)
            return recorded | ({"jobs": jobs} if jobs else {})
        gpus = _gpus(self.config)
        jobs = jobs or gpus or cores()
        threads = self.config.hardware.threads or max(1, cores() // jobs)
        settings = {"jobs": jobs, "threads": threads}
        write_json(self.parent / _COMMON, dump_config(self.config))
        write_json(path, settings)
        return settings

    def run_of(self, cell: Cell) -> RunFolder | None:
        """Return the cell's latest folder that can be gone on with, None if there is none."""
        name = f"*_{self.config.experiment.model}_{cell.title(self.config)}"
        found = [RunFolder(path) for path in sorted(self.parent.glob(name))]
        begun = [run for run in found if run.data.is_file()]
        return begun[-1] if begun else None

    def is_done(self, cell: Cell) -> bool:
        """Return whether the cell is trained and, where there are test students, evaluated."""
        run = self.run_of(cell)
        return run is not None and _trained(run) and (self._evaluated(run) or not self.tests)

    def _evaluated(self, run: RunFolder) -> bool:
        return run.current(run.evaluation("test")) is not None

    def start(self, cell: Cell, slot: int, threads: int) -> subprocess.Popen[bytes]:
        """Start what the cell needs next: training, going on, or evaluation on test students."""
        run = self.run_of(cell)
        if run is None:
            words = ["train", "--config", str(self.parent / _COMMON), "--out", str(self.parent)]
            words += ["--no-report"]
            words += [f"--fold={cell.fold}", f"--test_fold={cell.test_fold}"]
            words += [f"--seed={cell.seed}", f"--threads={threads}"]
            words += [f"--short_title={cell.title(self.config)}"]
        elif not _trained(run):
            words = ["resume", str(run.path), "--no-report"]
        else:
            words = ["evaluate", str(run.path), "--split", "test"]
        environment = dict(os.environ)
        if gpus := _gpus(self.config):
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % gpus)
        with self._log(cell).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gainakt", *words, "--data", str(self.data.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def last_words(self, cell: Cell) -> str:
        """Return the last line that the cell's processes printed."""
        lines = self._log(cell).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no output")

    def headline(self, cell: Cell) -> str:
        """Return a finished cell's figures in a line."""
        run = self.run_of(cell)
        assert run is not None
        return f"{cell.title(self.config)}: " + _figures(headline_figures(run))

    def _log(self, cell: Cell) -> Path:
        return self.parent / f"{cell.title(self.config)}.log"


def _gpus(config: Config) -> int:
    import torch

    on_gpu = config.hardware.devices in ("auto", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if on_gpu else 0


def _trained(run: RunFolder) -> bool:
    return run.results.is_file() and read_json(run.results)["status"] == COMPLETED


def _figures(row: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {row[name]:.5f}" for name in METRICS if row.get(name) is not None)


def summarise_experiment(experiment: _Experiment, cells: Sequence[Cell]) -> CrossValidation:
    """Collect the figures of finished runs, and write the summary as JSON, CSV and Markdown."""
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
