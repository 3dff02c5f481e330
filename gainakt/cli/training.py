"""Verbs that train."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gainakt.cli.parameters import with_parameters
from gainakt.cli.shared import (
    OUT,
    DataFolder,
    Folds,
    Jobs,
    Json,
    NoReport,
    Quiet,
    RotateTest,
    Run,
    Seeds,
    Tolerance,
    find,
    print_result,
    typed,
)
from gainakt.config import load_config

if TYPE_CHECKING:
    from gainakt.experiment.run import RunResult


@with_parameters
def train(
    *,
    config: Annotated[
        str | None, Parameter(help="Named configuration or JSON file; flags go on top.")
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Prepared data set; without it, simulated students.")
    ] = None,
    out: Annotated[Path, Parameter(help="Where experiment folders are made.")] = OUT,
    no_report: NoReport = False,
    quiet: Quiet = False,
    as_json: Json = False,
    overrides: dict[str, Any],
) -> int:
    """Train a model and leave a complete experiment folder.

    For example: `gainakt train --config tolerance_test --data data/as2015 --epochs 2`.
    """
    settings = load_config(config, overrides)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.run import train as train_run
    from gainakt.report.ending import draw_report

    with RunConsole(quiet) as console:
        result = train_run(
            settings,
            data,
            out,
            command=typed(),
            now=datetime.now(UTC),
            console=console,
        )
        if result.completed and not no_report:
            draw_report(result.folder, console)
    print_result({"folder": str(result.folder.path), **result.results}, as_json, result.folder.path)
    return 0 if result.completed else 130


def resume(
    run: Run,
    *,
    epochs: Annotated[
        int | None, Parameter(help="Train a finished run on, to so many epochs in all.")
    ] = None,
    patience: Annotated[
        int | None, Parameter(help="With it: epochs without a better one before it ends.")
    ] = None,
    data: DataFolder = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Continue a run that was stopped, as if it never had been.

    A finished run is trained on with --epochs, in a folder of its own, as if it had been told to
    from the start. For example: `gainakt resume experiments/20260101_120000_gainakt2exp_run`.
    """
    folder = find(run)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.further import train_further
    from gainakt.experiment.resume import resume as resume_run
    from gainakt.report.ending import draw_report

    result: RunResult | None
    with RunConsole(quiet) as console:
        now = datetime.now(UTC)
        if epochs is None and patience is None:
            result = resume_run(folder, now, console, data)
        else:
            result = train_further(
                folder, now, typed(), console, epochs=epochs, patience=patience, data=data
            )
            folder = result.folder
        if result is not None and result.completed and not no_report:
            draw_report(folder, console)
    values = {"folder": str(folder.path), **(result.results if result else {"resumed": False})}
    print_result(values, as_json, folder.path)
    return 0 if result is None or result.completed else 130


def reproduce(
    run: Run,
    *,
    tolerance: Tolerance = None,
    force: Annotated[
        bool, Parameter(negative=(), help="Go on although the folder does not match its records.")
    ] = False,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Train a run again from its folder alone and compare; exit code 1 when the result differs.

    For example: `gainakt reproduce experiments/20260101_120000_gainakt2exp_run`.
    """
    folder = find(run)
    from gainakt.experiment.compare import parse_tolerances
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.resume import reproduce as reproduce_run
    from gainakt.experiment.resume import reproduced

    tolerances = parse_tolerances(tolerance or ())
    with RunConsole(quiet) as console:
        repetition = reproduce_run(
            folder,
            datetime.now(UTC),
            typed(),
            console,
            tolerances=tolerances,
            force=force,
            data=data,
        )
    comparison = repetition.comparison
    if comparison is None:
        return 130
    values = {"folder": str(repetition.result.folder.path), **comparison.as_dict()}
    print_result(values, as_json, comparison.text())
    return 0 if reproduced(repetition) else 1


@with_parameters
def crossval(
    *,
    config: Annotated[
        str | None, Parameter(help="Named configuration or JSON file; flags go on top.")
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Prepared data set; without it, simulated students.")
    ] = None,
    folds: Folds = None,
    seeds: Seeds = None,
    rotate_test: RotateTest = False,
    jobs: Jobs = None,
    out: Annotated[Path, Parameter(help="Where the parent folder is made.")] = OUT,
    quiet: Quiet = False,
    as_json: Json = False,
    overrides: dict[str, Any],
) -> int:
    """Train on every fold with every seed, evaluate on test students, and summarise.

    The same command again goes on where it was stopped; finished runs are not run again. For
    example: `gainakt crossval --config tolerance_test --data data/as2015 --folds 0 1 2 3 4`.
    """
    settings = load_config(config, overrides)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.crossval import cross_validate
    from gainakt.experiment.embedded import embedded_data

    with RunConsole(quiet) as console:
        summary = cross_validate(
            settings,
            data or embedded_data(out, console),
            out,
            folds=folds,
            seeds=seeds,
            jobs=jobs,
            console=console,
            rotate_test=rotate_test,
        )
    print_result(summary.as_dict(), as_json, summary.text())
    return 0
