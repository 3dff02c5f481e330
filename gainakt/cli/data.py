"""Verbs that make data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gainakt.cli.shared import (
    Json,
    Quiet,
)
from gainakt.errors import GainaktError
from gainakt.words import counted


def prepare(
    reader: str | None = None,
    source: Path | None = None,
    *,
    out: Annotated[Path | None, Parameter(help="Folder to make.")] = None,
    name: Annotated[str | None, Parameter(help="Name of the data set.")] = None,
    list_readers: Annotated[
        bool, Parameter(name="--list", negative=(), help="List the readers and what they take.")
    ] = False,
    split: Annotated[
        Literal["pykt", "hash"],
        Parameter(help="How to split students where the source has no folds."),
    ] = "pykt",
    pseudonyms: Annotated[
        Path | None,
        Parameter(help="Table that gives students other names; made, or gone on with."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Annotated[str, Parameter(help="What the reader takes besides; see --list.")],
) -> int:
    """Prepare raw data: `gainakt prepare pykt data/assist2015 --out data/as2015`.

    Parameters
    ----------
    reader
        Raw format; `gainakt prepare --list` names them; `auto` finds out.
    source
        File or folder to read.
    """
    from gainakt.data.prepare import AUTO, recognise
    from gainakt.data.prepare import prepare as prepare_data
    from gainakt.data.readers import READERS

    if list_readers:
        for key, known in READERS.items():
            print(f"{key:12} {known.source}")
            for option, meaning in known.options.items():
                print(f"{'':14}--{option.replace('_', '-'):13} {meaning}")
        return 0
    for label, value in (("READER", reader), ("SOURCE", source), ("--out DIR", out)):
        if value is None:
            raise GainaktError(f"prepare needs {label}; see gainakt prepare --help")
    assert reader is not None and source is not None and out is not None
    if reader == AUTO:
        reader, why = recognise(source)
        if not quiet and not as_json:
            print(f"read by {reader}: {why}")
    given = {option.replace("-", "_"): value for option, value in options.items()}
    dataset = prepare_data(
        reader, source, out, name=name, split=split, pseudonyms=pseudonyms, **given
    )
    return _say_dataset(dataset.path, dataset.manifest, quiet, as_json)


def simulate(
    *,
    out: Annotated[Path, Parameter(help="Folder to make.")],
    students: Annotated[int, Parameter(help="Students to simulate.")] = 2000,
    skills: Annotated[int, Parameter(help="Skills they practise.")] = 20,
    seed: Annotated[int, Parameter(help="Same seed, same bytes.")] = 42,
    forgetting: Annotated[
        float, Parameter(help="Chance to forget a mastered skill at each step.")
    ] = 0.0,
    questions: Annotated[int, Parameter(help="Questions of each skill; 0 for none.")] = 0,
    days: Annotated[
        float, Parameter(help="Mean days between days of practice; 0 for answers without times.")
    ] = 0.0,
    half_life: Annotated[
        float, Parameter(help="Days without practice in which half of a mastery is lost; 0: none.")
    ] = 0.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Simulate students of known mastery: `gainakt simulate --out data/sim --students 5000`."""
    from gainakt.data.simulate import simulate as simulate_data

    dataset = simulate_data(
        out,
        students=students,
        skills=skills,
        seed=seed,
        forgetting=forgetting,
        questions=questions,
        days=days,
        half_life=half_life,
    )
    practised = dataset.manifest["counts"]["skills"]
    if practised < skills and not quiet and not as_json:
        print(f"note: {practised:,} of {skills:,} skills were practised; more students reach more")
    return _say_dataset(dataset.path, dataset.manifest, quiet, as_json)


def _say_dataset(path: Path, manifest: dict[str, Any], quiet: bool, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"path": str(path), **manifest}))
        return 0
    counts = manifest["counts"]
    print(
        f"{manifest['name']}: {counted(counts['students'], 'student')}, "
        f"{counted(counts['interactions'], 'interaction')}, {counted(counts['skills'], 'skill')}"
    )
    if not quiet:
        for entry in manifest["filters"]:
            print(
                f"left out by {entry['name']}: {counted(entry['rows_removed'], 'row')}, "
                f"{counted(entry['students_removed'], 'student')} ({entry['reason']})"
            )
        for note in manifest.get("notes", []):
            print(f"note: {note['count']:,} {note['text']}")
        folds = ", ".join(f"{fold['students']:,}" for fold in manifest["splits"]["folds"])
        print(f"folds of {folds} students; test: {manifest['splits']['test']['students']:,}")
    print(f"prepared in {path}")
    return 0
