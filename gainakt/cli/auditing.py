"""The verb that looks for what makes a figure too good."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from gainakt.cli.shared import DataFolder, Json, Quiet, find, print_result
from gainakt.errors import GainaktError


def audit(
    run: Annotated[
        str | None,
        Parameter(help="Experiment folder, or the start of its name in experiments/."),
    ] = None,
    *,
    split: Annotated[
        Literal["valid", "test"], Parameter(help="Whose predictions to audit.")
    ] = "test",
    students: Annotated[
        int, Parameter(help="Students whose histories are changed to see predictions move.")
    ] = 200,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Look for leaks: the future, sibling skills, students in two splits, answers that tell.

    Five audits, each PASS, FAIL or NOT APPLICABLE; exit code 1 when one fails. They are kept in
    audit.json of the run. For example: `gainakt audit experiments/20260101_120000_gainsum_run`.
    """
    if students < 1:
        raise GainaktError(f"--students = {students}: at least 1 is needed")
    if run is None:
        raise GainaktError("audit needs a run")
    folder = find(run)
    from gainakt.experiment.audit import audit_run
    from gainakt.experiment.console import RunConsole

    with RunConsole(quiet) as console:
        found = audit_run(folder, data, split=split, students=students, say=console.say)
    print_result(found.as_dict(), as_json, found.text())
    return 0 if found.passed else 1
