"""The arrays beside a table: made once, whole or not at all, and never those of another table."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gainakt.data import interactions, mapped
from gainakt.data.interactions import ARRAYS_FOLDER, MANIFEST_FILE, TABLE_FILE, load_dataset
from gainakt.data.mapped import Piece, TextColumn, open_arrays, release, text_at
from gainakt.data.simulate import simulate
from gainakt.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return simulate(tmp_path / "data", students=50, skills=4, seed=3).path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose tables were read to make arrays."""
    seen: list[Path] = []
    read = interactions._pieces

    def counted(folder: Path, manifest: dict[str, object]) -> Iterator[Piece]:
        seen.append(folder)
        return read(folder, manifest)

    monkeypatch.setattr(interactions, "_pieces", counted)
    return seen


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ARRAYS_FOLDER).iterdir())


def assert_same(a: interactions.Dataset, b: interactions.Dataset) -> None:
    assert a.differences(b) == []


def test_arrays_are_those_of_the_table(folder: Path) -> None:
    data = load_dataset(folder)
    table = pq.read_table(folder / TABLE_FILE)
    owner = np.repeat(np.array(data.student_ids), np.diff(data.offsets))
    assert owner.tolist() == table["student_id"].to_pylist()
    assert [data.skill_ids[code] for code in data.rows.skill] == table["skill_id"].to_pylist()
    assert data.rows.response.tolist() == table["correct"].to_pylist()
    assert data.rows.order.tolist() == table["order"].to_pylist()
    assert np.repeat(data.folds, np.diff(data.offsets)).tolist() == table["fold"].to_pylist()


def test_a_second_run_reads_no_table(folder: Path, reads: list[Path]) -> None:
    assert len(inside(folder)) == 1
    load_dataset(folder)
    assert reads == []


def test_nothing_that_is_written_to_an_array_reaches_the_disk(folder: Path) -> None:
    data = load_dataset(folder)
    before = data.rows.response.copy()
    data.rows.response[:] = 7
    np.testing.assert_array_equal(load_dataset(folder).rows.response, before)


def test_arrays_of_an_older_table_are_not_used_and_go(folder: Path, tmp_path: Path) -> None:
    (old,) = inside(folder)
    other = simulate(tmp_path / "other", students=50, skills=4, seed=4)
    for name in (TABLE_FILE, MANIFEST_FILE):
        (folder / name).write_bytes((other.path / name).read_bytes())
    assert_same(load_dataset(folder), other)
    (new,) = inside(folder)
    assert new != old


def test_a_table_that_was_touched_is_verified_again(folder: Path, reads: list[Path]) -> None:
    os.utime(folder / TABLE_FILE, (1, 1))
    load_dataset(folder)
    assert reads == [folder]
    bad = bytearray((folder / TABLE_FILE).read_bytes())
    bad[len(bad) // 2] ^= 0xFF
    (folder / TABLE_FILE).write_bytes(bad)
    with pytest.raises(DataError, match=r"damaged|does not match"):
        load_dataset(folder)


@pytest.mark.parametrize("name", ["skill.npy", "offsets.npy", mapped.STUDENTS_FILE])
@pytest.mark.parametrize("size", [0, 100, -1])
def test_arrays_cut_short_are_made_anew(folder: Path, name: str, size: int) -> None:
    # a copy: maps of a file that is cut in place end with it
    whole = load_dataset(folder).part(np.arange(50))
    (key,) = inside(folder)
    file = folder / ARRAYS_FOLDER / key / name
    file.write_bytes(file.read_bytes()[:size])
    assert_same(load_dataset(folder), whole)
    assert inside(folder) == [key]


@pytest.mark.parametrize("whole", [True, False], ids=["read whole", "by its stamp"])
def test_arrays_that_someone_changed_are_made_anew(
    whole: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_dataset(folder).part(np.arange(50))
    (key,) = inside(folder)
    file = folder / ARRAYS_FOLDER / key / "response.npy"
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    # a new file, as an editor writes; maps of the old one keep what they have
    file.unlink()
    file.write_bytes(content)
    if whole:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        monkeypatch.setattr(mapped, "READ_WHOLE", 0)
    assert_same(load_dataset(folder), before)
    assert inside(folder) == [key]


def test_arrays_that_were_copied_are_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has other times; what it holds counts."""
    load_dataset(folder)
    (key,) = inside(folder)
    monkeypatch.setattr(mapped, "READ_WHOLE", 0)
    arrays = folder / ARRAYS_FOLDER / key
    for path in arrays.iterdir():
        os.utime(path, ns=(1, 1))
    assert mapped._intact(arrays)


def test_a_table_that_is_refused_leaves_no_arrays(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["interactions_sha256"] = "0" * 64
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="does not match the hash"):
        load_dataset(folder)
    assert inside(folder) == []


def test_students_in_two_folds_are_noticed_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = simulate(tmp_path / "data", students=3, skills=2).path
    table = pq.read_table(folder / TABLE_FILE)
    folds = table["fold"].to_pylist()
    folds[0] += 1
    names = table.column_names
    edited = table.set_column(names.index("fold"), "fold", pa.array(folds, pa.int8()))
    pq.write_table(edited, folder / TABLE_FILE)
    monkeypatch.setattr(interactions, "_BATCH_ROWS", 1)
    with pytest.raises(DataError, match="two folds"):
        load_dataset(folder)


# Makes arrays in a process of its own, where it can be stopped after the first batch.
SLOWLY = """
import sys, time
from gainakt.data import interactions
interactions._BATCH_ROWS = 100
piece = interactions._Reading.piece
def slowly(self, batch):
    print("reading", flush=True)
    time.sleep(float(sys.argv[2]))
    return piece(self, batch)
interactions._Reading.piece = slowly
data = interactions.load_dataset(sys.argv[1])
print(len(data.rows.skill), flush=True)
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(interactions.__file__).parents[2])},
    )


