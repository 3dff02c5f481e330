"""A prepared data set is read back exactly, and every kind of damage is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gainakt.data import interactions
from gainakt.data.contents import ContentHash
from gainakt.data.interactions import (
    ARRAYS_FOLDER,
    MANIFEST_FILE,
    TABLE_FILE,
    load_dataset,
    skill_order,
)
from gainakt.data.writing import write_dataset
from gainakt.errors import DataError

ROWS = {
    "student_id": ["b", "b", "b", "a", "a", "a", "c", "c", "c", "c"],
    "order": [0, 1, 2, 0, 1, 2, 0, 1, 1, 2],
    "skill_id": ["10", "9", "10", "9", "9", "2", "2", "10", "9", "2"],
    "correct": [1, 0, 1, 0, 0, 1, 1, 1, 1, 0],
    "question_id": ["q1", "q2", "q1", "é", "", "q", "q", "r", "r", "s"],
    "fold": [0, 0, 0, -1, -1, -1, 1, 1, 1, 1],
}


def table(**changes: Any) -> pa.Table:
    columns = {**ROWS, **changes}
    fields = [(name, interactions.COLUMN_TYPES[name]) for name in columns]
    return pa.table(columns, schema=pa.schema(fields))


def write(out: Path, *tables: pa.Table) -> interactions.Dataset:
    return write_dataset(
        out,
        tables,
        name="small",
        reader="test",
        split_method="by hand",
        sources=[],
        filters=[],
        options={},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "small", table()).path


def test_arrays_are_those_of_the_table(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.name == "small"
    assert data.student_ids == ["b", "a", "c"]
    assert data.skill_ids == ("2", "9", "10")
    assert data.n_skills == 3
    assert data.rows.skill.tolist() == [2, 1, 2, 1, 1, 0, 0, 2, 1, 0]
    assert data.rows.response.tolist() == ROWS["correct"]
    assert data.offsets.tolist() == [0, 3, 6, 10]
    assert data.folds.tolist() == [0, -1, 1]
    kinds = [data.rows.skill.dtype, data.rows.response.dtype, data.offsets.dtype, data.folds.dtype]
    assert kinds == [np.int32, np.int8, np.int64, np.int8]
    assert data.column("order").tolist() == ROWS["order"]
    assert data.column("question_id").tolist() == ROWS["question_id"]


def test_manifest_counts_and_splits(folder: Path) -> None:
    manifest = load_dataset(folder).manifest
    assert manifest["counts"] == {"students": 3, "interactions": 10, "answers": 9, "skills": 3}
    assert manifest["splits"] == {
        "method": "by hand",
        "test": {"students": 1, "interactions": 3},
        "folds": [
            {"fold": 0, "students": 1, "interactions": 3},
            {"fold": 1, "students": 1, "interactions": 4},
        ],
    }
    files = {path.name for path in folder.iterdir()}
    assert files == {TABLE_FILE, MANIFEST_FILE, ARRAYS_FOLDER}


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_students_may_straddle_batches(
    folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_dataset(folder)
    monkeypatch.setattr(interactions, "_BATCH_ROWS", rows)
    shutil.rmtree(folder / ARRAYS_FOLDER)
    pieces = load_dataset(folder)
    assert pieces.student_ids == whole.student_ids
    assert pieces.differences(whole) == []


def test_splits_are_by_student(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.students("train", 0).tolist() == [2]
    assert data.students("valid", 0).tolist() == [0]
    assert data.students("test", 0).tolist() == [1]


def test_missing_fold_and_split_say_what_there_is(folder: Path) -> None:
    data = load_dataset(folder)
    with pytest.raises(DataError, match="no fold 7; its folds are 0, 1"):
        data.students("valid", 7)
    with pytest.raises(DataError, match="no fold -1"):
        data.students("train", -1)
    with pytest.raises(DataError, match="allowed are train, valid and test"):
        data.students("validation", 0)
    with pytest.raises(DataError, match="no column 'colour'; it has student_id, order"):
        data.column("colour")


def test_no_students_to_train_or_test_on(tmp_path: Path) -> None:
    data = write(tmp_path / "one", table(fold=[0] * 10))
    with pytest.raises(DataError, match="no train students"):
        data.students("train", 0)
    with pytest.raises(DataError, match="no test students"):
        data.students("test", 0)


def test_content_hash_ignores_encoding_but_no_value(folder: Path) -> None:
    stored = pq.read_table(folder / TABLE_FILE)
    pq.write_table(
        stored, folder / TABLE_FILE, row_group_size=3, compression="none", use_dictionary=False
    )
    assert load_dataset(folder).rows.response.tolist() == ROWS["correct"]

    def digest(*tables: pa.Table) -> str:
        content = ContentHash({name: interactions.COLUMN_TYPES[name] for name in ROWS})
        for each in tables:
            content.update(each)
        return content.hexdigest()

    whole = digest(table())
    assert whole == digest(table().slice(0, 4), table().slice(4, 0), table().slice(4))
    changes = {
        "student_id": ["bb", "", *ROWS["student_id"][2:]],
        "order": [0, 1, 2, 0, 1, 2, 0, 1, 1, 3],
        "correct": [0] * 10,
        "skill_id": ["9", "10", *ROWS["skill_id"][2:]],
        "question_id": [*ROWS["question_id"][:-1], "t"],
        "fold": [1] * 10,
    }
    digests = {digest(table(**{name: values})) for name, values in changes.items()}
    assert len(digests | {whole}) == len(changes) + 1


def edit_manifest(folder: Path, **changes: Any) -> None:
    file = folder / MANIFEST_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_table(folder: Path, edited: pa.Table) -> None:
    pq.write_table(edited, folder / TABLE_FILE)


DAMAGE = {
    "no folder": (shutil.rmtree, "not a folder"),
    "no table": (lambda f: (f / TABLE_FILE).unlink(), "interactions.parquet is missing"),
    "no manifest": (lambda f: (f / MANIFEST_FILE).unlink(), "manifest.json is missing"),
    "manifest cut": (lambda f: (f / MANIFEST_FILE).write_text("{"), "cannot be read as JSON"),
    "manifest a list": (lambda f: (f / MANIFEST_FILE).write_text("[]"), "JSON object, not list"),
    "manifest not UTF-8": (lambda f: (f / MANIFEST_FILE).write_bytes(b"\xff"), "read as JSON"),
    "format version": (lambda f: edit_manifest(f, format_version=99), "format_version 99"),
    "manifest key": (lambda f: edit_manifest(f, counts=None), "'counts' is missing"),
    "manifest counts": (
        lambda f: edit_manifest(f, counts={"students": 4, "interactions": 10, "skills": 3}),
        "counts 4 students, but interactions.parquet has 3",
    ),
    "skill order": (
        lambda f: edit_manifest(f, skills=["10", "9", "2"]),
        "does not list the skills",
    ),
    "skill unknown": (
        lambda f: edit_manifest(f, skills=["2", "9", "11"]),
        "'skills' does not list",
    ),
    "hash": (lambda f: edit_manifest(f, interactions_sha256="0" * 64), "does not match the hash"),
    "table empty": (lambda f: (f / TABLE_FILE).write_bytes(b""), "damaged"),
    "table not Parquet": (lambda f: (f / TABLE_FILE).write_text("a,b\n1,2\n"), "damaged"),
    "table cut": (
        lambda f: (f / TABLE_FILE).write_bytes((f / TABLE_FILE).read_bytes()[:-20]),
        "damaged",
    ),
    "one answer": (lambda f: edit_table(f, table(correct=[0] * 10)), "does not match the hash"),
    "a row less": (lambda f: edit_table(f, table().slice(1)), "does not match the hash"),
    "column gone": (lambda f: edit_table(f, table().drop(["fold"])), "no column 'fold'"),
    "column more": (
        lambda f: edit_table(f, table().append_column("x", [[1] * 10])),
        "unknown column 'x'",
    ),
    "column type": (
        lambda f: edit_table(
            f, table().set_column(3, "correct", pa.array(ROWS["correct"], pa.int64()))
        ),
        "'correct' is int64, must be int8",
    ),
    "empty cell": (
        lambda f: edit_table(f, table(skill_id=[None, *ROWS["skill_id"][1:]])),
        "'skill_id' has empty cells",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(folder: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    load_dataset(folder)
    damage(folder)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)


def test_a_flipped_byte_never_goes_unnoticed(folder: Path) -> None:
    good = (folder / TABLE_FILE).read_bytes()
    sane = load_dataset(folder)
    for position in range(4, len(good) - 8, 37):
        bad = bytearray(good)
        bad[position] ^= 0x55
        (folder / TABLE_FILE).write_bytes(bad)
        try:
            data = load_dataset(folder)
        except DataError:
            continue
        # Bytes that carry no value (statistics, the writer's name) may change.
        np.testing.assert_array_equal(data.rows.skill, sane.rows.skill)
        np.testing.assert_array_equal(data.rows.response, sane.rows.response)


def test_students_in_pieces_or_in_two_folds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not contiguous|counts"):
        write(tmp_path / "a", table(student_id=["b", "a"] * 5))
    with pytest.raises(DataError, match="two folds"):
        write(tmp_path / "b", table(fold=[0, 1] * 5))


def test_skills_are_sorted_as_numbers_only_when_all_are() -> None:
    assert skill_order(["10", "9", "-2", "9"]) == ["-2", "9", "10"]
    assert skill_order(["10", "9", "a"]) == ["10", "9", "a"]
    assert skill_order(["1", "01"]) == ["01", "1"]


def test_loading_needs_neither_polars_nor_dataframely(folder: Path) -> None:
    code = (
        "import sys; from gainakt.data.interactions import load_dataset; "
        "import gainakt.data.splits, gainakt.data.simulate; "
        f"load_dataset({str(folder)!r}); "
        "print([m for m in ('polars', 'dataframely', 'torch') if m in sys.modules])"
    )
    root = Path(interactions.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"


def test_loading_is_fast(tmp_path: Path) -> None:
    students = np.repeat(np.arange(20_000), 35)
    rng = np.random.default_rng(0)
    big = pa.table(
        {
            "student_id": pa.array(students).cast(pa.string()),
            "order": pa.array(np.tile(np.arange(35), 20_000), pa.int32()),
            "skill_id": pa.array(rng.integers(0, 100, len(students))).cast(pa.string()),
            "correct": pa.array(rng.integers(0, 2, len(students)), pa.int8()),
            "fold": pa.array(students % 6 - 1, pa.int8()),
        }
    )
    folder = write(tmp_path / "big", big).path
    best = min(_seconds(folder) for _ in range(3))
    assert best < 1.0


def _seconds(folder: Path) -> float:
    start = time.perf_counter()
    load_dataset(folder)
    return time.perf_counter() - start
