"""Files as people have them: what is read from each, and what is refused rather than guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from gainakt.data.interactions import Dataset, load_dataset
from gainakt.data.mapped import MARK
from gainakt.data.prepare import prepare
from gainakt.data.readers import READERS
from gainakt.data.splits import folds_by_hash
from gainakt.errors import DataError

COLUMNS = {"student": "student", "skill": "skill", "correct": "correct"}
Read = Callable[..., Dataset]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file and prepare it."""

    def of(text: str | bytes, name: str = "x.csv", reader: str = "generic", **more: str) -> Dataset:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        options = (COLUMNS if reader == "generic" else {}) | more
        return prepare(reader, path, tmp_path / f"{name.replace('/', '_')}.out", **options)

    return of


def skills(data: Dataset) -> list[str]:
    return [data.skill_ids[code] for code in data.rows.skill]


def notes(data: Dataset) -> dict[str, int]:
    return {note["name"]: note["count"] for note in data.manifest["notes"]}


HEAD = "student,skill,correct"
DATED = f"{HEAD},at\nada,third,1,{{}}\nada,second,0,{{}}\nada,first,1,{{}}\n"


@pytest.mark.parametrize("name", ["row", "item", "file", "order", "order_key", "run", "first"])
def test_a_column_may_be_called_as_ours_are(read: Read, name: str) -> None:
    data = read(f"{name},{HEAD}\n3,ada,third,1\n1,ada,first,0\n2,ada,second,1\n", order=name)
    assert skills(data) == ["first", "second", "third"]


@pytest.mark.parametrize("name", ["answers[1].csv", "a?.csv", "*.csv", "term [2]/x.csv"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_path_is_no_pattern(tmp_path: Path, name: str, kind: str) -> None:
    for there, student in ((name, "right"), ("answers1.csv", "wrong"), ("ab.csv", "wrong")):
        path = (tmp_path / there).with_suffix(f".{kind}")
        path.parent.mkdir(exist_ok=True)
        rows = pl.DataFrame({"student": [student] * 3, "skill": list("abc"), "correct": [1, 0, 1]})
        rows.write_csv(path) if kind == "csv" else rows.write_parquet(path)
    data = prepare(
        "generic", (tmp_path / name).with_suffix(f".{kind}"), tmp_path / "out", **COLUMNS
    )
    assert list(data.student_ids) == ["right"]


@pytest.mark.parametrize(
    "times",
    [
        ("2015-03-01T09:00:00.000900", "2015-03-01T09:00:00.000500", "2015-03-01T09:00:00.000100"),
        ("2015-03-01 09:00:00.000000009", "2015-03-01 09:00:00.000000002", "2015-03-01 08:59"),
        ("2015-03-01T10:00:00+01:00", "2015-03-01T08:59:59Z", "2015-03-01T09:00:00+0200"),
        ("2015-03-03", "2015-03-02", "2015-03-01"),
        ("18446744073709551615", "18446744073709551614", "18446744073709551613"),
        ("9007199254740993.5", "9007199254740993.25", "9007199254740993"),
        ("-1", "-2.5", "-1e1"),
    ],
)
def test_answers_are_sorted_by_all_that_their_order_says(read: Read, times: list[str]) -> None:
    assert skills(read(DATED.format(*times), order="at")) == ["first", "second", "third"]


@pytest.mark.parametrize("option", ["order", "timestamp"])
@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("03/04/2015 09:00", "02/05/2015 09:00", "01/06/2015 09:00"), "--time_format"),
        (("04.03.2015", "05.03.2015", "06.03.2015"), "--time_format"),
        (
            ("2015-03-01T09:00:00Z", "2015-03-01T09:30:00", "2015-03-01T10:00:00Z"),
            "some times name",
        ),
        (("2015-13-01", "2015-01-01", "2015-01-02"), "'2015-13-01'; only"),
        (("1.56714E+12",) * 3, "spreadsheet|only whole numbers"),
    ],
)
def test_times_are_never_guessed(read: Read, times: list[str], message: str, option: str) -> None:
    with pytest.raises(DataError, match=message):
        read(DATED.format(*times), **{option: "at"})


def test_times_may_be_of_a_form_that_is_named(read: Read) -> None:
    text = DATED.format("03/04/2015 09:00", "02/05/2015 09:00", "01/06/2015 09:00")
    data = read(text, order="at", timestamp="at", time_format="%m/%d/%Y %H:%M")
    assert skills(data) == ["first", "second", "third"]
    assert data.rows.time is not None and data.rows.time.tolist()[0] == 1_420_534_800_000


def test_times_in_seconds_are_told_apart_from_milliseconds(read: Read) -> None:
    text = DATED.format("1563000000", "1562000000", "1561000000")
    data = read(text, order="at", timestamp="at", time_format="s")
    assert skills(data) == ["first", "second", "third"]
    assert data.rows.time is not None and data.rows.time.tolist()[0] == 1_561_000_000_000
    assert "times_may_be_seconds" not in [note["name"] for note in data.manifest["notes"]]
    guessed = read(text, "guessed.csv", timestamp="at")
    assert guessed.rows.time is not None and guessed.rows.time.tolist()[0] == 1_563_000_000
    assert "times_may_be_seconds" in [note["name"] for note in guessed.manifest["notes"]]