def take_arrays_away(folder: Path) -> int:
    """Leave the table alone; returns how many rows it has."""
    rows = len(load_dataset(folder).rows)
    (key,) = inside(folder)
    (folder / ARRAYS_FOLDER / key).rename(folder.parent / "away")
    return rows


def test_a_maker_that_is_killed_leaves_nothing_that_counts(folder: Path) -> None:
    rows = take_arrays_away(folder)
    maker = start(folder, 60)
    assert maker.stdout is not None and maker.stdout.readline() == "reading\n"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    (left,) = inside(folder)
    assert left.endswith(".unfinished")
    assert len(load_dataset(folder).rows) == rows
    # the next maker clears up behind the dead one
    (key,) = inside(folder)
    assert left.startswith(key) and left != key


def test_two_processes_at_once_share_one_set_of_arrays(folder: Path) -> None:
    rows = take_arrays_away(folder)
    makers = [start(folder, 0.02) for _ in range(2)]
    said = [maker.communicate()[0].split() for maker in makers]
    assert [words[-1] for words in said] == [str(rows)] * 2
    # the second waited, and found the arrays made
    assert min(len(words) for words in said) == 1
    assert len(inside(folder)) == 1


def test_without_locks_the_slower_maker_takes_what_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "fcntl", None)
    whole = load_dataset(folder)
    (key,) = inside(folder)
    mapped._make(folder / ARRAYS_FOLDER, key, ["skill"], iter(()), remove_others=False)
    assert inside(folder) == [key]
    assert_same(load_dataset(folder), whole)


@pytest.mark.parametrize("trouble", ["a file in the way", "a full disk"])
def test_where_nothing_can_be_written_arrays_are_made_in_passing(
    folder: Path,
    tmp_path: Path,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = load_dataset(folder)
    (folder / ARRAYS_FOLDER).rename(tmp_path / "away")
    if trouble == "a full disk":

        def full(*arguments: object, **more: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(mapped, "_make", full)
    else:
        (folder / ARRAYS_FOLDER).write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(mapped.tempfile, "tempdir", str(temporary))
    with caplog.at_level(logging.WARNING):
        assert_same(load_dataset(folder), whole)
    (record,) = caplog.records
    assert "cannot be written" in record.message and str(temporary) in record.message
    assert list(temporary.iterdir()) == []


def test_no_place_at_all_is_said(folder: Path, tmp_path: Path, monkeypatch) -> None:
    (folder / ARRAYS_FOLDER).rename(tmp_path / "away")
    (folder / ARRAYS_FOLDER).write_text("")
    monkeypatch.setattr(mapped.tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="nor a temporary folder"):
        load_dataset(folder)


def test_what_the_reader_raises_is_passed_on(tmp_path: Path) -> None:
    def pieces() -> Iterator[Piece]:
        raise DataError("no")
        yield

    with pytest.raises(DataError, match="no"):
        open_arrays(tmp_path / "arrays", "key", 1, 1, ["skill"], pieces)
    assert list((tmp_path / "arrays").iterdir()) == []


def column(*chunks: list[str]) -> TextColumn:
    return TextColumn(pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks]))


def test_a_text_column_is_a_sequence() -> None:
    words = column(["b", "a"], [], ["é", "b"])
    assert len(words) == 4
    assert [words[0], words[-1], words[np.int64(2)]] == ["b", "b", "é"]
    assert words[1:3] == ["a", "é"] and words[::-1] == ["b", "é", "a", "b"] and words[9:] == []
    assert words == ["b", "a", "é", "b"] and words == column(["b", "a", "é", "b"])
    assert words != ["b", "a"] and words != "baéb" and words != ["b", "a", "e", "b"]
    assert "é" in words and "c" not in words and 3 not in words
    assert words.index("b") == 0 and words.index("b", 1) == 3 and words.index("é") == 2
    assert sorted(words) == ["a", "b", "b", "é"]
    with pytest.raises(ValueError):
        words.index("c")
    with pytest.raises(IndexError):
        words[4]
    for texts in (words, list(words)):
        assert text_at(texts, np.array([3, 0, 2])).to_pylist() == ["b", "b", "é"]
        assert text_at(texts, np.array([], np.int64)).to_pylist() == []


def test_released_pages_come_back(folder: Path) -> None:
    data = load_dataset(folder)
    before = data.rows.skill.copy()
    own = np.arange(3)
    release(data.rows.skill, own)
    np.testing.assert_array_equal(data.rows.skill, before)
    assert own.tolist() == [0, 1, 2]


def test_a_part_is_the_data_set_of_its_students(folder: Path) -> None:
    data = load_dataset(folder)
    chosen = np.array([7, 3, 49])
    part = data.part(chosen)
    assert part.student_ids == [data.student_ids[s] for s in chosen]
    assert part.folds.tolist() == data.folds[chosen].tolist()
    for i, s in enumerate(chosen):
        own, there = slice(*part.offsets[[i, i + 1]]), slice(*data.offsets[[s, s + 1]])
        for name, values in data.rows.present().items():
            np.testing.assert_array_equal(getattr(part.rows, name)[own], values[there])
        for name in ("correct", "true_mastery"):
            np.testing.assert_array_equal(part.column(name)[own], data.column(name)[there])
    assert part.part(np.array([1])).student_ids == [data.student_ids[3]]


def test_opening_is_quick_however_long_the_table(folder: Path) -> None:
    began = time.process_time()
    for _ in range(20):
        load_dataset(folder)
    assert time.process_time() - began < 1.0
