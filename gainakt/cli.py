"""The command line: thin verbs over the package. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import CycloptsError
from rich.console import Console

import gainakt
from gainakt.config import FILLED_BY_RUN, GROUPS, load_config, parameters
from gainakt.errors import GainaktError

if TYPE_CHECKING:
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.folder import RunFolder

OUT = Path("experiments")

app = App(
    name="gainakt",
    help="Knowledge tracing that anyone can reproduce with one command.",
    version=gainakt.__version__,
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)

Quiet = Annotated[bool, Parameter(negative=(), help="Print no progress.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON.")]
Run = Annotated[str, Parameter(help="Experiment folder, or the start of its name in experiments/.")]
NoReport = Annotated[
    bool, Parameter(name="--no-report", negative=(), help="Draw no report.html at the end.")
]
DataFolder = Annotated[
    Path | None, Parameter(help="Prepared data set in place of the one the run recorded.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 only on success."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(_join_switches(words), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _complain(str(error))
        code = 2
    except GainaktError as error:
        _complain(str(error))
        code = 1
    except KeyboardInterrupt:
        _complain("stopped")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror or error}")
        code = 1
    sys.exit(code or 0)


def _complain(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"gainakt: {message}", markup=False, highlight=False)


def _join_switches(words: list[str]) -> list[str]:
    """Let switches take a value as every other parameter does: `--use_amp true`."""
    switches = {
        spelling
        for _, name, field in parameters()
        if field.annotation is bool
        for spelling in _spellings(name)
    }
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in switches and not word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _spellings(name: str) -> tuple[str, ...]:
    hyphenated = name.replace("_", "-")
    return (f"--{name}",) if hyphenated == name else (f"--{name}", f"--{hyphenated}")


def with_parameters(verb: Callable[..., int]) -> Callable[..., int]:
    """Give a verb a flag for every parameter of the configuration, in both spellings.

    Types, defaults, groups and help come from the configuration itself; the verb receives what was
    given as `overrides`.
    """
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values()]
    own = [p for p in own if p.name != "overrides"]
    order = {name: Group(name, sort_key=i) for i, name in enumerate(GROUPS, start=1)}
    flags = [
        inspect.Parameter(
            f"parameter_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                field.annotation | None,  # type: ignore[operator]
                Parameter(
                    name=_spellings(name),
                    group=order[group],
                    help=f"{field.description} [default: {_shown(field.default)}]",
                    negative=(),
                    consume_multiple=True,
                    show_default=False,
                ),
            ],
        )
        for group, name, field in parameters()
        if name not in FILLED_BY_RUN
    ]

    def command(**given: Any) -> int:
        overrides = {
            name.removeprefix("parameter_"): given.pop(name)
            for name in list(given)
            if name.startswith("parameter_")
        }
        return verb(**given, overrides={k: v for k, v in overrides.items() if v is not None})

    signature = inspect.Signature([*own, *flags], return_annotation=int)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    command.__doc__ = verb.__doc__
    command.__name__ = verb.__name__
    return command


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return " ".join(str(v) for v in default)
    return repr(default) if default == "" else str(default)


@app.command
def prepare(
    reader: str | None = None,
    source: Path | None = None,
    *,
    out: Annotated[Path | None, Parameter(help="Folder to make.")] = None,
    name: Annotated[str | None, Parameter(help="Name of the data set.")] = None,
    list_readers: Annotated[
        bool, Parameter(name="--list", negative=(), help="List the readers and what they take.")
    ] = False,
    student: Annotated[str | None, Parameter(help="generic: column of the student.")] = None,
    skill: Annotated[str | None, Parameter(help="generic: column of the skill.")] = None,
    correct: Annotated[str | None, Parameter(help="generic: column of the answer.")] = None,
    order: Annotated[str | None, Parameter(help="generic: column to order by.")] = None,
    timestamp: Annotated[str | None, Parameter(help="generic: column of the time.")] = None,
    question: Annotated[str | None, Parameter(help="generic: column of the question.")] = None,
    fold: Annotated[str | None, Parameter(help="generic: column of the fold.")] = None,
    sep: Annotated[str | None, Parameter(help="generic: separator of the CSV.")] = None,
    lines: Annotated[str | None, Parameter(help="akt_lines: lines a student, 3 or 4.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Prepare raw data: `gainakt prepare pykt data/assist2015 --out data/as2015`.

    Parameters
    ----------
    reader
        Raw format; `gainakt prepare --list` names them.
    source
        File or folder to read.
    """
    from gainakt.data.prepare import prepare as prepare_data
    from gainakt.data.readers import READERS

    if list_readers:
        for key, known in READERS.items():
            print(f"{key:12} {known.source}")
        return 0
    for label, value in (("READER", reader), ("SOURCE", source), ("--out DIR", out)):
        if value is None:
            raise GainaktError(f"prepare needs {label}; see gainakt prepare --help")
    options = {
        "student": student,
        "skill": skill,
        "correct": correct,
        "order": order,
        "timestamp": timestamp,
        "question": question,
        "fold": fold,
        "sep": sep,
        "lines": lines,
    }
    assert reader is not None and source is not None and out is not None
    dataset = prepare_data(
        reader, source, out, name=name, **{k: v for k, v in options.items() if v is not None}
    )
    return _say_dataset(dataset.path, dataset.manifest, quiet, as_json)


