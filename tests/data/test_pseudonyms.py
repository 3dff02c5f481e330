"""Pseudonyms: nothing of the ids is left in the data, and the owner's table leads back."""

import csv
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gainakt.data.prepare import prepare
from gainakt.errors import DataError

COLUMNS = {"student": "who", "skill": "skill", "correct": "right"}


def source(path: Path, students: list[str]) -> Path:
    rows = [(student, f"k{i}", i % 2) for student in students for i in range(4)]
    pl.DataFrame(rows, schema=["who", "skill", "right"], orient="row").write_csv(path)
    return path


def table(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: row["pseudonym"] for row in csv.DictReader(file)}


def test_no_file_of_the_data_holds_an_id(tmp_path: Path) -> None:
    students = [f"Ada, the {i}th" for i in range(12)]
    answers = source(tmp_path / "answers.csv", students)
    plain = prepare("generic", answers, tmp_path / "plain", **COLUMNS)
    names = tmp_path / "ours.csv"
    hidden = prepare("generic", answers, tmp_path / "hidden", pseudonyms=names, **COLUMNS)
    assert not any(
        b"Ada" in path.read_bytes() for path in (tmp_path / "hidden").rglob("*") if path.is_file()
    )
    known = table(names)
    assert stat.S_IMODE(names.stat().st_mode) == 0o600
    assert [known[student] for student in plain.student_ids] == list(hidden.student_ids)
    np.testing.assert_array_equal(plain.folds, hidden.folds)
    np.testing.assert_array_equal(plain.rows.skill, hidden.rows.skill)


def test_a_student_keeps_the_pseudonym_when_the_data_grow(tmp_path: Path) -> None:
    names = tmp_path / "ours.csv"
    students = [f"s{i}" for i in range(8)]
    prepare(
        "generic", source(tmp_path / "a.csv", students), tmp_path / "a", pseudonyms=names, **COLUMNS
    )
    before = table(names)
    grown = source(tmp_path / "b.csv", ["new", *students])
    prepare("generic", grown, tmp_path / "b", pseudonyms=names, **COLUMNS)
    after = table(names)
    assert {student: after[student] for student in students} == before
    assert len(set(after.values())) == 9


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "student_id,pseudonym\na,p\nb,p\n", "student_id,pseudonym\na\n"]
)
def test_what_is_no_such_table_is_not_touched(content: str, tmp_path: Path) -> None:
    names = tmp_path / "ours.csv"
    names.write_text(content, encoding="utf-8")
    answers = source(tmp_path / "a.csv", ["s", "t"])
    with pytest.raises(DataError, match="is no table of pseudonyms: it must be a CSV file"):
        prepare("generic", answers, tmp_path / "a", pseudonyms=names, **COLUMNS)
    assert names.read_text(encoding="utf-8") == content
    assert not (tmp_path / "a").exists()


def test_the_table_does_not_go_where_the_data_go(tmp_path: Path) -> None:
    answers = source(tmp_path / "a.csv", ["s", "t"])
    inside = tmp_path / "a" / "ours.csv"
    with pytest.raises(DataError, match="the table must not go where data go"):
        prepare("generic", answers, tmp_path / "a", pseudonyms=inside, **COLUMNS)