STRAY = (
    'student\tstep\tskill\tcorrect\nada\t"x\ta\t1\nada\ty\tb\t0\nada\tz"\tc\t1\n'
    "ada\tw\td\t1\nada\tw\te\t0\n"
)
TRIPLE = f'{HEAD},note\nada,a,1,"""\nada,b,0,x\nada,c,1,"""\nada,d,1,y\nada,e,0,y\nada,f,0,y\n'


@pytest.mark.parametrize(("text", "name"), [(STRAY, "x.tsv"), (TRIPLE, "x.csv")])
def test_a_quote_that_swallows_rows_is_refused(read: Read, text: str, name: str) -> None:
    with pytest.raises(DataError, match=r"row 2: a quoted cell goes on over 3 lines"):
        read(text, name)
    data = read(text, name, quote="none")
    assert len(data.rows) == text.count("ada")


def test_line_breaks_that_are_meant_are_counted_and_rows_are_lines(read: Read) -> None:
    text = f'{HEAD},note\nada,a,1,"so\nit goes"\nada,b,0,x\nada,c,1,y\n'
    assert notes(read(text)) == {"line_breaks": 1}
    with pytest.raises(DataError, match="row 5, column 'correct': '7'"):
        read(text.replace("ada,c,1", "ada,c,7").replace("x.csv", "y.csv"), "y.csv")


def test_columns_of_one_name_are_refused(read: Read) -> None:
    with pytest.raises(DataError, match="several columns 'correct'"):
        read(f"{HEAD},correct\nada,a,1,0\nada,b,0,1\nada,c,1,0\n")


@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\ufffe", "\uffff", "\ufdd0", "\U0001fffe", "\x85", "\x00"]
)
@pytest.mark.parametrize("column", ["student", "skill", "question"])
def test_ids_hold_characters_only(read: Read, character: str, column: str) -> None:
    cells = {"student": "ada", "skill": "a", "question": "q"} | {column: f"a{character}b"}
    row = f"{cells['student']},{cells['skill']},1,{cells['question']}\n"
    with pytest.raises(DataError, match=f"row 2, column '{column}'.*no characters"):
        read(f"{HEAD},question\n{row}ada,a,0,q\nada,a,0,q\n", question="question")


def test_an_id_has_an_end(read: Read) -> None:
    with pytest.raises(DataError, match=r"row 2, column 'skill': 'a{60}'; an id may have") as error:
        read(f"{HEAD}\nada,{'a' * 1_000_000},1\nada,a,0\n")
    assert len(str(error.value)) < 300


SIBLINGS = f"{HEAD},question,at\n" + "".join(
    f"ada,{skill},{right},{question},{at}\n"
    for question, right, at in (("q1", 1, 1), ("q2", 0, 2), ("q2", 0, 3))
    for skill in ("x", "y")
)


@pytest.mark.parametrize("order", [{}, {"order": "at"}])
def test_neighbours_of_one_question_are_one_answer(read: Read, order: dict[str, str]) -> None:
    data = read(SIBLINGS, question="question", **order)
    assert data.rows.order.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.manifest["counts"]["answers"] == 3


def test_a_second_attempt_under_a_coarse_order_stays_one(read: Read) -> None:
    data = read(SIBLINGS.replace(",3\n", ",2\n"), question="question", order="at")
    assert data.rows.order.tolist() == [0, 0, 1, 1, 2, 2]
    assert notes(data) == {"ties": 1, "duplicates": 2}


def test_what_may_be_a_slip_is_counted(read: Read) -> None:
    rows = [
        ("ada", "a"),
        ("ada ", "a"),
        ("ADA", "A"),
        ("Jose\u0301", "a"),
        ("Jos\xe9", "1.00123E+11"),
    ]
    text = "".join(f"{who},{what},{n % 2},{9 - n}\n" for who, what in rows for n in range(3))
    data = read(f"{HEAD},at\n{text}", timestamp="at")
    assert notes(data) == {
        "times_may_be_seconds": 15,
        "backwards": 10,
        "nearly_equal_students": 3,
        "nearly_equal_skills": 1,
        "rounded_skills": 1,
    }


@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), (" true", "false ")])
def test_true_and_false_are_answers(read: Read, words: tuple[str, str]) -> None:
    yes, no = words
    data = read(f"{HEAD}\nada,a,{yes}\nada,b,{no}\nada,c,{yes}\n")
    assert data.rows.response.tolist() == [1, 0, 1]


