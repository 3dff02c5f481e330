"""Tables of users reach the data set as they are, and what is wrong is told as prepare tells it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.prepare import prepare
from gainakt.data.rows import ORDER
from gainakt.data.tables import LongTable, read_table
from gainakt.errors import DataError

ANSWERS = pl.DataFrame(
    {
        "student": ["b", "a", "b", "a", "b"],
        "skill": [10, 3, 9, 3, 10],
        "correct": [1, 0, 0, 1, 1],
    }
)


def histories(long: LongTable) -> dict[str, list[tuple[str, int]]]:
    """Student -> steps in order."""
    data = long.dataset
    steps = [
        (data.skill_ids[code], int(answer))
        for code, answer in zip(data.rows.skill, data.rows.response, strict=True)
    ]
    return {
        student: steps[data.offsets[index] : data.offsets[index + 1]]
        for index, student in enumerate(data.student_ids)
    }


@pytest.mark.parametrize("table", [ANSWERS, ANSWERS.to_pandas()], ids=["polars", "pandas"])
def test_a_table_by_hand(table: Any) -> None:
    long = read_table(table)
    assert histories(long) == {
        "b": [("10", 1), ("9", 0), ("10", 1)],
        "a": [("3", 0), ("3", 1)],
    }
    assert long.dataset.skill_ids == ("3", "9", "10")
    assert long.rows.tolist() == [0, 2, 4, 1, 3]
    assert long.dataset.column(ORDER).tolist() == [0, 1, 2, 0, 1]


def test_other_names_and_other_kinds_of_columns() -> None:
    table = ANSWERS.select(
        pl.col("student").cast(pl.Categorical).alias("user"),
        pl.col("skill").cast(pl.String).alias("row"),
        pl.col("correct").cast(pl.Boolean).alias("order"),
    )
    names = {"student": "user", "skill": "row", "correct": "order"}
    # the answers are called order here, and rows stay as they stand when no order is named
    renamed = table.rename({"order": "right"})
    expected = histories(read_table(ANSWERS))
    assert histories(read_table(renamed, **names | {"correct": "right"})) == expected
    assert histories(read_table(renamed.to_pandas(), **names | {"correct": "right"})) == expected


def _coin_flips(students: int = 30, steps: int = 10) -> pl.DataFrame:
    """Each question has two skills, so two rows; nothing can be predicted."""
    rng = np.random.default_rng(7)
    rows = []
    for student in range(students):
        for step in range(steps):
            question, right = int(rng.integers(30)), int(rng.integers(2))
            for skill in (f"k{question % 5}", f"k{5 + question % 4}"):
                rows.append((f"s{student}", f"q{question}", skill, right, step))
    names = ["student", "question", "skill", "correct", "order"]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_skills_of_one_question_are_one_answer_or_refused() -> None:
    table = _coin_flips()
    one = read_table(table).dataset
    assert one.rows.order[:20].tolist() == np.repeat(np.arange(10), 2).tolist()
    # with no more than the order, they would give each other away
    with pytest.raises(DataError, match=r"300 rows have the order .* 100% of them its answer"):
        read_table(table.drop("question"))
    named = table.rename({"question": "item"})
    again = read_table(named, question="item").dataset
    assert again.rows.order.tolist() == one.rows.order.tolist()


def test_answers_of_one_day_are_answers_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "student": np.repeat([f"s{i}" for i in range(20)], 20),
            "skill": rng.choice(["a", "b", "c"], 400),
            "correct": rng.integers(2, size=400),
            "order": np.tile(np.arange(20) // 4, 20),
        }
    )
    assert read_table(table).dataset.rows.order[:20].tolist() == list(range(20))
    assert "300 rows of the table have the order of their student's row before" in caplog.text


def test_a_prepared_table_says_with_its_order_which_rows_are_one_answer(tmp_path: Path) -> None:
    table = _coin_flips()
    table.write_csv(tmp_path / "flips.csv")
    made = prepare(
        "generic",
        tmp_path / "flips.csv",
        tmp_path / "made",
        **{name: name for name in ("student", "skill", "correct", "order", "question")},
    )
    prepared = pl.read_parquet(tmp_path / "made" / "interactions.parquet")
    for columns in (prepared.columns, [c for c in prepared.columns if c != "question_id"]):
        long = read_table(prepared.select(columns), student="student_id", skill="skill_id")
        assert long.dataset.rows.order.tolist() == made.rows.order.tolist()


def test_names_that_are_not_text_are_refused_with_the_way_out() -> None:
    pandas = pytest.importorskip("pandas")
    cells = {"student": ["a", "a"], "skill": ["x", "y"], "correct": [0, 1]}
    plain = pandas.DataFrame(cells)
    beside = plain.assign(more=1).rename(columns={"more": 0})
    assert read_table(beside).dataset.skill_ids == ("x", "y"), "other columns may be called so"
    levels = plain.copy()
    levels.columns = pandas.MultiIndex.from_product([["answers"], plain.columns])
    counted = pandas.DataFrame(plain.to_numpy())
    for table in (levels, counted):
        with pytest.raises(DataError, match="names must be text; with pandas: table"):
            read_table(table)
    with pytest.raises(DataError, match="0 names a column of the table"):
        read_table(counted, student=0, skill=1, correct=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "order",
    [
        [5, 0, 4, 1, 3],
        [0.5, -1.0, 0.25, 7.5, 0.125],
        ["2015-03-05", "2015-03-01", "2015-03-04", "2015-03-02", "2015-03-03"],
    ],
)
@pytest.mark.parametrize("name", ["order", "when"])
def test_rows_are_sorted_by_the_order_column(order: list[Any], name: str) -> None:
    table = ANSWERS.with_columns(pl.Series(name, order))
    chosen = {} if name == "order" else {"order": name}
    for kind in (table, table.to_pandas()):
        long = read_table(kind, **chosen)
        assert histories(long)["b"] == [("10", 1), ("9", 0), ("10", 1)]
        assert long.rows.tolist() == [4, 2, 0, 1, 3]


def test_dates_order_rows_too() -> None:
    dates = pl.Series("at", ["2015-03-05", "2015-03-01"]).str.to_datetime()
    table = ANSWERS.head(2).with_columns(student=pl.lit("s"), at=dates)
    for kind in (table, table.to_pandas()):
        assert read_table(kind, order="at").rows.tolist() == [1, 0]


def test_rows_of_equal_order_keep_their_place_and_are_answers_of_their_own() -> None:
    table = ANSWERS.with_columns(student=pl.lit("s"), order=pl.lit(7))
    long = read_table(table)
    assert long.rows.tolist() == [0, 1, 2, 3, 4]
    assert long.dataset.column(ORDER).tolist() == [0, 1, 2, 3, 4]


def test_the_skills_of_one_question_are_one_answer() -> None:
    table = pl.DataFrame(
        {
            "student": ["s"] * 4,
            "skill": ["x", "y", "x", "y"],
            "correct": [1, 1, 0, 0],
            "order": [1, 1, 2, 2],
            "question": ["q", "q", "q", "q"],
        }
    )
    long = read_table(table, question="question")
    assert long.dataset.column(ORDER).tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"the table, rows 3 and 4: student 's' answered one"):
        read_table(table.with_columns(correct=pl.Series([1, 1, 0, 1])), question="question")


# column, its bad values, and what both ways of reading say of them
BAD = [
    ("correct", [1, 0, 2, 1, 1], r"row 3, column 'correct': '2'; only 0 and 1 are allowed"),
    ("correct", [1, None, 0, 1, 1], r"row 2, column 'correct': empty; only 0 and 1 are allowed"),
    ("correct", [0.5, 0.0, 1.0, 1.0, 1.0], r"row 1, column 'correct': '0.5'; only 0 and 1"),
    ("skill", ["x", "y", "", "x", "x"], r"row 3, column 'skill': empty; an id is missing"),
    ("skill", ["x", "y\n", "x", "x", None], r"row 2, column 'skill': 'y\\n'; an id may not hold"),
    ("student", [None, "b", None, "b", "b"], r"row 1, column 'student': empty; .*\(2 rows are bad"),
    ("order", [1, 2, None, 4, 5], r"row 3, column 'order': empty; only numbers or ISO dates"),
]


@pytest.mark.parametrize(("column", "values", "told"), BAD)
def test_a_bad_cell_is_told_as_prepare_tells_it(
    column: str, values: list[Any], told: str, tmp_path: Path
) -> None:
    table = ANSWERS.with_columns(pl.Series(column, values))
    for kind in (table, table.to_pandas()):
        with pytest.raises(DataError, match=r"the table, " + told):
            read_table(kind)
    file = tmp_path / "answers.parquet"
    table.write_parquet(file)
    names = {name: name for name in table.columns}
    with pytest.raises(DataError, match=r"answers.parquet, " + told):
        prepare("generic", file, tmp_path / "out", **names)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (ANSWERS.rename({"skill": "topic"}), r"no column 'skill'; needed are student, skill, "),
        (ANSWERS.head(0), "the table has no rows"),
        (ANSWERS.to_pandas().head(0), "the table has no rows"),
        (ANSWERS.lazy(), r"must be a polars or pandas DataFrame .*LazyFrame; collect it first"),
        (ANSWERS.to_dict(as_series=False), "must be a polars or pandas DataFrame .*, not .*dict"),
        (None, "must be a polars or pandas DataFrame .*, not .*NoneType"),
        (ANSWERS["skill"], "must be a polars or pandas DataFrame .*, not .*Series"),
        (
            pd.DataFrame({"student": ["a", 1], "skill": ["x", "x"], "correct": [1, 0]}),
            r"column 'student' cannot be read as text: .*; its cells must be of one kind",
        ),
        (
            ANSWERS.with_columns(skill=pl.lit([1, 2])),
            "column 'skill' cannot be read as text: cannot cast List",
        ),
        (pd.DataFrame([[1, 2]], columns=["skill", "skill"]), "unique column names"),
    ],
)
def test_what_is_no_table_of_answers_is_refused(table: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_table(table)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"no column 'user'; .*; it has student, skill, correct"):
        read_table(ANSWERS, student="user")
    with pytest.raises(DataError, match="no column 'when'"):
        read_table(ANSWERS, order="when")


def test_columns_come_back_in_the_kind_and_order_of_the_table() -> None:
    pandas = ANSWERS.to_pandas().set_index(pd.Index([50, 40, 30, 20, 10]))
    values = np.array([np.nan, 0.2, 0.3, np.nan, 0.5])
    expected = [None, None, 0.2, 0.5, 0.3]
    longs = read_table(ANSWERS), read_table(pandas)
    polars = longs[0].with_column("p", values)
    assert isinstance(polars, pl.DataFrame)
    assert polars["p"].to_list() == expected
    assert polars.drop("p").equals(ANSWERS)
    back = longs[1].with_column("p", values)
    assert isinstance(back, pd.DataFrame)
    assert back.index.tolist() == [50, 40, 30, 20, 10]
    assert [None if np.isnan(v) else v for v in back["p"]] == expected
    pd.testing.assert_frame_equal(back.drop(columns="p"), pandas)
    with pytest.raises(DataError, match="has a column 'skill' already"):
        longs[0].with_column("skill", values)


def test_rows_that_are_left_out_have_empty_cells() -> None:
    long = read_table(ANSWERS).keep(np.array([True, False, True, False, False]))
    assert histories(long) == {"b": [("10", 1), ("10", 1)]}
    assert long.with_column("p", np.array([0.1, 0.2]))["p"].to_list() == [
        0.1,
        None,
        None,
        None,
        0.2,
    ]
    assert long.dataset.with_used_skills().skill_ids == ("10",)
    one = read_table(ANSWERS).keep(np.array([False, False, False, False, True]))
    assert histories(one) == {"a": [("3", 1)]} and one.rows.tolist() == [3]


rows_of_tables = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s 3", "ø"]),
        st.integers(0, 12),
        st.integers(0, 1),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(rows_of_tables, st.booleans())
def test_pandas_says_what_polars_says(rows: list[tuple[Any, ...]], ordered: bool) -> None:
    names = ["student", "skill", "correct", "order" if ordered else "other"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    one, other = read_table(table), read_table(table.to_pandas())
    assert histories(one) == histories(other)
    assert one.rows.tolist() == other.rows.tolist()
    expected: dict[str, list[tuple[str, int]]] = {}
    for student, skill, answer, _ in sorted(rows, key=lambda row: row[3]) if ordered else rows:
        expected.setdefault(student, []).append((str(skill), answer))
    assert histories(one) == expected
    assert sorted(one.rows.tolist()) == list(range(len(rows)))


def test_the_message_of_a_memory_data_set_names_what_it_has() -> None:
    with pytest.raises(DataError, match=re.escape("no column 'timestamp' in memory")):
        read_table(ANSWERS).dataset.column("timestamp")
