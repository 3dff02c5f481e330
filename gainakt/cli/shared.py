"""What several verbs share: their common options, and how results are printed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from gainakt.record.folder import RunFolder


OUT = Path("experiments")


Quiet = Annotated[bool, Parameter(negative=(), help="Print no progress.")]


Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON.")]


Run = Annotated[str, Parameter(help="Experiment folder, or the start of its name in experiments/.")]


NoReport = Annotated[
    bool, Parameter(name="--no-report", negative=(), help="Draw no report.html at the end.")
]


DataFolder = Annotated[
    Path | None, Parameter(help="Prepared data set in place of the one the run recorded.")
]
Tolerance = Annotated[
    list[str] | None,
    Parameter(
        negative=(),
        consume_multiple=True,
        help="Largest difference that counts as equal (1e-4), for all metrics or METRIC=NUMBER.",
    ),
]


Folds = Annotated[
    list[int] | None,
    Parameter(negative=(), consume_multiple=True, help="Folds to validate on (all)."),
]
Seeds = Annotated[
    list[int] | None,
    Parameter(negative=(), consume_multiple=True, help="Seeds to train with (`all`)."),
]
RotateTest = Annotated[
    bool,
    Parameter(
        name=("--rotate_test", "--rotate-test"),
        negative=(),
        help="Each fold tests in turn and the one after it validates.",
    ),
]
Jobs = Annotated[int | None, Parameter(help="Runs at a time; the cores are shared out among them.")]


def print_result(values: dict[str, Any], as_json: bool, line: object) -> None:
    print(json.dumps(values) if as_json else line)


def typed() -> str:
    return shlex.join(["gainakt", *sys.argv[1:]])


def find(run: str) -> RunFolder:
    from gainakt.record.folder import RunFolder

    return RunFolder.find(run, OUT)