def test_other_encodings_and_old_line_ends(read: Read) -> None:
    text = f"{HEAD}\nJos\xe9,a,1\nJos\xe9,b,0\nJos\xe9,c,1\n"
    with pytest.raises(DataError, match="name its encoding"):
        read(text.encode("latin-1"))
    data = read(text.replace("\n", "\r").encode("latin-1"), encoding="latin-1")
    assert list(data.student_ids) == ["Jos\xe9"]


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"\x1f\x8b\x08", r"compressed \(gzip\)"),
        (b"PK\x03\x04", r"compressed \(zip\)"),
        (b'{"a": 1}', "looks like JSON"),
        (b"[1, 2]", "looks like JSON"),
    ],
)
def test_what_is_no_table_is_said(read: Read, begin: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(begin + b" " * 100_000)
    assert len(str(error.value)) < 400


THREE = "11\n1, 1, 2\n1, 0, 1\n12\n1,1,2\n1,0,1\n"


def test_list_items_are_stripped(read: Read) -> None:
    assert read(THREE, reader="akt_lines").skill_ids == ("1", "2")


def test_counts_are_never_students(read: Read, tmp_path: Path) -> None:
    counts = "3\n1,2,3\n1,0,1\n3\n1,2,3\n0,0,1\n4\n1,2,3\n0,0,1\n"
    with pytest.raises(DataError, match=r"lines 1 and 4 both begin with '3'.*1 of 3 do not fit"):
        read(counts, reader="akt_lines")
    with pytest.raises(DataError, match="line 7: the count is '4', but 3"):
        read(counts, reader="akt_lines", heads="counts")
    assert len(read(counts, reader="akt_lines", heads="ids").student_ids) == 2


def test_students_are_numbered_through_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folds"
    folder.mkdir()
    for name in ("x_1.csv", "x_2.csv"):
        (folder / name).write_text("3\n1,2,3\n1,0,1\n3\n1,2,3\n0,0,1\n")
    data = prepare("akt_lines", folder, tmp_path / "out")
    assert list(data.student_ids) == ["1", "2", "3", "4"] and data.folds.tolist() == [0, 0, 1, 1]


def test_a_blank_line_among_lines_is_said(read: Read) -> None:
    with pytest.raises(DataError, match="line 4 is blank"):
        read("11\n1,1,2\n1,0,1\n\n1,1,2\n1,0,1\n", reader="akt_lines")
    with pytest.raises(DataError, match="line 4 is blank"):  # between students
        read("3\n1,1,2\n1,0,1\n\n3\n1,1,2\n1,0,1\n", reader="akt_lines")


def test_a_quote_among_lines_is_said(read: Read) -> None:
    with pytest.raises(DataError, match="line 2 holds a quote"):
        read('3\n1,"2,1\n1,0,1\n', reader="akt_lines")


@pytest.mark.parametrize("value", ["0.0", " 2", "True", ""])
def test_pykt_repeats_are_checked(tmp_path: Path, value: str) -> None:
    folder = tmp_path / "pykt"
    folder.mkdir()
    for name, fold in (("train_valid.csv", 0), ("test.csv", -1)):
        (folder / name).write_text(
            f'fold,uid,concepts,responses,is_repeat\n{fold},{fold},"1,2,3","1,0,1","0,{value},0"\n'
        )
    with pytest.raises(DataError, match=r"is_repeat.*only 0 and 1"):
        prepare("pykt", folder, tmp_path / "out")


def test_a_hash_keeps_students_where_they_are() -> None:
    few, many = [f"s{n}" for n in range(80)], [f"s{n}" for n in range(800)]
    assert folds_by_hash(few).tolist() == folds_by_hash(many)[:80].tolist()
    counts = [int((folds_by_hash(many) == fold).sum()) for fold in range(-1, 5)]
    assert min(counts) > 90 and max(counts) < 200


def test_opening_data_removes_nothing_that_is_not_ours(read: Read, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "thesis").mkdir(parents=True)
    (home / "thesis" / "chapter.txt").write_text("years of work")
    (home / ("a" * 32)).mkdir()
    (home / ("a" * 32) / "photo.npy").write_text("not ours, though it is named alike")
    data = read(f"{HEAD}\nada,a,1\nada,b,0\nada,c,1\n")
    arrays = data.path / "arrays"
    for made in arrays.iterdir():
        assert (made / MARK).is_file()
    for linked in (False, True):
        for made in arrays.iterdir():
            if made.is_dir() and (made / MARK).exists():
                for file in made.iterdir():
                    file.unlink()
                made.rmdir()
        if linked:
            arrays.rmdir()
            arrays.symlink_to(home)
        else:
            (arrays / "b").symlink_to(home)
        os.utime(data.path / "interactions.parquet", (1 + linked, 1))
        load_dataset(data.path)
        assert (home / "thesis" / "chapter.txt").read_text() == "years of work"
        assert (home / ("a" * 32) / "photo.npy").exists()
        if not linked:
            (arrays / "b").unlink()


def test_every_reader_says_what_its_options_mean() -> None:
    assert all(meaning for reader in READERS.values() for meaning in reader.options.values())
