"""Each reader on its documented shape, and on real data where it is at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gainakt.data import readers
from gainakt.data.interactions import Dataset
from gainakt.data.prepare import prepare
from gainakt.data.readers import READERS
from gainakt.data.splits import assign_folds, cut_sequences
from gainakt.errors import DataError

Histories = dict[str, list[tuple[object, ...]]]


def histories(data: Dataset, *columns: str) -> Histories:
    """Each student's rows as tuples of the columns named, in the table's order."""
    values = zip(*(data.column(name).tolist() for name in columns), strict=True)
    found: Histories = {}
    for student, row in zip(data.column("student_id").tolist(), values, strict=True):
        found.setdefault(student, []).append(row)
    return found


def folds(data: Dataset) -> dict[str, int]:
    return dict(zip(data.student_ids, data.folds.tolist(), strict=True))


def filters(data: Dataset) -> dict[str, tuple[int, int]]:
    return {
        entry["name"]: (entry["rows_removed"], entry["students_removed"])
        for entry in data.manifest["filters"]
    }


def test_every_reader_has_its_file_its_line_and_its_paragraph() -> None:
    folder = Path(readers.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    docs = (folder.parents[2] / "docs" / "data.md").read_text()
    assert files == set(READERS)
    for name, reader in READERS.items():
        assert reader.name == name
        assert f"\n### `{name}`\n" in docs
        assert reader.example in docs
        assert reader.source.strip() and "\n" not in reader.source
        assert set(reader.required) <= set(reader.options)
        for option in reader.options:
            assert f"`--{option}`" in docs, (name, option)


# pykt


def write_pykt(folder: Path, train: str, test: str) -> Path:
    folder.mkdir()
    (folder / "train_valid.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return folder


def test_pykt_folder(tmp_path: Path) -> None:
    source = write_pykt(
        tmp_path / "raw",
        'fold,uid,concepts,responses\n1,u9,"5,5,12","1,0,1"\n0,u1,"7,7,7","0,0,0"\n',
        'fold,uid,concepts,responses,cidxs\n-1,u4,"5,7,5,5","1,1,0,0","0,1,2,3"\n',
    )
    data = prepare("pykt", source, tmp_path / "out")
    assert data.name == "raw"
    assert data.student_ids == ["u9", "u1", "u4"]
    assert folds(data) == {"u9": 1, "u1": 0, "u4": -1}
    assert histories(data, "order", "skill_id", "correct") == {
        "u9": [(0, "5", 1), (1, "5", 0), (2, "12", 1)],
        "u1": [(0, "7", 0), (1, "7", 0), (2, "7", 0)],
        "u4": [(0, "5", 1), (1, "7", 1), (2, "5", 0), (3, "5", 0)],
    }
    assert data.skill_ids == ("5", "7", "12")
    assert filters(data) == {"short_students": (0, 0)}
    assert [source["file"] for source in data.manifest["sources"]] == [
        "train_valid.csv",
        "test.csv",
    ]


def test_pykt_questions_with_several_skills_share_an_order(tmp_path: Path) -> None:
    source = write_pykt(
        tmp_path / "raw",
        "fold,uid,questions,concepts,responses,timestamps\n"
        '0,1,"30,31,30","4_5,6,4_5","1,0,1","100,200,300"\n',
        "fold,uid,questions,concepts,responses,timestamps\n"
        '-1,2,"31,30,31,31","6,4_5,6,6","1,1,0,0","1,2,3,4"\n',
    )
    data = prepare("pykt", source, tmp_path / "out")
    assert histories(data, "order", "question_id", "skill_id", "correct", "timestamp")["1"] == [
        (0, "30", "4", 1, 100),
        (0, "30", "5", 1, 100),
        (1, "31", "6", 0, 200),
        (2, "30", "4", 1, 300),
        (2, "30", "5", 1, 300),
    ]
    assert data.manifest["counts"] == {
        "students": 2,
        "interactions": 10,
        "answers": 7,
        "skills": 3,
    }


def test_pykt_repeats_are_joined_and_names_are_not_taken_apart(tmp_path: Path) -> None:
    source = write_pykt(
        tmp_path / "raw",
        "fold,uid,concepts,responses,is_repeat\n"
        '0,1,"a_1,b,a_1,b","1,1,0,1","0,1,0,0"\n0,2,"b,b,b","1,1,0","1,0,0"\n',
        'fold,uid,concepts,responses,is_repeat\n-1,3,"b,b,b","1,1,1","0,0,0"\n',
    )
    data = prepare("pykt", source, tmp_path / "out")
    assert histories(data, "order", "skill_id") == {
        "1": [(0, "a_1"), (0, "b"), (1, "a_1"), (2, "b")],
        "2": [(0, "b"), (1, "b"), (2, "b")],
        "3": [(0, "b"), (1, "b"), (2, "b")],
    }


def test_pykt_padding_is_cut_and_counted(tmp_path: Path) -> None:
    source = write_pykt(
        tmp_path / "raw",
        "fold,uid,concepts,responses\n"
        '0,1,"4,5,4,4","1,0,1,1"\n0,1,"5,4,-1,-1","0,0,-1,-1"\n0,2,"5,5,5,-1","1,1,0,-1"\n',
        'uid,concepts,responses\n3,"4,4,4","1,1,1"\n',
    )
    data = prepare("pykt", source, tmp_path / "out")
    assert histories(data, "order", "skill_id", "correct")["1"] == [
        (0, "4", 1),
        (1, "5", 0),
        (2, "4", 1),
        (3, "4", 1),
        (4, "5", 0),
        (5, "4", 0),
    ]
    assert filters(data) == {"padding": (3, 0), "short_students": (0, 0)}
    assert folds(data) == {"1": 0, "2": 0, "3": -1}


# assist2015


def test_assist2015_orders_filters_and_splits(tmp_path: Path) -> None:
    rows = ["late,9,k,0.5"]  # a fractional row is no first appearance
    for student in range(12):
        rows += [f"s{student},{30 + student},k{student % 3},1.0", f"s{student},7,k0,0"]
    for student in range(12):
        rows += [f"s{student},20,k1,1", f"s{student},20,k2,0", f"s{student},19,k1,0.75"]
    rows += ["late,8,k0,1", "late,5,k1,0", "late,6,k1,0", "short,1,k9,1", "short,2,k9,0"]
    source = tmp_path / "raw.csv"
    source.write_text("user_id,log_id,sequence_id,correct\n" + "\n".join(rows) + "\n\n")
    data = prepare("assist2015", source, tmp_path / "out", name="mine")
    assert data.name == "mine"
    assert data.student_ids == [*(f"s{student}" for student in range(12)), "late"]
    found = histories(data, "order", "skill_id", "correct")
    assert found["s2"] == [(0, "k0", 0), (1, "k1", 1), (2, "k2", 0), (3, "k2", 1)]
    assert found["late"] == [(0, "k1", 0), (1, "k1", 0), (2, "k0", 1)]
    assert filters(data) == {"fractional_correct": (13, 0), "short_students": (2, 1)}
    assert data.skill_ids == ("k0", "k1", "k2")
    np.testing.assert_array_equal(data.folds, assign_folds(13))


# generic


def test_generic_csv_with_a_mapping(tmp_path: Path) -> None:
    source = tmp_path / "answers.tsv"
    source.write_text(
        "who\twhen\ttopic\titem\tok\n"
        "ann\t2020-01-02T00:00:00\tadd, carry\t1\t1\n"
        'bob\t2020-01-01T00:00:00\t"sub ""x"""\t1\t0\n'
        "ann\t2020-01-01T00:00:01.5\tadd, carry\t2\t0\n"
        "ann\t2020-01-02T00:00:00\tsub\t1\t1\n"
        "bob\t2020-01-01T00:00:00\tsub\t2\t1\n"
        "bob\t2020-01-01T00:00:00\tadd, carry\t1\t0\n"
        "ann\t2020-01-03T00:00:00\tsub\t1\t0\n"
        "bob\t2020-01-04T00:00:00\tsub\t3\t0\n"
    )
    data = prepare(
        "generic",
        source,
        tmp_path / "out",
        student="who",
        skill="topic",
        correct="ok",
        order="when",
        timestamp="when",
        question="item",
        fold=None,
    )
    start = 1577836800000
    day = 86_400_000
    assert histories(data, "order", "question_id", "skill_id", "correct", "timestamp") == {
        "ann": [
            (0, "2", "add, carry", 0, start + 1500),
            (1, "1", "add, carry", 1, start + day),
            (1, "1", "sub", 1, start + day),
            (2, "1", "sub", 0, start + 2 * day),
        ],
        "bob": [
            (0, "1", 'sub "x"', 0, start),
            (0, "1", "add, carry", 0, start),
            (1, "2", "sub", 1, start),
            (2, "3", "sub", 0, start + 3 * day),
        ],
    }
    assert data.manifest["options"]["student"] == "who"


