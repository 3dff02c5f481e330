"""Verbs over many runs: one table of them, and the grid that fills it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from gainakt.cli.parameters import with_parameters
from gainakt.cli.shared import OUT, Folds, Jobs, Json, Quiet, RotateTest, Seeds
from gainakt.errors import GainaktError

if TYPE_CHECKING:
    from gainakt.experiment.leaderboard import Row

Samples = Annotated[
    int, Parameter(help="Resamples of students behind each difference from the best.")
]
Form = Annotated[
    Literal["text", "markdown", "latex", "csv", "json", "html"],
    Parameter(name="--format", help="How to print it; html writes a page."),
]
Page = Annotated[
    Path | None, Parameter(help="File to write it to; leaderboard.html is where a page goes.")
]


def leaderboard(
    *folders: Annotated[
        Path, Parameter(help="Experiment folders, or folders that contain them; experiments/.")
    ],
    form: Form = "text",
    out: Page = None,
    samples: Samples = 1000,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Put runs into one table: a row for each model and data set, with intervals and tests.

    Runs that differ only in fold and seed are one row. For example:
    `gainakt leaderboard experiments --format markdown`.
    """
    check_samples(samples)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.entries import find_entries
    from gainakt.experiment.leaderboard import leaderboard as rank

    with RunConsole(quiet) as console:
        rows = rank(find_entries(list(folders or [OUT])), samples, console.say)
    show(rows, "json" if as_json else form, out)
    return 0


def check_samples(samples: int) -> None:
    if samples < 100:
        raise GainaktError(f"--samples = {samples}: at least 100 are needed for an interval")


def show(rows: Sequence[Row], form: str, out: Path | None) -> None:
    """Print a table in a format, or write it to a file."""
    from gainakt.experiment.formats import FORMATS
    from gainakt.experiment.leaderboard import as_records
    from gainakt.files import write_atomically

    if form == "html":
        from gainakt.report.leaderboard import write_leaderboard

        print(write_leaderboard(rows, out or Path("leaderboard.html")))
        return
    text = json.dumps(as_records(rows)) + "\n" if form == "json" else FORMATS[form](rows)
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())
        print(out)


@with_parameters
def benchmark(
    *,
    data: Annotated[
        list[Path], Parameter(negative=(), consume_multiple=True, help="Prepared data sets.")
    ],
    models: Annotated[
        list[str] | None,
        Parameter(negative=(), consume_multiple=True, help="Models, with their defaults."),
    ] = None,
    configs: Annotated[
        list[str] | None,
        Parameter(negative=(), consume_multiple=True, help="Named configurations or JSON files."),
    ] = None,
    folds: Folds = None,
    seeds: Seeds = None,
    rotate_test: RotateTest = False,
    jobs: Jobs = None,
    out: Annotated[Path, Parameter(help="The benchmark's folder.")] = OUT / "benchmark",
    form: Form = "text",
    samples: Samples = 1000,
    quiet: Quiet = False,
    as_json: Json = False,
    overrides: dict[str, Any],
) -> int:
    """Train several models on several data sets, and put them into one table.

    The same command again goes on where it was stopped. A run that fails is named in the table
    with its reason, the others go on; the exit code is then 1. For example:
    `gainakt benchmark --data data/as2015 --models bkt logistic --configs gainsum --folds 0 1`.
    """
    check_samples(samples)
    from gainakt.experiment.benchmark import benchmark as train_all
    from gainakt.experiment.benchmark import grid_configs
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.entries import find_entries
    from gainakt.experiment.leaderboard import leaderboard as rank

    chosen = grid_configs(models or (), configs or (), overrides)
    with RunConsole(quiet) as console:
        failed = train_all(
            chosen,
            data,
            out,
            folds=folds,
            seeds=seeds,
            jobs=jobs,
            console=console,
            rotate_test=rotate_test,
        )
        rows = rank(find_entries([out]), samples, console.say)
    page = out / "leaderboard.html" if form == "html" and not as_json else None
    show(rows, "json" if as_json else form, page)
    return 1 if failed else 0