@app.command
def simulate(
    *,
    out: Annotated[Path, Parameter(help="Folder to make.")],
    students: Annotated[int, Parameter(help="Students to simulate.")] = 2000,
    skills: Annotated[int, Parameter(help="Skills they practise.")] = 20,
    seed: Annotated[int, Parameter(help="Same seed, same bytes.")] = 42,
    forgetting: Annotated[
        float, Parameter(help="Chance to forget a mastered skill at each step.")
    ] = 0.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Simulate students of known mastery: `gainakt simulate --out data/sim --students 5000`."""
    from gainakt.data.simulate import simulate as simulate_data

    dataset = simulate_data(out, students=students, skills=skills, seed=seed, forgetting=forgetting)
    return _say_dataset(dataset.path, dataset.manifest, quiet, as_json)


def _say_dataset(path: Path, manifest: dict[str, Any], quiet: bool, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"path": str(path), **manifest}))
        return 0
    counts = manifest["counts"]
    print(
        f"{manifest['name']}: {counts['students']:,} students, {counts['interactions']:,} "
        f"interactions, {counts['skills']:,} skills"
    )
    if not quiet:
        for entry in manifest["filters"]:
            print(
                f"left out by {entry['name']}: {entry['rows_removed']:,} rows, "
                f"{entry['students_removed']:,} students ({entry['reason']})"
            )
        folds = ", ".join(f"{fold['students']:,}" for fold in manifest["splits"]["folds"])
        print(f"folds of {folds} students; test: {manifest['splits']['test']['students']:,}")
    print(f"prepared in {path}")
    return 0


@app.command
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

    with RunConsole(quiet) as console:
        result = train_run(
            settings,
            data,
            out,
            command=_typed(),
            now=datetime.now(UTC),
            console=console,
        )
        if result.completed and not no_report:
            _draw_report(result.folder, console)
    _print_result(
        {"folder": str(result.folder.path), **result.results}, as_json, result.folder.path
    )
    return 0 if result.completed else 130


def _draw_report(folder: RunFolder, console: RunConsole) -> None:
    """Draw a finished run; whatever goes wrong with a picture, the run is whole and stays so."""
    with suppress(GainaktError):  # of the log, when the disk is full
        try:
            from gainakt.report.page import write_report

            console.say(f"report: {write_report(folder)}")
        except Exception as error:
            console.say(f"no report ({error}); once mended: gainakt report {folder.path}")


def _print_result(values: dict[str, Any], as_json: bool, line: object) -> None:
    print(json.dumps(values) if as_json else line)


@app.command
def check(run: Run, *, as_json: Json = False) -> int:
    """Perform the ten checks on an experiment folder; exit code 1 when one fails.

    For example: `gainakt check experiments/20260101_120000_gainakt2exp_run`.
    """
    from gainakt.experiment.checklist import run_checks

    checks = run_checks(_find(run))
    if as_json:
        print(json.dumps([vars(c) for c in checks]))
    else:
        for c in checks:
            print(f"{c.mark} {c.title}{': ' + c.reason if c.reason else ''}")
    return 0 if all(c.passed for c in checks) else 1


@app.command
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
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.evaluate import evaluate as evaluate_run
    from gainakt.experiment.interpret import interpret

    folder = _find(run)
    with RunConsole(quiet) as console:
        metrics = evaluate_run(folder, split, console, data)
        lines = [
            f"{split} AUC (window, {metrics['targets']:,} targets): {metrics['auc']:.5f}   "
            f"accuracy: {metrics['accuracy']:.5f}"
        ]
        if interpretability:
            other = None if against is None else _find(against)
            found = interpret(folder, split, console, data, against=other, flips=flips)
            metrics = {**metrics, "interpretability": found.values}
            lines += ["", found.table, "", found.summary]
    _print_result(metrics, as_json, "\n".join(lines))
    return 0


@app.command
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
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.score import score as score_data

    with RunConsole(quiet) as console:
        scored = score_data(_find(run), data, out, console)
    line = (
        f"{scored['targets']:,} predictions for {scored['students']:,} students in {out} "
        f"({scored['interactions_per_second']:,.0f} interactions a second)"
    )
    _print_result(scored, as_json, line)
    return 0


@app.command
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
    from gainakt.experiment import explain as explaining

    explained = explaining.explain(_find(run), student, step, skill, data)
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


@app.command
def resume(
    run: Run,
    *,
    data: DataFolder = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Continue a run that was stopped, as if it never had been.

    For example: `gainakt resume experiments/20260101_120000_gainakt2exp_run`.
    """
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.resume import resume as resume_run

    folder = _find(run)
    with RunConsole(quiet) as console:
        result = resume_run(folder, datetime.now(UTC), console, data)
        if result is not None and result.completed and not no_report:
            _draw_report(folder, console)
    values = {"folder": str(folder.path), **(result.results if result else {"resumed": False})}
    _print_result(values, as_json, folder.path)
    return 0 if result is None or result.completed else 130


Tolerance = Annotated[
    list[str] | None,
    Parameter(
        negative=(),
        consume_multiple=True,
        help="Largest difference that counts as equal (1e-4), for all metrics or METRIC=NUMBER.",
    ),
]


@app.command
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
    from gainakt.experiment.compare import parse_tolerances
    from gainakt.experiment.console import RunConsole
    from gainakt.experiment.resume import reproduce as reproduce_run
    from gainakt.experiment.resume import reproduced

    tolerances = parse_tolerances(tolerance or ())
    with RunConsole(quiet) as console:
        repetition = reproduce_run(
            _find(run),
            datetime.now(UTC),
            _typed(),
            console,
            tolerances=tolerances,
            force=force,
            data=data,
        )
    comparison = repetition.comparison
    if comparison is None:
        return 130
    values = {"folder": str(repetition.result.folder.path), **comparison.as_dict()}
    _print_result(values, as_json, comparison.text())
    return 0 if reproduced(repetition) else 1


@app.command
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
    from gainakt.experiment import compare as comparing

    if len(runs) < 2:
        raise GainaktError(f"compare needs at least two runs, {len(runs)} given")
    groups = [comparing.find_group(_find(run)) for run in runs]
    result: comparing.Comparison | comparing.GroupComparison
    if len(groups) == 2 and all(group.single for group in groups):
        result = comparing.compare_two(
            groups[0].runs[0], groups[1].runs[0], comparing.parse_tolerances(tolerance or ())
        )
        different = result.verdict is comparing.Verdict.DIFFERENT
    else:
        result = comparing.compare_groups(groups)
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


@app.command
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
    from gainakt.report.comparison import write_comparison
    from gainakt.report.page import write_report

    folders = [_find(run) for run in runs]
    if len(folders) == 1 and folders[0].config.is_file():
        page = write_report(folders[0], out, data)
    elif data is not None:
        raise GainaktError("--data goes with the report of a single run")
    else:
        page = write_comparison(folders, out)
    _print_result({"report": str(page)}, as_json, page)
    return 0


@app.command
@with_parameters
def crossval(
    *,
    config: Annotated[
        str | None, Parameter(help="Named configuration or JSON file; flags go on top.")
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Prepared data set; without it, simulated students.")
    ] = None,
    folds: Annotated[
        list[int] | None,
        Parameter(negative=(), consume_multiple=True, help="Folds to validate on (all)."),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        Parameter(negative=(), consume_multiple=True, help="Seeds to train with (`all`)."),
    ] = None,
    rotate_test: Annotated[
        bool,
        Parameter(
            name=("--rotate_test", "--rotate-test"),
            negative=(),
            help="Each fold tests in turn and the one after it validates.",
        ),
    ] = False,
    jobs: Annotated[
        int | None, Parameter(help="Runs at a time; the cores are shared out among them.")
    ] = None,
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
    _print_result(summary.as_dict(), as_json, summary.text())
    return 0


def _typed() -> str:
    return shlex.join(["gainakt", *sys.argv[1:]])


def _find(run: str) -> RunFolder:
    from gainakt.experiment.folder import RunFolder

    return RunFolder.find(run, OUT)


if __name__ == "__main__":
    main()