def test_generic_parquet_and_csv_agree(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user": [3, 3, 3, 1, 1, 1, 1],
            "skill": ["b", "a", "b", "a", "a", "b", "b"],
            "right": [True, False, True, True, False, False, True],
            "step": [2.5, 1.0, 1.5, 4.0, 3.0, 2.0, 1.0],
            "part": [0, 0, 0, -1, -1, -1, -1],
        }
    )
    mapping = {"student": "user", "skill": "skill", "correct": "right", "order": "step"}
    frame.write_parquet(tmp_path / "raw.parquet")
    frame.with_columns(pl.col("right").cast(pl.Int8)).write_csv(tmp_path / "raw.csv", separator=";")
    one = prepare("generic", tmp_path / "raw.parquet", tmp_path / "a", **mapping, fold="part")
    two = prepare("generic", tmp_path / "raw.csv", tmp_path / "b", **mapping, fold="part", sep=";")
    assert one.manifest["interactions_sha256"] == two.manifest["interactions_sha256"]
    assert histories(one, "skill_id", "correct")["3"] == [("a", 0), ("b", 1), ("b", 1)]
    assert folds(one) == {"3": 0, "1": -1}


# akt_lines


def test_akt_four_lines_in_five_files(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in (10, 9):
        (folder / f"fold_{number}.csv").write_text(
            f"{number},77\n40,40,41,41\n3,4,5,5\n1,1,0,0\n{number}1,78\n42,41,41\n3,5,5\n0,1,0,\n"
        )
    data = prepare("akt_lines", folder, tmp_path / "out")
    assert folds(data) == {"9": 0, "91": 0, "10": 1, "101": 1}
    found = histories(data, "order", "question_id", "skill_id", "correct")
    assert found["9"] == [
        (0, "40", "3", 1),
        (0, "40", "4", 1),
        (1, "41", "5", 0),
        (2, "41", "5", 0),
    ]
    assert found["101"] == [(0, "42", "3", 0), (1, "41", "5", 1), (2, "41", "5", 0)]


def test_akt_another_attempt_begins_where_a_skill_comes_again(tmp_path: Path) -> None:
    source = tmp_path / "raw.csv"
    source.write_text("a,1\n7,7,7,7,7,7\n3,3,4,3,4,4\n1,1,1,1,1,0\n")
    data = prepare("akt_lines", source, tmp_path / "out", lines="4")
    assert [order for (order,) in histories(data, "order")["a"]] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("heads", "ids"), [("34", ["1", "2"]), ("ab", ["a", "b"])])
