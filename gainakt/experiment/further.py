"""A finished run trained further, as if it had been told to from the start."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gainakt.config import Config, load_config
from gainakt.errors import ExperimentError
from gainakt.experiment.console import RunConsole
from gainakt.experiment.run import RunResult, TrainingRun, start
from gainakt.models.interface import FittedTracer
from gainakt.record.checkpoint import load_checkpoint, load_state, save_checkpoint
from gainakt.record.folder import RunFolder, read_json, read_text, write_json
from gainakt.record.records import (
    checkpoint_problems,
    config_problems,
    data_problems,
    recorded_config,
    recorded_data,
)


def train_further(
    folder: RunFolder,
    now: datetime,
    command: str,
    console: RunConsole,
    *,
    epochs: int | None = None,
    patience: int | None = None,
    data: Path | None = None,
) -> RunResult:
    """Train a finished run for more epochs, in a folder of its own.

    The new run is what training from the start to so many epochs gives, to the last bit, and is
    reproduced that way; the finished one stays as it is.

    Args:
        folder: a finished run.
        now: start, UTC.
        command: what started it, as typed.
        console: where to report.
        epochs: how many there are to be in all.
        patience: epochs without a better validation AUC after which to stop.
        data: where the data are now, when they moved.

    Raises:
        ExperimentError: the run does not match its records, is not finished, or would have been
            trained in another way from the start.
        DataError: the data are not those of the run.
    """
    if not folder.is_completed():
        raise ExperimentError(
            f"{folder.path.name} is not finished; finish it first: gainakt resume "
            f"{folder.shell_name}"
        )
    results, before = read_json(folder.results), recorded_config(folder)
    dataset = recorded_data(folder, data)
    problems = [
        *config_problems(folder),
        *data_problems(folder, dataset),
        *checkpoint_problems(folder, results),
    ]
    if problems:
        raise ExperimentError(
            f"{folder.path.name} cannot be trained further: {'; '.join(problems)}"
        )
    changed = {"epochs": epochs, "patience": patience}
    asked = {name: value for name, value in changed.items() if value is not None}
    config = load_config(before, asked)
    state = load_state(folder.state)
    _check(folder, before, config, state, results)
    run = start(config, dataset, folder.path.parent, command=command, now=now, console=console)
    try:
        for line in (f"what {folder.path.name} said:", *read_text(folder.log).splitlines()):
            console.note(line)
        _take_along(folder, run, state["epoch"])
    except BaseException:
        run.folder.remove()
        raise
    console.say(f"going on from {folder.path.name} after epoch {state['epoch']}")
    return replace(run, state=state | {"run": run.config.experiment.id}).carry_out()


def _check(
    folder: RunFolder,
    before: Config,
    config: Config,
    state: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Refuse where going on is not what training from the start would have been."""
    name = folder.path.name
    done = state["epoch"]
    if isinstance(load_checkpoint(folder.best).model(), FittedTracer):
        model = config.experiment.model
        raise ExperimentError(f"{name} cannot be trained further: {model} is fitted at once")
    if done != results["epochs"]:
        raise ExperimentError(f"{folder.state.name} stands at epoch {done}, the run at another")
    by_length = {
        "learning_rate_schedule = cosine": config.training.learning_rate_schedule == "cosine",
        "enable_cosine_perf_schedule": config.runtime.enable_cosine_perf_schedule,
    }
    for setting, depends in by_length.items():
        if depends and config.training.epochs != before.training.epochs:
            raise ExperimentError(
                f"{name} cannot be trained further: {setting} made every epoch depend on how many "
                "there would be; train anew with more epochs"
            )
    best = results["best_epoch"]
    if done >= config.training.epochs:
        raise ExperimentError(
            f"{name} has {done} epochs already; say how many there are to be in all: "
            f"--epochs {done + 10}"
        )
    if done - best >= config.training.patience:
        raise ExperimentError(
            f"{name} ended {done - best} epochs after its best one, epoch {best}, and would end "
            f"again; give a larger --patience than {done - best}"
        )


def _take_along(folder: RunFolder, run: TrainingRun, epoch: int) -> None:
    """Copy what the finished run had learnt, checkpoints under the new run's name."""
    for old, new in ((folder.best, run.folder.best), (folder.last, run.folder.last)):
        save_checkpoint(new, replace(load_checkpoint(old), config=run.config))
    for number in range(1, run.config.training.teachers + 1):
        shutil.copyfile(folder.teacher(number), run.folder.teacher(number))
    origin = {"run": folder.path.name, "epoch": epoch}
    environment = read_json(run.folder.environment) | {"continues": origin}
    write_json(run.folder.environment, environment)
