"""Readers of public data sets, each on a few invented rows in the columns of the real source."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gainakt.data.interactions import Dataset
from gainakt.data.prepare import prepare, recognise
from gainakt.errors import DataError

Rows = list[tuple[str, ...]]


class Case(NamedTuple):
    """files: name to text. expected: student to (question, skill, correct, milliseconds) rows, in
    order. left_out: filter to rows.
    """

    reader: str
    files: dict[str, str]
    expected: dict[str, list[tuple[str | None, str, int, int | None]]]
    left_out: dict[str, int]


A2009 = Case(
    "assist2009",
    {
        "log.csv": "\ufefforder_id,user_id,problem_id,original,correct,skill_id,skill_name\n"
        "30,u1,p3,1,1,7,Area\n"
        "10,u1,p1,1,0,4_5,Mean_Median\n"
        "20,u1,p2,0,1,4,Mean\n"
        "40,u1,p4,1,1,,\n"
        "50,u1,p8,1,1,7,Area\n"
        # another form of the file: a row for each skill
        "11,u2,p1,1,1,4,Mean\n"
        "11,u2,p1,1,1,5,Median\n"
        "12,u2,p2,0,0,4,Mean\n"
        "13,u2,p5,1,0.5,4,Mean\n"
        "14,u2,p6,1,1,9,Mode\n"
    },
    {
        "u1": [
            ("p1", "4", 0, None),
            ("p1", "5", 0, None),
            ("p2", "4", 1, None),
            ("p3", "7", 1, None),
            ("p8", "7", 1, None),
        ],
        "u2": [
            ("p1", "4", 1, None),
            ("p1", "5", 1, None),
            ("p2", "4", 0, None),
            ("p6", "9", 1, None),
        ],
    },
    {"no_skill": 1, "fractional_correct": 1},
)
A2012 = Case(
    "assist2012",
    {
        "log.csv": "problem_log_id,user_id,skill_id,problem_id,start_time,end_time,correct\n"
        "1,u1,27.0,p2,2012-10-02 10:00:00.500,2012-10-02 10:01:00,1\n"
        "2,u1,27.0,p1,2012-10-01 10:00:00,2012-10-01 10:01:00,0.0\n"
        "3,u1,,p3,2012-10-03 10:00:00,2012-10-03 10:01:00,1\n"
        "4,u1,8.0,p3,2012-10-04 10:00:00,2012-10-04 10:01:00,0.25\n"
        "5,u1,8.0,p3,2012-10-05 10:00:00,2012-10-05 10:01:00,1.0\n"
    },
    {
        "u1": [
            ("p1", "27", 0, 1_349_085_600_000),
            ("p2", "27", 1, 1_349_172_000_500),
            ("p3", "8", 1, 1_349_431_200_000),
        ]
    },
    {"no_skill": 1, "fractional_correct": 1},
)
A2017 = Case(
    "assist2017",
    {
        "log.csv": "studentId,action_num,skill,problemId,startTime,timeTaken,correct\n"
        "8,1,properties-of-geometric-figures,1118,1096470301,86,1\n"
        "8,2,sum-of-interior-angles,1119,1096470350,7.2,0\n"
        "8,3,,1120,1096470360,7,0\n"
        "8,4,sum-of-interior-angles,1121,1096470340,7,1\n"
    },
    {
        "8": [
            ("1118", "properties-of-geometric-figures", 1, 1_096_470_301_000),
            ("1121", "sum-of-interior-angles", 1, 1_096_470_340_000),
            ("1119", "sum-of-interior-angles", 0, 1_096_470_350_000),
        ]
    },
    {"no_skill": 1},
)
DATASHOP = Case(
    "datashop",
    {
        "train.txt": "Row\tAnon Student Id\tProblem Hierarchy\tProblem Name\tStep Name\t"
        "First Transaction Time\tCorrect First Attempt\tKC(Default)\tKC(SubSkills)\n"
        '1\ts1\tUnit A\tA1\tx="2\t2005-09-09 12:24:35.0\t1\tfind x~~read\tdeep\n'
        "2\ts1\tUnit A\tA1\ty=3\t2005-09-09 12:24:30.0\t0\tfind y\tdeep\n"
        "3\ts1\tUnit A\tA2\tz\t2005-09-09 12:25:00.0\t1\t\tdeep\n"
        "4\ts1\tUnit A\tA2\tw\t2005-09-09 12:26:00.0\t\tfind y\tdeep\n"
        "5\ts1\tUnit A\tA3\tv\t2005-09-09 12:27:00.0\t1\tfind y\tdeep\n"
    },
    {
        "s1": [
            ("A1 / y=3", "find y", 0, 1_126_268_670_000),
            ('A1 / x="2', "find x", 1, 1_126_268_675_000),
            ('A1 / x="2', "read", 1, 1_126_268_675_000),
            ("A3 / v", "find y", 1, 1_126_268_820_000),
        ]
    },
    {"no_skill": 1, "no_answer": 1},
)
STATICS = Case(
    "statics2011",
    {
        "step.csv": "Anon Student Id,Problem Name,Step Name,First Transaction Time,First Attempt\n"
        "s1,forces,q1 sum,2011/09/21 17:35,correct\n"
        "s1,forces,q2 sum,2011/09/21 17:30,incorrect\n"
        "s1,forces,q3 sum,2011/09/21 17:40,hint\n"
        "s1,forces,q1 sum,2011/09/21 17:50,correct\n"
    },
    {
        "s1": [
            (None, "forces / q2 sum", 0, 1_316_626_200_000),
            (None, "forces / q1 sum", 1, 1_316_626_500_000),
            (None, "forces / q1 sum", 1, 1_316_627_400_000),
        ]
    },
    {"hint": 1},
)
EDNET = Case(
    "ednet",
    {
        "KT1/u9.csv": "timestamp,solving_id,question_id,user_answer,elapsed_time\n"
        "1565096190868,1,q1,b,38000\n"
        "1565096187972,1,q2,a,24000\n"
        "1565096190868,2,q3,c,1000\n"
        "1565096191000,3,q1,,1000\n",
        "KT1/u10.csv": "timestamp,solving_id,question_id,user_answer,elapsed_time\n"
        "5,1,q2,d,1\n6,1,q2,a,1\n7,1,q4,a,1\n8,1,q9,a,1\n9,1,q1,a,1\n",
        "contents/questions.csv": "question_id,bundle_id,correct_answer,part,tags\n"
        "q1,b1,b,1,1;2\nq2,b2,a,1,3\nq3,b3,d,1,1\nq4,b4,a,1,-1\n",
    },
    {
        "u9": [
            ("q2", "3", 1, 1_565_096_187_972),
            ("q1", "1", 1, 1_565_096_190_868),
            ("q1", "2", 1, 1_565_096_190_868),
            ("q3", "1", 0, 1_565_096_190_868),
        ],
        "u10": [("q2", "3", 0, 5), ("q2", "3", 1, 6), ("q1", "1", 0, 9), ("q1", "2", 0, 9)],
    },
    {"no_answer": 1, "no_tag": 2},
)
JUNYI = Case(
    "junyi2015",
    {
        "junyi_ProblemLog_original.csv": "user_id,exercise,problem_type,time_done,correct\n"
        "1,add,0,1420714810324490,True\n"
        "1,sub,0,1420714810324400,false\n"
        "1,odd,0,1420714810324600,true\n"
        "1,sub,0,1420714820324600,True\n",
        "junyi_Exercise_table.csv": "name,live,topic\n"
        "add,True,sums\nsub,True,differences\nodd,True,\n",
    },
    {
        "1": [
            ("sub", "differences", 0, 1_420_714_810_324),
            ("add", "sums", 1, 1_420_714_810_324),
            ("sub", "differences", 1, 1_420_714_820_324),
        ]
    },
    {"no_topic": 1},
)
EEDI = Case(
    "eedi",
    {
        "train_data/train_task_3_4.csv": "QuestionId,UserId,AnswerId,IsCorrect,AnswerValue\n"
        "898,2111,280203,1,2\n767,3062,55638,1,3\n165,2111,386475,0,3\n166,2111,9,1,2\n"
        "767,2111,55639,0,3\n",
        "metadata/answer_metadata_task_3_4.csv": "AnswerId,DateAnswered,Confidence\n"
        "280203,2019-12-08 17:47:00.000,\n55638,2019-10-27 20:54:00.000,25\n"
        "386475,2019-10-06 20:16:00.000,\n9,2019-10-07 20:16:00.000,\n"
        "55639,2020-01-01 00:00:00.000,\n",
        "metadata/question_metadata_task_3_4.csv": "QuestionId,SubjectId\n"
        '898,"[3, 71, 98, 209]"\n767,"[3, 49, 62, 70]"\n'
        '165,"[3, 32, 144, 204, 209]"\n166,"[3, 32]"\n',
        "metadata/subject_metadata.csv": "SubjectId,Name,ParentId,Level\n"
        "3,Maths,NULL,0\n32,Number,3,1\n71,Geometry,3,1\n98,Angles,71,2\n"
        "49,Algebra,3,1\n62,Graphs,49,2\n"
        "144,BIDMAS,32,2\n209,Basic Angle Facts,98,3\n70,Plotting,62,3\n204,Mental,144,3\n",
    },
    {
        "2111": [
            ("165", "204", 0, 1_570_392_960_000),
            ("165", "209", 0, 1_570_392_960_000),
            ("898", "209", 1, 1_575_827_220_000),
            ("767", "70", 0, 1_577_836_800_000),
        ]
    },
    {"no_subject of that level": 1, "short_students": 1},
)
POJ = Case(
    "poj",
    {
        "log.csv": "Submit Time,Run ID,User,Problem,Result,Memory\n"
        "2019-07-21 20:00:03,3,ann,1000,Accepted,100K\n"
        "2019-07-21 20:00:01,1,ann,1000,Compile Error,\n"
        "2019-07-21 20:00:02,2,ann,1001,Waiting,\n"
        "2019-07-21 20:00:04,4,ann,1002,Time Limit Exceeded,\n"
    },
    {
        "ann": [
            (None, "1000", 0, 1_563_739_201_000),
            (None, "1000", 1, 1_563_739_203_000),
            (None, "1002", 0, 1_563_739_204_000),
        ]
    },
    {"not_judged": 1},
)
MAPS = Case(
    "slepemapy",
    {
        "answer.csv": "id;user;place_asked;place_answered;type;inserted;response_time\n"
        "1;5;51;51;1;2013-10-17 09:00:02;100\n"
        "2;5;52;;1;2013-10-17 09:00:01;100\n"
        "3;5;53;51;1;2013-10-17 09:00:03;100\n"
        "4;5;;51;1;2013-10-17 09:00:04;100\n"
    },
    {
        "5": [
            (None, "52", 0, 1_382_000_401_000),
            (None, "51", 1, 1_382_000_402_000),
            (None, "53", 0, 1_382_000_403_000),
        ]
    },
    {"no_place": 1},
)
CASES = (A2009, A2012, A2017, DATASHOP, STATICS, EDNET, JUNYI, EEDI, POJ, MAPS)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.reader)


def written(case: Case, folder: Path, change: Callable[[str], str] = lambda text: text) -> Path:
    """The source on disk: the file, or the folder where there are several."""
    place = folder / "source"
    for name, text in case.files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change(text), encoding="utf-8")
    return place if len(case.files) > 1 else place / next(iter(case.files))


def found(data: Dataset) -> dict[str, list[tuple[str | None, str, int, int | None]]]:
    rows = data.rows
    names: list[tuple[str | None, str, int, int | None]] = [
        (
            None if rows.question is None else data.vocabulary.questions[rows.question[row] - 1],
            data.skill_ids[rows.skill[row]],
            int(rows.response[row]),
            None if rows.time is None else int(rows.time[row]),
        )
        for row in range(len(rows))
    ]
    return {
        student: names[data.offsets[place] : data.offsets[place + 1]]
        for place, student in enumerate(data.student_ids)
    }


@each
def test_rows_in_the_layout_of_the_source_come_out_right(case: Case, tmp_path: Path) -> None:
    data = prepare(case.reader, written(case, tmp_path), tmp_path / "out")
    assert found(data) == case.expected
    removed = {f["name"]: f["rows_removed"] for f in data.manifest["filters"] if f["rows_removed"]}
    assert removed == case.left_out
    # the rows of one question are one answer, those of two are two
    for student, rows in case.expected.items():
        place = data.student_ids.index(student)
        order = data.rows.order[data.offsets[place] : data.offsets[place + 1]]
        for (q, _, _, _), (r, _, _, _), o, p in zip(rows, rows[1:], order, order[1:], strict=False):
            if q is None or q != r:
                assert p == o + 1


@each
@pytest.mark.parametrize("within", ["", "release/v1/"])
def test_the_source_is_recognised_packed_or_not(case: Case, within: str, tmp_path: Path) -> None:
    source = written(case, tmp_path)
    name, why = recognise(source)
    assert name == case.reader and why
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for member, text in case.files.items():
            archive.writestr(within + member, text)
        archive.writestr("__MACOSX/._x", b"\0")
    data = prepare("auto", packed, tmp_path / "out")
    assert found(data) == case.expected
    assert data.manifest["reader"] == case.reader
    assert data.manifest["sources"][0]["file"] == "packed.zip"


def test_a_gzip_file_is_read_as_it_is(tmp_path: Path) -> None:
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(A2017.files["log.csv"].encode()))
    data = prepare("assist2017", packed, tmp_path / "out")
    assert found(data) == A2017.expected and data.manifest["name"] == "log"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        prepare("assist2017", packed, tmp_path / "again")


@each
def test_what_is_wrong_with_a_source_is_said(case: Case, tmp_path: Path) -> None:
    first = next(iter(case.files))
    column = case.files[first].split("\n")[0].replace("\ufeff", "")
    for mark in (";", "\t"):
        column = column.replace(mark, ",")
    names = column.split(",")

    def refused(change: Callable[[str], str], message: str, number: int) -> None:
        folder = tmp_path / str(number)
        with pytest.raises(DataError, match=message):
            prepare(case.reader, written(case, folder, change), folder / "out")
        assert not (folder / "out").exists()

    refused(lambda text: "", "is empty", 1)
    refused(lambda text: text.split("\n")[0] + "\n", "no rows|left", 2)
    for number, name in enumerate(names, 3):
        needed = name in ("correct", "user_id", "studentId", "Anon Student Id", "UserId", "User")
        if needed or name in ("user", "question_id"):
            refused(lambda text, n=name: text.replace(n, "other"), f"no column.*{name}", number)
    with pytest.raises(DataError, match="no such file or folder"):
        prepare(case.reader, tmp_path / "nothing", tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"folder|must hold"):
        prepare(case.reader, empty, tmp_path / "out")


@pytest.mark.parametrize(
    ("case", "old", "new", "message"),
    [
        (A2009, "30,u1,p3,1,1", "30,u1,p3,1,2", "row 2, column 'correct': '2'; only 0 and 1"),
        (A2009, "30,u1", "30,", "row 2, column 'user_id': empty"),
        (A2009, "30,u1", "x,u1", "order_id"),
        (A2012, "2012-10-02 10:00:00.500", "10/02/2012 10:00", "start_time"),
        (A2017, "1096470301", "soon", "startTime"),
        (DATASHOP, "\t0\tfind y", "\tno\tfind y", "Correct First Attempt.*'no'"),
        (STATICS, "2011/09/21 17:35", "21.9.2011", "First Transaction Time"),
        (STATICS, ",correct\n", ",perhaps\n", "'perhaps'; only 0 and 1"),
        (EDNET, "1565096190868,1,q1", "never,1,q1", "timestamp"),
        (JUNYI, "True\n1,sub", "maybe\n1,sub", "'maybe'; only 0 and 1"),
        (EEDI, "898,2111,280203,1", "898,2111,280203,7", "IsCorrect.*'7'"),
        (POJ, "Accepted", "Splendid", "Result.*'Splendid'; only 0 and 1"),
        (MAPS, "2013-10-17 09:00:02", "noon", "inserted"),
    ],
)
def test_a_bad_cell_is_named(case: Case, old: str, new: str, message: str, tmp_path: Path) -> None:
    source = written(case, tmp_path, lambda text: text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        prepare(case.reader, source, tmp_path / "out")


def test_options_choose(tmp_path: Path) -> None:
    source = written(A2009, tmp_path / "a")
    data = prepare("assist2009", source, tmp_path / "main", scaffolding="drop")
    assert [row[0] for row in found(data)["u1"]] == ["p1", "p1", "p3", "p8"]
    with pytest.raises(DataError, match="keep and drop"):
        prepare("assist2009", source, tmp_path / "x", scaffolding="maybe")
    steps = written(DATASHOP, tmp_path / "d")
    data = prepare("datashop", steps, tmp_path / "deep", kc="KC(SubSkills)")
    assert {row[1] for row in found(data)["s1"]} == {"deep"}
    with pytest.raises(DataError, match=r"no knowledge model 'KC\(X\)'; it has KC\(Default\)"):
        prepare("datashop", steps, tmp_path / "x", kc="KC(X)")
    folder = written(EEDI, tmp_path / "e")
    data = prepare("eedi", folder, tmp_path / "level", level=1)
    assert [row[1] for row in found(data)["2111"]] == ["32", "32", "71", "49"]
    with pytest.raises(DataError, match=r"option level is '9'; .* has 0, 1, 2, 3"):
        prepare("eedi", folder, tmp_path / "x", level=9)


def test_what_nothing_recognises_is_said(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("who,what,right\na,x,1\n")
    with pytest.raises(DataError, match=r"its first line is who, what, right.*prepare generic"):
        recognise(table)
    with pytest.raises(DataError, match="no such file"):
        recognise(tmp_path / "nothing")
