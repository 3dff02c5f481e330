"""The runs of a cross-validation: which there are, where they lie, and what each needs next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gainakt.config import Config, config_hash, dump_config, parse_config
from gainakt.data.interactions import TEST_FOLD, Dataset, load_dataset
from gainakt.errors import ConfigError, ExperimentError
from gainakt.experiment.groups import headline_figures
from gainakt.experiment.recipe import adapted
from gainakt.machine import cores
from gainakt.record.folder import RunFolder, read_json, write_json

_COMMON = "config.common.json"
# Which runs an experiment has, and which of them failed.
CELLS = "cells.json"
METRICS = ("val_auc", "val_accuracy", "test_auc", "test_accuracy")


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
class CrossExperiment:
    """The parent folder, its runs, and what all of them have in common."""

    parent: Path
    config: Config
    data: Path
    tests: bool
    cells: list[Cell]

    def record_cells(self, outcomes: Mapping[Cell, str | None] | None = None) -> None:
        """Keep which runs the experiment has, and why one failed; None for one that did not.

        Runs of earlier calls with other folds or seeds stay in the list.
        """
        path = self.parent / CELLS
        known = {c.cell: c.failed for c in Planned.read(path).cells} if path.is_file() else {}
        known = dict.fromkeys(self.cells) | known | dict(outcomes or {})
        dataset = load_dataset(self.data)
        content = {
            "config": dump_config(adapted(self.config, dataset)[0]),
            "data": {name: dataset.manifest[name] for name in ("name", "interactions_sha256")},
            "cells": [asdict(cell) | {"failed": why} for cell, why in known.items()],
        }
        write_json(path, content)

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
        return run is not None and run.is_completed() and (self._evaluated(run) or not self.tests)

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
        elif not run.is_completed():
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
        return f"{cell.title(self.config)}: " + figures_in_words(headline_figures(run))

    def _log(self, cell: Cell) -> Path:
        return self.parent / f"{cell.title(self.config)}.log"


class Listed(NamedTuple):
    """A run of an experiment, and why it failed where it did."""

    cell: Cell
    failed: str | None


@dataclass(frozen=True)
class Planned:
    """What an experiment keeps of its plan: configuration, data, and the list of its runs."""

    config: Config
    data: dict[str, str]
    cells: list[Listed]

    @classmethod
    def read(cls, path: Path) -> Planned:
        """Read the plan.

        Raises:
            ExperimentError: it is damaged.
        """
        content = read_json(path)
        try:
            config = parse_config(content["config"], path.name)
            cells = [
                Listed(Cell(c["fold"], c["seed"], c["test_fold"]), c["failed"])
                for c in content["cells"]
            ]
            return cls(config, dict(content["data"]), cells)
        except (LookupError, TypeError) as error:
            raise ExperimentError(f"{path} is damaged: {error}") from None


def _gpus(config: Config) -> int:
    import torch

    on_gpu = config.hardware.devices in ("auto", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if on_gpu else 0


def common_hash(config: Config) -> str:
    """Return a hash of what determines a run, without its fold and seed."""
    common = config.model_copy(
        update={
            "runtime": config.runtime.model_copy(update={"seed": 0}),
            "seeds": config.seeds.model_copy(update={"primary": 0}),
            "data": config.data.model_copy(update={"fold": 0, "test_fold": TEST_FOLD}),
        }
    )
    return config_hash(common)


def parent_folder(config: Config, dataset: Dataset, out: Path) -> Path:
    """The experiment's folder: named by what determines it, without fold and seed."""
    key = common_hash(config)[:8] + dataset.manifest["interactions_sha256"][:4]
    name = f"crossval_{config.experiment.model}_{config.experiment.short_title}_{key}"
    path = out / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"cannot make {path}: {error.strerror or error}") from None
    return path.resolve()


def figures_in_words(row: Mapping[str, Any]) -> str:
    """Return the figures that a row has, for people."""
    return "  ".join(f"{name} {row[name]:.5f}" for name in METRICS if row.get(name) is not None)