def test_akt_three_lines_with_ids_or_counts(tmp_path: Path, heads: str, ids: list[str]) -> None:
    source = tmp_path / "raw.txt"
    source.write_text(f"{heads[0]}\r\n7,7,8\r\n1,0,1\r\n{heads[1]}\r\n8,8,8,9\r\n0,0,0,1\r\n")
    data = prepare("akt_lines", source, tmp_path / "out")
    assert data.student_ids == ids
    found = histories(data, "order", "skill_id", "correct")
    assert found[ids[1]] == [(0, "8", 0), (1, "8", 0), (2, "8", 0), (3, "9", 1)]
    np.testing.assert_array_equal(data.folds, assign_folds(2))


# Real data


@pytest.fixture(scope="module")
def assist2015(
    real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    return prepare("pykt", real_data("assist2015"), tmp_path_factory.mktemp("real") / "assist2015")


def test_facts_of_assist2015(assist2015: Dataset) -> None:
    data = assist2015
    assert data.manifest["counts"]["students"] == 15_275 + 3_818
    assert data.manifest["counts"]["interactions"] == 544_339 + 138_458
    assert data.n_skills == 100
    assert data.skill_ids == tuple(str(code) for code in range(100))
    assert filters(data) == {"short_students": (0, 0)}
    assert [len(data.students("valid", fold)) for fold in range(5)] == [3_055] * 5
    lengths = np.diff(data.offsets)
    train = np.concatenate([data.students("valid", fold) for fold in range(5)])
    test = data.students("test")
    assert len(test) == 3_818
    assert lengths[train].sum() == 544_339 and lengths[test].sum() == 138_458
    assert len(data.students("train", 0)) == 4 * 3_055


def test_sequences_and_targets_of_assist2015(assist2015: Dataset) -> None:
    data = assist2015
    train = np.concatenate([data.students("valid", fold) for fold in range(5)])
    _, lengths, _ = cut_sequences(data.offsets, train, 200)
    assert len(lengths) == 15_426
    assert (lengths - 1).sum() == 528_905
    test = data.students("test")
    _, lengths, _ = cut_sequences(data.offsets, test, 200)
    assert (lengths - 1).sum() == 134_592
    assert (np.diff(data.offsets)[test] - 1).sum() == 134_640


def write_raw_assist2015(data: Dataset, folder: Path, out: Path) -> None:
    """The raw form of pyKT's folder: interleaved, original ids, with rows that it filters.

    pyKT's code of a student is the place of the student's first row among all first rows.
    """
    codes = json.loads((folder / "keyid2idx.json").read_text())
    users = np.array(sorted(codes["uid"], key=codes["uid"].__getitem__))
    skills = np.array(sorted(codes["concepts"], key=codes["concepts"].__getitem__))
    owner = np.repeat(np.array(data.student_ids).astype(int), np.diff(data.offsets))
    rng = np.random.default_rng(7)
    moment = rng.uniform(size=len(owner))
    starts = data.offsets[:-1]
    # The first line of student u comes at u / n, the others anywhere after it.
    begin = owner / len(users)
    moment = begin + (1 - begin) * moment
    moment[starts] = begin[starts]
    # log_id gives the order in time, the line in the file does not.
    log_id = np.arange(len(owner)) * 3 + 100_000
    lines = np.lexsort((moment, owner))
    shuffled = np.lexsort((rng.uniform(size=len(owner)), owner))
    rows = pl.DataFrame(
        {
            "user_id": users[owner[shuffled]],
            "log_id": log_id[shuffled],
            "sequence_id": skills[np.array(data.skill_ids).astype(int)[data.rows.skill[shuffled]]],
            "correct": data.rows.response[shuffled].astype(float),
            "moment": moment[lines],
        }
    ).sort("moment")
    partial = rows.sample(500, seed=1).with_columns(correct=0.5, moment=-1.0)
    short = pl.DataFrame({"user_id": ["x", "x"], "log_id": [1, 2], "moment": [0.1, 0.2]})
    short = short.with_columns(sequence_id=pl.lit(str(skills[0])), correct=1.0)
    rows = pl.concat([rows, partial, short.select(rows.columns)]).sort(
        "moment", maintain_order=True
    )
    rows.drop("moment").write_csv(out)


def test_raw_csv_and_pykt_folder_give_the_same_split(
    assist2015: Dataset, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = real_data("assist2015")
    write_raw_assist2015(assist2015, folder, tmp_path / "raw.csv")
    raw = prepare("assist2015", tmp_path / "raw.csv", tmp_path / "out")
    codes = json.loads((folder / "keyid2idx.json").read_text())
    user_of = {str(code): user for user, code in codes["uid"].items()}
    skill_of = {str(code): skill for skill, code in codes["concepts"].items()}
    assert filters(raw) == {"fractional_correct": (500, 0), "short_students": (2, 1)}
    assert folds(raw) == {user_of[user]: fold for user, fold in folds(assist2015).items()}
    assert raw.student_ids == [user_of[str(code)] for code in range(len(user_of))]
    coded = histories(assist2015, "order", "skill_id", "correct")
    assert histories(raw, "order", "skill_id", "correct") == {
        user_of[user]: [(order, skill_of[skill], correct) for order, skill, correct in rows]
        for user, rows in coded.items()
    }


def test_facts_of_assist2009(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    data = prepare("akt_lines", real_data("assist2009"), tmp_path / "out")
    # 5 files of 830 students, 325,589 rows in all; 320 students have fewer than 3 answers.
    assert filters(data) == {"short_students": (585, 320)}
    assert data.manifest["counts"] == {
        "students": 4_150 - 320,
        "interactions": 325_589 - 585,
        "answers": 274_063,
        "skills": 110,
    }
    assert all(len(data.students("valid", fold)) <= 830 for fold in range(5))
    with pytest.raises(DataError, match="no test students"):
        data.students("test")
    # A problem has the same skills whoever answers it: the grouping of its rows is right.
    skills: dict[str, set[frozenset[str]]] = {}
    grouped = ("student_id", "order", "question_id", "skill_id", "correct")
    table = pl.DataFrame({name: data.column(name) for name in grouped})
    answers = table.group_by("student_id", "order").agg(
        pl.col("question_id").unique(), pl.col("skill_id"), pl.col("correct").n_unique()
    )
    for questions, found in answers.select("question_id", "skill_id").iter_rows():
        assert len(questions) == 1 and len(set(found)) == len(found)
        skills.setdefault(questions[0], set()).add(frozenset(found))
    assert answers.get_column("correct").max() == 1
    assert all(len(sets) == 1 for sets in skills.values())
