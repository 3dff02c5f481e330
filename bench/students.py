"""The students that benchmarks run on: pyKT's files where they are at hand, else simulated ones.

Simulated students are written as the same two CSV files, so that every benchmark runs anywhere.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# About as many students, skills and answers as ASSISTments 2015 has.
STUDENTS, SKILLS, MEAN_LENGTH = 19_000, 100, 36.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --data, --fold and --students to a benchmark's options."""
    known = os.environ.get("GAINAKT_DATA")
    folder = Path(known) / "assist2015" if known else None
    parser.add_argument(
        "--data",
        type=Path,
        default=folder if folder and folder.is_dir() else None,
        help="folder with pyKT's train_valid.csv and test.csv; by default assist2015 in the folder "
        "that GAINAKT_DATA names; without it the students are simulated",
    )
    parser.add_argument("--fold", type=int, default=0, help="the fold that validates")
    parser.add_argument("--students", type=int, default=STUDENTS, help="how many to simulate")


def described(given: argparse.Namespace) -> str:
    """Say which students a table is about."""
    if given.data is not None:
        return f"{given.data.name}, fold {given.fold} validates"
    return f"{given.students:,} simulated students, since no --data was given or found"


def csv_folder(given: argparse.Namespace, temporary: Path) -> Path:
    """Return the folder with train_valid.csv and test.csv, simulated below `temporary` if need be.

    Raises:
        SystemExit: `--data` lacks a file.
    """
    if given.data is None:
        return _simulated(given.students, temporary)
    for name in ("train_valid.csv", "test.csv"):
        if not (given.data / name).is_file():
            raise SystemExit(f"{given.data} has no {name}: give a folder with pyKT's two csv files")
    folder: Path = given.data
    return folder


def prepared(csv: Path, temporary: Path) -> Path:
    """Prepare the students of `csv_folder` for our models; return the data set's folder."""
    from gainakt.data.prepare import prepare

    return prepare("pykt", csv, temporary / "prepared").path


def _simulated(students: int, temporary: Path) -> Path:
    from gainakt.data.simulate import simulate

    made = simulate(
        temporary / "simulated", students=students, skills=SKILLS, mean_length=MEAN_LENGTH
    )
    out = temporary / "csv"
    out.mkdir()
    for name, is_test in (("train_valid", False), ("test", True)):
        with (out / f"{name}.csv").open("w", encoding="utf-8") as file:
            file.write("fold,uid,concepts,responses\n")
            for student, fold in enumerate(made.folds.tolist()):
                if (fold < 0) is not is_test:
                    continue
                rows = slice(int(made.offsets[student]), int(made.offsets[student + 1]))
                concepts, responses = (
                    ",".join(map(str, values[rows].tolist()))
                    for values in (made.rows.skill, made.rows.response)
                )
                file.write(f'{fold},{student},"{concepts}","{responses}"\n')
    return out
