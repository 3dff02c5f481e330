"""Verbs that read finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from gainakt.cli.shared import (
    DataFolder,
    Json,
    Quiet,
    Run,
    Tolerance,
    find,
    print_result,
)
from gainakt.errors import GainaktError


def check(run: Run, *, as_json: Json = False) -> int:
    """Perform the ten checks on an experiment folder; exit code 1 when one fails.

    For example: `gainakt check experiments/20260101_120000_gainakt2exp_run`.
    """
    folder = find(run)  # a name that is mistyped is answered before torch is loaded
    from gainakt.record.checklist import run_checks

    checks = run_checks(folder)
    if as_json:
        print(json.dumps([vars(c) for c in checks]))
    else:
        for c in checks:
            print(f"{c.mark} {c.title}{': ' + c.reason if c.reason else ''}")
    return 0 if all(c.passed for c in checks) else 1


def evaluate(
    run: Run,
    *,
    split: Annotated[
        Literal["valid", "test"], Parameter(help="Whose answers to predict.")
    ] = "test",
    interpretability: Annotated[
        bool, Parameter(negative=(), help="Also take the nine measures of interpretability.")
    ] = False,
    against: Annotated[
        str | None, Parameter(help="A run of another seed, to measure how stable mastery is.")
    ] = None,
    flips: Annotated[
        int, Parameter(help="Wrong answers to flip, all at most, to measure what it lowers.")
    ] = 10_000,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Score a run's best checkpoint; write metrics and a table of every prediction.

    For example: `gainakt evaluate experiments/20260101_120000_gainakt2exp_run --split test`.
    """
    if against is not None and not interpretability:
        raise GainaktError("--against compares mastery: give --interpretability too")
    if flips < 1:
        raise GainaktError(f"--flips = {flips}: at least 1 answer must be flipped")
    folder = find(run)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.evaluate import evaluate as evaluate_run
    from gainakt.experiment.interpret import interpret

    with RunConsole(quiet) as console:
        metrics = evaluate_run(folder, split, console, data)
        lines = [
            f"{split} AUC (window, {metrics['targets']:,} targets): {metrics['auc']:.5f}   "
            f"accuracy: {metrics['accuracy']:.5f}"
        ]
        if interpretability:
            other = None if against is None else find(against)
            found = interpret(folder, split, console, data, against=other, flips=flips)
            metrics = {**metrics, "interpretability": found.values}
            lines += ["", found.table, "", found.summary]
    print_result(metrics, as_json, "\n".join(lines))
    return 0


def score(
    run: Run,
    *,
    data: Annotated[Path, Parameter(help="Prepared data set, of any size.")],
    out: Annotated[Path, Parameter(help="Parquet file to make.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Predict every answer of a data set but each student's first, in constant memory.

    For example: `gainakt score experiments/20260101_120000_gainsum_run --data data/all --out
    all.parquet`.
    """
    folder = find(run)
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.score import score as score_data

    with RunConsole(quiet) as console:
        scored = score_data(folder, data, out, console)
    line = (
        f"{scored['targets']:,} predictions for {scored['students']:,} students in {out} "
        f"({scored['interactions_per_second']:,.0f} interactions a second)"
    )
    print_result(scored, as_json, line)
    return 0


def explain(
    run: Run,
    *,
    student: Annotated[str, Parameter(help="Id of the student, as the data spell it.")],
    step: Annotated[
        int | None,
        Parameter(help="Which answer, counted from 0; by default the last, with --skill the next."),
    ] = None,
    skill: Annotated[
        str | None, Parameter(help="Ask about this skill in place of the one that was asked.")
    ] = None,
    form: Annotated[
        Literal["text", "csv", "json"], Parameter(name="--format", help="How to print it.")
    ] = "text",
    picture: Annotated[
        Path | None, Parameter(help="Also draw it, into a file .png or .svg.")
    ] = None,
    data: DataFolder = None,
    as_json: Json = False,
) -> int:
    """Take a prediction apart: a prior, and what each past answer added.

    For example: `gainakt explain experiments/20260101_120000_gainsum_run --student 17 --step 9`.
    """
    folder = find(run)
    from gainakt.experiment import explain as explaining

    explained = explaining.explain(folder, student, step, skill, data)
    if picture is not None:
        from gainakt.report.figures import explanation_figure, save

        save(explanation_figure(explained), picture)
    forms = {
        "text": lambda: explaining.as_text(explained),
        "csv": lambda: explaining.as_csv(explained),
        "json": lambda: json.dumps(explaining.as_dict(explained)) + "\n",
    }
    print(forms["json" if as_json else form](), end="")
    return 0


def compare(
    *runs: Run,
    tolerance: Tolerance = None,
    form: Annotated[
        Literal["text", "csv", "markdown"], Parameter(name="--format", help="How to print it.")
    ] = "text",
    as_json: Json = False,
) -> int:
    """Compare two runs metric by metric, or groups of runs by mean, interval and test.

    A group is a folder of runs, such as `gainakt crossval` makes. Two single runs exit with code 1
    when they are different. For example: `gainakt compare RUN_A RUN_B --tolerance val_auc=1e-3`.
    """
    if len(runs) < 2:
        raise GainaktError(f"compare needs at least two runs, {len(runs)} given")
    folders = [find(run) for run in runs]
    from gainakt.experiment import compare as comparing
    from gainakt.experiment import groups as grouping

    found = [grouping.find_group(folder) for folder in folders]
    result: comparing.Comparison | grouping.GroupComparison
    if len(found) == 2 and all(group.single for group in found):
        result = comparing.compare_two(
            found[0].runs[0], found[1].runs[0], comparing.parse_tolerances(tolerance or ())
        )
        different = result.verdict is comparing.Verdict.DIFFERENT
    else:
        result = grouping.compare_groups(found)
        different = False
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        forms = {
            "text": lambda: result.text() + "\n",
            "csv": lambda: comparing.as_csv(result.table()),
            "markdown": lambda: comparing.as_markdown(result.table()),
        }
        print(forms[form](), end="")
    return 1 if different else 0


def report(
    *runs: Run,
    out: Annotated[
        Path | None, Parameter(help="HTML file to write; figures go into a folder beside it.")
    ] = None,
    data: DataFolder = None,
    as_json: Json = False,
) -> int:
    """Draw a run as one HTML page that needs no network, or compare several runs on one.

    One run's page goes into its folder, as `gainakt train` leaves it; that of several runs or
    groups becomes comparison.html. For example:
    `gainakt report experiments/20260101_120000_gainakt2exp_run`.
    """
    if not runs:
        raise GainaktError("report needs a run, or several to compare")
    folders = [find(run) for run in runs]
    from gainakt.report.comparison import write_comparison
    from gainakt.report.page import write_report

    if len(folders) == 1 and folders[0].config.is_file():
        page = write_report(folders[0], out, data)
    elif data is not None:
        raise GainaktError("--data goes with the report of a single run")
    else:
        page = write_comparison(folders, out)
    print_result({"report": str(page)}, as_json, page)
    return 0
