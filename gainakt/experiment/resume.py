"""Going on with a run that stopped, and repeating one from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from gainakt.config import Config
from gainakt.errors import ExperimentError
from gainakt.experiment.compare import (
    SPLITS,
    Comparison,
    Verdict,
    compare_two,
    differences,
)
from gainakt.experiment.console import RunConsole
from gainakt.experiment.evaluate import evaluate
from gainakt.experiment.learning import Learning
from gainakt.experiment.run import RunResult, TrainingRun, train
from gainakt.machine import prepare_machine
from gainakt.record import provenance
from gainakt.record.checklist import run_checks
from gainakt.record.checkpoint import load_state
from gainakt.record.folder import COMPLETED, RunFolder, read_json, write_json
from gainakt.record.readme import write_readme
from gainakt.record.records import (
    checkpoint_problems,
    config_problems,
    data_problems,
    recorded_config,
    recorded_data,
)


def resume(
    folder: RunFolder, now: datetime, console: RunConsole, data: Path | None = None
) -> RunResult | None:
    """Continue a run as if it had never stopped; None when it is finished already.

    Args:
        folder: the run.
        now: UTC, for the record.
        console: where to report.
        data: where the data are now, when they moved.

    Raises:
        ExperimentError, DataError: the folder or the data are not what the run recorded.
    """
    if folder.results.is_file() and read_json(folder.results)["status"] == COMPLETED:
        if not folder.readme.is_file():  # killed between the last figure and its page
            results, config = read_json(folder.results), recorded_config(folder)
            write_readme(folder, config, results, run_checks(folder))
            console.say(f"{folder.readme.name} was missing and is written")
        if not folder.report.is_file():
            console.say(f"it has no report; to draw it: gainakt report {folder.shell_name}")
        console.say(f"{folder.path.name} is finished; there is nothing to resume")
        return None
    _refuse_unborn(folder)
    config = recorded_config(folder)
    problems = [*config_problems(folder)]
    dataset = recorded_data(folder, data)
    problems += data_problems(folder, dataset)
    if problems:
        raise ExperimentError(f"{folder.path.name} cannot be resumed: {'; '.join(problems)}")
    console.log_to(folder.log)
    device = prepare_machine(*config.machine)
    state = None
    if folder.state.is_file():
        state = load_state(folder.state)
        where = _where(folder, config, state)
    elif folder.last.is_file() or folder.best.is_file():
        raise ExperimentError(
            f"{folder.path.name} cannot be resumed: {folder.state.name} is missing, which says "
            "where training stood; to begin anew and leave the checkpoints as they are: "
            f"gainakt reproduce {folder.shell_name}"
        )
    else:
        where = "the beginning: it stopped before the first checkpoint"
    _record_resumption(folder, config, device, now, where)
    console.say(f"resuming {folder.path.name} at {where}")
    learning = Learning.of(config, dataset)
    return TrainingRun(folder, config, learning, device, console, state).carry_out()


def _refuse_unborn(folder: RunFolder) -> None:
    """Say of a run that was killed while its folder was made that nothing was learnt."""
    first = (folder.config, folder.script, folder.seeds, folder.environment, folder.data)
    missing = [path.name for path in first if not path.is_file()]
    if missing and not folder.state.is_file() and not folder.last.is_file():
        raise ExperimentError(
            f"{folder.path.name} was killed while its folder was made ({missing[0]} is missing): "
            "nothing was learnt yet; remove the folder and train anew"
        )


def _where(folder: RunFolder, config: Config, state: dict[str, Any]) -> str:
    """Return where a state stands.

    Raises:
        ExperimentError: it is no state of this run.
    """
    of = state.get("run", config.experiment.id)  # the first version did not say
    if of != config.experiment.id:
        raise ExperimentError(f"{folder.state.name} is of another run, {of!r}")
    try:
        return f"epoch {state['epoch'] + 1}, batch {state['progress']['steps'] + 1}"
    except (LookupError, TypeError) as error:
        raise ExperimentError(f"{folder.state.name} is damaged: {error!r}") from None


def _record_resumption(
    folder: RunFolder, config: Config, device: torch.device, now: datetime, where: str
) -> None:
    """Add to environment.json that the run went on here, and what had changed by then."""
    recorded = read_json(folder.environment)
    changed = differences(recorded, provenance.environment(config, device))
    entry = {"time": now.strftime("%Y%m%d_%H%M%S"), "at": where, "changed": changed}
    recorded.setdefault("resumed", []).append(entry)
    write_json(folder.environment, recorded)


@dataclass(frozen=True)
class Reproduction:
    """A repeated run and its comparison with the original."""

    result: RunResult
    comparison: Comparison | None


def reproduce(
    folder: RunFolder,
    now: datetime,
    command: str,
    console: RunConsole,
    *,
    tolerances: dict[str, float] | None = None,
    force: bool = False,
    data: Path | None = None,
) -> Reproduction:
    """Train again from nothing but the folder and its data, and compare.

    Args:
        folder: a finished run.
        now: start of the repetition, UTC.
        command: what started the repetition, as typed.
        console: where to report.
        tolerances: see `gainakt.experiment.compare.compare_two`.
        force: go on although something does not match what the folder recorded.
        data: where the data are now, when they moved.

    Raises:
        ExperimentError: the run is not finished, or does not match its own records.
    """
    results = read_json(folder.results)
    if results["status"] != COMPLETED:
        raise ExperimentError(
            f"{folder.path.name} is {results['status']}; only a finished run can be reproduced"
        )
    config = recorded_config(folder)
    dataset = recorded_data(folder, data)
    problems = [
        *config_problems(folder),
        *data_problems(folder, dataset),
        *checkpoint_problems(folder, results),
    ]
    if problems and not force:
        raise ExperimentError(
            f"{folder.path.name} does not match its own records: {'; '.join(problems)}. "
            "--force repeats it all the same and records that it did"
        )
    for problem in problems:
        console.say(f"forced: {problem}")
    _say_environment(folder, config, console)
    experiment = config.experiment.model_copy(
        update={
            "short_title": f"{config.experiment.short_title[:58]}_repro",
            "purpose": f"Repeats {folder.path.name}"
            + (f", forced although {'; '.join(problems)}" if problems else ""),
        }
    )
    result = train(
        config.model_copy(update={"experiment": experiment}),
        dataset.path,
        folder.path.parent,
        command=command,
        now=now,
        console=console,
    )
    if not result.completed:
        return Reproduction(result, None)
    for split in SPLITS:
        # what was evaluated of the original is evaluated of the repetition too
        if (
            folder.current(folder.evaluation(split))
            and not result.folder.evaluation(split).is_file()
        ):
            evaluate(result.folder, split, console)
    comparison = compare_two(folder, result.folder, tolerances)
    write_json(
        result.folder.comparison,
        {**comparison.as_dict(), "forced": problems},
    )
    return Reproduction(result, comparison)


def reproduced(reproduction: Reproduction) -> bool:
    """Return whether the repetition confirms the original."""
    comparison = reproduction.comparison
    return comparison is not None and comparison.verdict is not Verdict.DIFFERENT


def _say_environment(folder: RunFolder, config: Config, console: RunConsole) -> None:
    """Say beforehand what of code, versions, device and threads is not as it was."""
    now = provenance.environment(config, prepare_machine(*config.machine))
    changed = differences(read_json(folder.environment), now)
    if not changed:
        console.say("code, versions, device and threads are those of the original")
    for name, (then, today) in changed.items():
        if name != "git diff":
            console.say(f"differs from the original: {name} was {then}, is {today}")
        else:
            console.say("differs from the original: the uncommitted changes of the code")
