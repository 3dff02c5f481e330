"""The verb that looks for what makes a figure too good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from gainakt.cli.shared import OUT, DataFolder, Json, Quiet, find, print_result
from gainakt.errors import GainaktError

_OTHER = Group("predictions of another tool", sort_key=1)


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
    export: Annotated[
        Path | None, Parameter(help="Write predictions for the tool kt-audit, and audit nothing.")
    ] = None,
    predictions: Annotated[
        Path | None,
        Parameter(group=_OTHER, help="CSV or Parquet with another tool's predictions of --data."),
    ] = None,
    name: Annotated[
        str | None, Parameter(group=_OTHER, help="Name of the model; by default the file's.")
    ] = None,
    student: Annotated[
        str | None, Parameter(group=_OTHER, help="Column with the student's id.")
    ] = None,
    position: Annotated[
        str | None,
        Parameter(group=_OTHER, help="Column with the place in the history, from 0."),
    ] = None,
    answer: Annotated[str | None, Parameter(group=_OTHER, help="Column with 0 or 1.")] = None,
    probability: Annotated[
        str | None, Parameter(group=_OTHER, help="Column with the probability of 1.")
    ] = None,
    fold: Annotated[
        int, Parameter(group=_OTHER, help="Fold that validated; the others were learnt from.")
    ] = 0,
    test_fold: Annotated[
        int,
        Parameter(
            name=("--test_fold", "--test-fold"),
            group=_OTHER,
            help="Fold that tested; -1 for the data set's own test students.",
        ),
    ] = -1,
    seed: Annotated[int, Parameter(group=_OTHER, help="Seed that the model had.")] = 0,
    out: Annotated[Path, Parameter(group=_OTHER, help="Where its folder is made.")] = OUT,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Look for leaks: the future, sibling skills, students in two splits, answers that tell.

    Five audits, each PASS, FAIL or NOT APPLICABLE; exit code 1 when one fails. They are kept in
    audit.json of the run. Of another tool's predictions what a table can show is audited, and they
    are kept in a folder that `gainakt leaderboard` reads. For example:
    `gainakt audit experiments/20260101_120000_gainsum_run`.
    """
    if students < 1:
        raise GainaktError(f"--students = {students}: at least 1 is needed")
    if (run is None) == (predictions is None):
        raise GainaktError("audit needs a run, or another tool's --predictions")
    if predictions is not None and data is None:
        raise GainaktError("--predictions needs --data: the prepared data set that they are of")
    from gainakt.experiment.console import RunConsole

    with RunConsole(quiet) as console:
        if predictions is not None and data is not None:
            from gainakt.experiment.foreign import audit_predictions

            columns = dict(
                student=student, position=position, answer=answer, probability=probability
            )
            kept, found = audit_predictions(
                predictions,
                data,
                out,
                name=name or predictions.stem,
                columns=columns,
                fold=fold,
                test_fold=test_fold,
                seed=seed,
                say=console.say,
            )
            console.say(f"kept in {kept.path}")
        else:
            folder = find(run or "")
            if export is not None:
                from gainakt.experiment.kt_audit import export_for_kt_audit

                rows = export_for_kt_audit(folder, export, data)
                print_result(
                    {"rows": rows, "file": str(export)}, as_json, f"{rows:,} rows: {export}"
                )
                return 0
            from gainakt.experiment.audit import audit_run

            found = audit_run(folder, data, split=split, students=students, say=console.say)
    print_result(found.as_dict(), as_json, found.text())
    return 0 if found.passed else 1
