"""Bad input: a DataError that says what, where and what is allowed, and nothing left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from gainakt.data import prepare as prepare_module
from gainakt.data import writing
from gainakt.data.interactions import Dataset
from gainakt.data.prepare import prepare
from gainakt.data.simulate import simulate
from gainakt.errors import DataError

MAPPING = {"student": "student", "skill": "skill", "correct": "correct"}
HEADER = "student,skill,correct\n"
GOOD = "a,x,1\na,x,0\na,y,1\nb,x,0\nb,y,1\nb,y,1\n"


def generic(folder: Path, content: str | bytes, **options: str) -> Dataset:
    source = folder / "answers.csv"
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    return prepare("generic", source, folder / "out", **{**MAPPING, **options})


def refused(folder: Path, message: str, attempt: Callable[[], object]) -> None:
    """The attempt fails with this message (a pattern) and leaves no data set, whole or in part."""
    before = set(folder.rglob("*"))
    with pytest.raises(DataError, match=message):
        attempt()
    left = {path for path in set(folder.rglob("*")) - before if "out" in path.name}
    assert not left


CSV = {
    "empty file": ("", "answers.csv is empty"),
    "header only": (HEADER, "has a header but no rows"),
    "blank lines only": (HEADER + "\n\n", "has a header but no rows"),
    "wrong columns": (
        "user,skill,right\na,x,1\n",
        "no column 'student', 'correct'; needed are .* it has user, skill, right",
    ),
    "answer 2": (
        HEADER + GOOD + "c,x,2\n",
        r"row 8, column 'correct': '2'; only 0 and 1 are allowed",
    ),
    "answer negative": (HEADER + "a,x,-1\n" + GOOD, "row 2, column 'correct': '-1'; only 0 and 1"),
    "answer fractional": (HEADER + "a,x,0.5\n" + GOOD, "row 2, .*'0.5'; only 0 and 1"),
    "answer a word": (HEADER + GOOD + "c,x,yes\n", "row 8, column 'correct': 'yes'"),
    "answer not a number": (HEADER + GOOD + "c,x,NaN\n", "row 8, column 'correct': 'NaN'"),
    "answer missing": (HEADER + "a,x,\n" + GOOD, "row 2, column 'correct': empty; only 0 and 1"),
    "two bad answers": (
        HEADER + "a,x,7\na,x,8\n" + GOOD,
        r"'7'; .* \(2 rows are bad, this is the f",
    ),
    "student missing": (
        HEADER + GOOD + ",x,1\n",
        "row 8, column 'student': empty; an id is missing",
    ),
    "student blank": (
        HEADER + GOOD + "  ,x,1\n",
        "row 8, column 'student': '  '; an id is missing",
    ),
    "skill missing": (HEADER + GOOD + "c,,1\n", "row 8, column 'skill': empty; an id is missing"),
    "no skills at all": (HEADER + "a,,1\na,,0\na,,1\n", r"'skill': empty; .*\(3 rows are bad"),
    "blank line": (HEADER + "a,x,1\n\n" + GOOD, "row 3, column 'student': empty"),
    "too many fields": (HEADER + "a,x,1\nb,x,1,9\n", "row 3: 4 fields, the header has 3"),
    "too few fields": (HEADER + GOOD + "c,x\n", "row 8, column 'correct': empty"),
    "quote never closed": (HEADER + GOOD + 'c,"x,1\nd,x,1\n', "row 8: broken quoting"),
    "text after quote": (HEADER + 'a,"x"y,1\n' + GOOD, "row 2: broken quoting"),
    "quote over two lines": (
        HEADER + 'a,"x\ny",1\n' + GOOD,
        "row 2, .*line breaks,.* broken quoting",
    ),
    "stray quote": (HEADER + GOOD + 'c,x"z,1\nd,x,1\n', "row 8: broken quoting"),
    "not UTF-8": (b"student,skill,correct\na,x,1\na,caf\xe9,1\n", "line 3: byte 0xe9 is not UTF-8"),
    "cut UTF-8": (HEADER.encode() + b"a,x,1\nb,caf\xc3", "line 3: byte 0xc3 is not UTF-8"),
    "UTF-16": ((HEADER + GOOD).encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
    "zero byte": (HEADER.encode() + b"a\0,x,1\n", "row 2, column 'student': .*control characters"),
    "all too short": (
        HEADER + "a,x,1\na,x,0\nb,x,1\n",
        "answers.csv: every student has fewer than 3 inter",
    ),
    "one class": (
        HEADER + "a,x,1\na,x,1\na,y,1\n",
        "'answers': every answer is 1; column 'correct' needs both",
    ),
    "other class": (HEADER + "a,x,0\na,x,0\na,y,0\n", "every answer is 0"),
    "one class left": (HEADER + "a,x,0\na,x,0\na,y,0\nb,x,1\n", "every answer is 0"),
}


@pytest.mark.parametrize("case", CSV)
def test_bad_csv(tmp_path: Path, case: str) -> None:
    content, message = CSV[case]
    refused(tmp_path, message, lambda: generic(tmp_path, content))


EXTRA = {
    "fold a word": ("fold", "first", "column 'fold': 'first'; only whole numbers from -1"),
    "fold too low": ("fold", "-2", "column 'fold': '-2'"),
    "fold too high": ("fold", "127", "column 'fold': '127'"),
    "fold fractional": ("fold", "0.5", "column 'fold': '0.5'"),
    "fold missing": ("fold", "", "column 'fold': empty"),
    "student in two folds": (
        "fold",
        "1",
        r"'a' is in two folds: 0 \(answers.csv, row 2\) and 1 \(answers.csv, row 4\)",
    ),
    "order a word": ("order", "soon", "column 'extra': 'soon'; only numbers or ISO dates"),
    "order missing": ("order", "", "column 'extra': empty; only numbers or ISO dates"),
    "order NaN": ("order", "nan", "column 'extra': 'nan'; only numbers"),
    "time fractional": ("timestamp", "0.5", "column 'extra': '0.5'; only whole numbers or ISO"),
    "time missing": ("timestamp", "", "column 'extra': empty; only whole numbers"),
    "question missing": ("question", "", "column 'extra': empty; an id is missing"),
}


@pytest.mark.parametrize("case", EXTRA)
def test_bad_optional_column(tmp_path: Path, case: str) -> None:
    option, value, message = EXTRA[case]
    extra = ["0", "0", value, "0", "0", "0"]
    lines = [f"{row},{cell}" for row, cell in zip(GOOD.split(), extra, strict=True)]
    column = "fold" if option == "fold" else "extra"
    content = "\n".join([HEADER.strip() + f",{column}", *lines])
    if value not in ("1", "-2", "127"):
        message = f"row 4, {message}"
    refused(tmp_path, message, lambda: generic(tmp_path, content, **{option: column}))


def test_one_answer_of_two_kinds(tmp_path: Path) -> None:
    content = "student,skill,correct,step,item\na,x,1,5,q\nb,x,1,5,q\na,y,0,5,q\na,x,0,6,q\n"
    refused(
        tmp_path,
        "rows 2 and 4: student 'a' answered one question at one point in two ways",
        lambda: generic(tmp_path, content, order="step", question="item"),
    )


def test_missing_sources(tmp_path: Path) -> None:
    out = tmp_path / "out"
    nowhere = tmp_path / "nowhere.csv"
    refused(
        tmp_path,
        "no such file or folder: .*nowhere.csv; assist2015 takes the raw ASSISTments 2015 CSV",
        lambda: prepare("assist2015", nowhere, out),
    )
    refused(tmp_path, "is a folder; a file is", lambda: prepare("assist2015", tmp_path, out))
    refused(tmp_path, "no file that ends in", lambda: prepare("akt_lines", tmp_path, out))
    refused(tmp_path, "no such file: .*train_valid.csv", lambda: prepare("pykt", tmp_path, out))
    (tmp_path / "train_valid.csv").write_text("fold,uid,concepts,responses\n")
    refused(tmp_path, "no such file: .*test.csv", lambda: prepare("pykt", tmp_path, out))
    file = tmp_path / "train_valid.csv"
    refused(tmp_path, "not a folder; the pykt reader takes", lambda: prepare("pykt", file, out))


def test_readers_and_options_that_are_not_there(tmp_path: Path) -> None:
    source, out = tmp_path / "raw.csv", tmp_path / "out"
    source.write_text(HEADER + GOOD)
    refused(
        tmp_path,
        "no reader 'genric'; there are .*pykt.*; did you mean 'generic'",
        lambda: prepare("genric", source, out),
    )
    refused(
        tmp_path,
        "reader generic needs option 'correct': column with the answer",
        lambda: prepare("generic", source, out, student="student", skill="skill"),
    )
    refused(
        tmp_path,
        "reader assist2015 has no option 'sep'; its options are none",
        lambda: prepare("assist2015", source, out, sep=";"),
    )
    refused(tmp_path, "option sep is '::'", lambda: generic(tmp_path, "a", sep="::"))
    refused(tmp_path, "option lines is '5'", lambda: prepare("akt_lines", source, out, lines="5"))


PYKT_HEADER = "fold,uid,concepts,responses\n"
PYKT_TRAIN = PYKT_HEADER + '0,1,"4,5,4","1,0,1"\n1,2,"4,5,4","1,0,1"\n'
PYKT_TEST = PYKT_HEADER + '-1,3,"4,5,4","1,0,1"\n'
PYKT = {
    "uneven lists": (
        PYKT_HEADER + '0,1,"4,5,4","1,0"\n',
        PYKT_TEST,
        "train_valid.csv, row 2: 'concepts' has 3 items but 'responses' has 2",
    ),
    "answer 2": (
        PYKT_TRAIN,
        PYKT_HEADER + '-1,3,"4,5,4","1,0,2"\n',
        "test.csv, row 2, column 'responses', item 3: '2'; only 0 and 1",
    ),
    "empty item": (
        PYKT_HEADER + '0,1,"4,,4","1,0,1"\n',
        PYKT_TEST,
        "train_valid.csv, row 2, column 'concepts', item 2: empty; an id is missing",
    ),
    "padding inside": (
        PYKT_HEADER + '0,1,"4,-1,4","1,-1,1"\n',
        PYKT_TEST,
        "row 2, column 'responses', item 3: '1'; an item follows padding",
    ),
    "test student in a fold": (
        PYKT_TRAIN,
        PYKT_HEADER + '0,3,"4,5,4","1,0,1"\n',
        "test.csv, row 2, column 'fold': '0'; every student of test.csv must be in fold -1",
    ),
    "student in both files": (
        PYKT_TRAIN,
        PYKT_HEADER + '-1,2,"4,5,4","1,0,1"\n',
        r"'2' is in two folds: 1 \(train_valid.csv, row 3\) and -1 \(test.csv, row 2\)",
    ),
    "no fold column": (
        "uid,concepts,responses\n1,4,1\n",
        PYKT_TEST,
        "train_valid.csv has no column 'fold'",
    ),
    "questions in one file": (
        "fold,uid,questions,concepts,responses\n0,1,1,4,1\n",
        PYKT_TEST,
        "only one of train_valid.csv and test.csv has column 'questions'",
    ),
    "only padding": (
        PYKT_HEADER + '0,1,"-1,-1","-1,-1"\n',
        PYKT_HEADER + '-1,3,"-1","-1"\n',
        "no interactions",
    ),
}


@pytest.mark.parametrize("case", PYKT)
def test_bad_pykt_folder(tmp_path: Path, case: str) -> None:
    train, test, message = PYKT[case]
    (tmp_path / "train_valid.csv").write_text(train)
    (tmp_path / "test.csv").write_text(test)
    refused(tmp_path, message, lambda: prepare("pykt", tmp_path, tmp_path / "out"))


AKT = {
    "wrong number of lines": ("1\n4,5\n1,0\n2\n", "4 lines, which is no multiple of 3"),
    "uneven": ("1\n4,5,6\n1,0\n", "row 1: 'skills' has 3 items but 'answers' has 2"),
    "answer": ("a\n4,5,6\n1,0,1\nb\n4,5,6\n1,0,3\n", "row 4, column 'answers', item 3: '3'"),
    "no student": ("a\n4,5,6\n1,0,1\n,9\n4,5,6\n1,0,1\n", "row 4, column 'student'.*missing"),
    "blank": ("\n\n\n", "has 0 lines"),
}


@pytest.mark.parametrize("case", AKT)
def test_bad_lines_file(tmp_path: Path, case: str) -> None:
    content, message = AKT[case]
    source = tmp_path / "raw.csv"
    source.write_text(content)
    refused(tmp_path, message, lambda: prepare("akt_lines", source, tmp_path / "out"))


def test_student_in_two_files_and_mixed_files(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "1.csv").write_text("a\n4,5,6\n1,0,1\n")
    (raw / "2.csv").write_text("a\n4,5,6\n1,0,1\n")
    refused(tmp_path, "'a' is in two folds: 0", lambda: prepare("akt_lines", raw, tmp_path / "out"))
    (raw / "2.csv").write_text("b\n1,1,1\n4,5,6\n1,0,1\n")
    refused(tmp_path, "must be alike", lambda: prepare("akt_lines", raw, tmp_path / "out"))


def test_bad_parquet(tmp_path: Path) -> None:
    source, out = tmp_path / "raw.parquet", tmp_path / "out"
    source.write_bytes(b"PAR1 is not all")
    refused(
        tmp_path, "cannot be read as Parquet", lambda: prepare("generic", source, out, **MAPPING)
    )
    frame = pl.DataFrame({"student": [1.0, float("nan")], "skill": ["x", "y"], "correct": [1, 0]})
    frame.write_parquet(source)
    refused(
        tmp_path,
        "raw.parquet, row 2, column 'student': empty",
        lambda: prepare("generic", source, out, **MAPPING),
    )
    frame.clear().write_parquet(source)
    refused(tmp_path, "has no rows", lambda: prepare("generic", source, out, **MAPPING))
    frame.drop("skill").write_parquet(source)
    refused(tmp_path, "no column 'skill'", lambda: prepare("generic", source, out, **MAPPING))
    frame.with_columns(skill=pl.Series([[1], [2]])).write_parquet(source)
    refused(tmp_path, "cannot be read", lambda: prepare("generic", source, out, **MAPPING))


# The target and the disk


@pytest.fixture(params=["prepare", "simulate"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Dataset]:
    if request.param == "simulate":
        return lambda out: simulate(out, students=20)
    source = tmp_path / "answers.csv"
    source.write_text(HEADER + GOOD)
    return lambda out: prepare("generic", source, out, **MAPPING)


Make = Callable[[Path], Dataset]


def test_an_existing_target_is_left_as_it_is(tmp_path: Path, make: Make) -> None:
    folder, file, link = tmp_path / "out1", tmp_path / "out2", tmp_path / "out3"
    folder.mkdir()
    file.write_text("mine")
    link.symlink_to(tmp_path / "gone")
    for target in (folder, file, link):
        refused(tmp_path, "exists already; choose another --out", lambda out=target: make(out))
    assert not list(folder.iterdir()) and file.read_text() == "mine" and link.is_symlink()


def test_a_target_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables = writing._write_tables

    def slow(*arguments: object) -> None:
        write_tables(*arguments)  # type: ignore[arg-type]
        (tmp_path / "out").mkdir(exist_ok=True)

    monkeypatch.setattr(writing, "_write_tables", slow)
    with pytest.raises(DataError, match="exists already"):
        make(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not list(tmp_path.glob(".out*"))


def test_a_full_disk(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full is a disk with no space left: writing to it fails as on a real one."""
    message = "cannot write .*out: No space left on device; nothing was left behind; free some"
    for name in ("TABLE_FILE", "MANIFEST_FILE"):
        with monkeypatch.context() as patch:
            patch.setattr(writing, name, "/dev/full")
            refused(tmp_path, message, lambda: make(tmp_path / "out"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_disk_that_refuses_late(
    tmp_path: Path, make: Make, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writing.os, call, refuse)
    refused(tmp_path, f"cannot write .*: {os.strerror(code)}", lambda: make(tmp_path / "out"))


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs /proc, which nobody can write to"
)
def test_a_folder_that_cannot_be_written(make: Make) -> None:
    with pytest.raises(DataError, match="cannot write /proc/self/out"):
        make(Path("/proc/self/out"))


def test_a_path_through_a_file(tmp_path: Path, make: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*(Not a directory|File exists)"):
        make(tmp_path / "file" / "out")


def test_interrupted_while_writing(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_file_sha256", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_an_unexpected_polars_error_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise pl.exceptions.ComputeError("something odd\nwith details")

    monkeypatch.setattr(prepare_module, "arrange", fail)
    refused(
        tmp_path,
        "answers.csv cannot be read by generic: something odd$",
        lambda: generic(tmp_path, HEADER + GOOD),
    )
