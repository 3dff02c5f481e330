"""Nothing is lost between a source and the arrays, whatever the source holds."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gainakt.data.interactions import MANIFEST_FILE, TABLE_FILE, Dataset, load_dataset
from gainakt.data.prepare import prepare

Row = tuple[str, str, int, int]

IDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Z")), min_size=1, max_size=5
)
SOURCES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]) | IDS, IDS, st.integers(0, 1), st.integers(-3, 3)
    ),
    min_size=4,
    max_size=40,
)


def write_csv(path: Path, header: str, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def expected_histories(rows: list[Row]) -> dict[str, list[tuple[str, int]]]:
    """By definition: students in order of first appearance, each by step, ties as they came."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return {
        student: [(skill, correct) for _, skill, correct, _ in sorted(own, key=lambda row: row[3])]
        for student, own in found.items()
        if len(own) >= 3
    }


def loaded_histories(data: Dataset) -> dict[str, list[tuple[str, int]]]:
    skills = [data.skill_ids[code] for code in data.rows.skill]
    pairs = list(zip(skills, data.rows.response.tolist(), strict=True))
    return {
        student: pairs[data.offsets[index] : data.offsets[index + 1]]
        for index, student in enumerate(data.student_ids)
    }


@settings(deadline=None, max_examples=25)
@given(SOURCES)
def test_every_interaction_comes_back(rows: list[Row]) -> None:
    expected = expected_histories(rows)
    assume(len({correct for history in expected.values() for _, correct in history}) == 2)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "raw.csv"
        write_csv(source, "student,skill,correct,step", rows)
        mapping = {"student": "student", "skill": "skill", "correct": "correct", "order": "step"}
        data = prepare("generic", source, Path(place) / "out", **mapping)
        found = loaded_histories(data)
    assert found == expected
    assert list(found) == list(expected)
    removed = data.manifest["filters"][0]
    assert len(rows) == len(data.rows.response) + removed["rows_removed"]
    assert len({row[0] for row in rows}) == len(data.student_ids) + removed["students_removed"]
    splits = data.manifest["splits"]
    parts = [splits["test"], *splits["folds"]]
    assert sum(part["students"] for part in parts) == len(data.student_ids)
    assert sum(part["interactions"] for part in parts) == len(data.rows.response)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=6, max_size=40))
def test_every_student_is_in_one_split(rows: list[tuple[int, int]]) -> None:
    """Train, valid and test of every fold are a partition of the students."""
    wide = [(f"s{student}", f"k{skill}", n % 2, n) for n, (student, skill) in enumerate(rows)]
    wide += [(f"t{n // 3}", "k0", n % 2, n) for n in range(30)]
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "raw.csv"
        write_csv(source, "student,skill,correct,step", wide)
        mapping = {"student": "student", "skill": "skill", "correct": "correct"}
        data = prepare("generic", source, Path(place) / "out", **mapping)
    everyone = list(range(len(data.student_ids)))
    valid = [data.students("valid", fold) for fold in range(5)]
    assert sorted(np.concatenate([*valid, data.students("test")]).tolist()) == everyone
    for fold in range(5):
        parts = [data.students(split, fold) for split in ("train", "valid", "test")]
        assert sorted(np.concatenate(parts).tolist()) == everyone


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "raw.csv"
    rows = [(f"s{n % 7}", f"{n % 5}", int(n % 3 == 0), n) for n in range(70)]
    write_csv(path, "student,skill,correct,step", rows)
    return path


MAPPING = {"student": "student", "skill": "skill", "correct": "correct"}


def test_the_same_source_gives_the_same_table(source: Path, tmp_path: Path) -> None:
    one = prepare("generic", source, tmp_path / "one", **MAPPING, name="x")
    two = prepare("generic", source, tmp_path / "two", **MAPPING, name="x")
    assert (one.path / TABLE_FILE).read_bytes() == (two.path / TABLE_FILE).read_bytes()
    manifests = [json.loads((data.path / MANIFEST_FILE).read_text()) for data in (one, two)]
    for manifest in manifests:
        del manifest["created"]
    assert manifests[0] == manifests[1]


def test_manifest_says_where_the_data_are_from(source: Path, tmp_path: Path) -> None:
    data = prepare("generic", source, tmp_path / "deep" / "er" / "out", **MAPPING)
    manifest = data.manifest
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["sources"] == [
        {"file": "raw.csv", "bytes": source.stat().st_size, "sha256": digest}
    ]
    assert manifest["name"] == "raw" and manifest["reader"] == "generic"
    assert manifest["options"] == MAPPING
    assert manifest["created"].endswith("+00:00")
    assert manifest["skills"] == ["0", "1", "2", "3", "4"]
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_prepared_folder_can_be_moved(source: Path, tmp_path: Path) -> None:
    data = prepare("generic", source, tmp_path / "out", **MAPPING)
    shutil.move(data.path, tmp_path / "elsewhere")
    moved = load_dataset(tmp_path / "elsewhere")
    assert moved.path == tmp_path / "elsewhere"
    assert moved.student_ids == data.student_ids


def test_byte_order_mark_and_carriage_returns_mean_nothing(source: Path, tmp_path: Path) -> None:
    windows = tmp_path / "windows.csv"
    windows.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    unix = tmp_path / "unix.csv"
    unix.write_bytes(source.read_bytes().replace(b"\r\n", b"\n"))
    assert windows.read_bytes().count(b"\r\n") == 71
    hashes = {
        prepare("generic", path, tmp_path / path.stem, **MAPPING).manifest["interactions_sha256"]
        for path in (source, windows, unix)
    }
    assert len(hashes) == 1
