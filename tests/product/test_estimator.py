"""GainSumClassifier keeps scikit-learn's contract, and no answer reaches its own prediction.

python -m tests.product.test_estimator renews the table of checks in docs/estimator.md.
"""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import gainakt
from gainakt import GainSumClassifier
from gainakt.config import load_config
from gainakt.data.estimator_input import spell
from gainakt.data.interactions import load_dataset
from gainakt.errors import ConfigError, DataError
from gainakt.evaluation.metrics import auc

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_block_heads": 2,
    "d_ff": 8,
    "epochs": 1,
    "seq_len": 8,
    "device": "cpu",
}
DOCS = Path(__file__).parents[2] / "docs" / "estimator.md"

MATRIX = "its X is a matrix of floats; here X holds students, skills and, where known, answers"
LABELS = "its y has other classes than the answers 0 and 1, and they are refused"
WORDS = "what it does wrong is refused with a ValueError, as it asks, but in words of this package"
ORDER = "a prediction depends on the rows before it, so rows have an order and belong together"
EXPECTED_FAILED_CHECKS = {
    "check_classifier_data_not_an_array": LABELS,
    "check_classifier_not_supporting_multiclass": WORDS,
    "check_classifiers_classes": LABELS,
    "check_classifiers_one_label": WORDS,
    "check_classifiers_regression_target": WORDS,
    "check_complex_data": WORDS,
    "check_dict_unchanged": MATRIX,
    "check_dont_overwrite_parameters": MATRIX,
    "check_dtype_object": MATRIX,
    "check_estimators_dtypes": MATRIX,
    "check_estimators_empty_data_messages": WORDS,
    "check_estimators_nan_inf": MATRIX,
    "check_estimators_pickle": MATRIX,
    "check_f_contiguous_array_estimator": MATRIX,
    "check_fit2d_1feature": WORDS,
    "check_fit2d_1sample": WORDS,
    "check_fit2d_predict1d": MATRIX,
    "check_fit_score_takes_y": MATRIX,
    "check_methods_sample_order_invariance": ORDER,
    "check_methods_subset_invariance": ORDER,
    "check_n_features_in_after_fitting": MATRIX,
    "check_pipeline_consistency": MATRIX,
    "check_positive_only_tag_during_fit": MATRIX,
    "check_supervised_y_2d": MATRIX,
}

Answers = npt.NDArray[np.int8]


@pytest.fixture(scope="module")
def history(tiny_data: Path) -> tuple[pl.DataFrame, Answers]:
    """Students and skills of 24 simulated students as X, their answers as y; 24 each at most."""
    data = load_dataset(tiny_data)
    students = np.repeat(np.arange(len(data.student_ids)), np.diff(data.offsets))
    table = pl.DataFrame({"student": students, "skill": data.rows.skill, "y": data.rows.response})
    table = table.group_by("student", maintain_order=True).head(24).filter(pl.col("student") < 24)
    return table.drop("y"), table.get_column("y").to_numpy()


@pytest.fixture(scope="module")
def fitted(history: tuple[pl.DataFrame, Answers]) -> GainSumClassifier:
    return GainSumClassifier(**SMALL).fit(*history)


def told(X: pl.DataFrame, y: Any) -> pl.DataFrame:
    """X with the answers in it."""
    return X.with_columns(correct=pl.Series(y))


def own(X: pl.DataFrame, student: int) -> npt.NDArray[np.bool_]:
    return X.get_column("student").to_numpy() == student


# ------------------------------------------------------------------ what a prediction may know


def test_an_answer_changes_later_predictions_of_its_student_alone(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    before = fitted.predict_proba(told(X, y))
    changed = 0
    # the last two rows lie beyond the first window of 8 answers
    for row in (0, 3, 7, 9):
        flipped = y.copy()
        flipped[row] = 1 - flipped[row]
        after = fitted.predict_proba(told(X, flipped))
        later = own(X, X["student"][0]) & (np.arange(len(y)) > row)
        assert (after[~later] == before[~later]).all(), row
        changed += (after[later] != before[later]).any()
    assert changed == 4


def test_scores_know_no_more_than_predictions(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    right = fitted.predict_proba(told(X, y))[:, 1]
    has_past = X.select(pl.int_range(pl.len()).over("student") > 0).to_series().to_numpy()
    assert fitted.score(X, y) == pytest.approx(auc(y[has_past], right[has_past]), abs=1e-9)
    assert fitted.score(told(X, y), y) == fitted.score(X, y)


def test_predictions_are_those_of_the_tracer(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    table = told(*history)
    traced = fitted.tracer().predict(table).get_column("probability").to_numpy()
    made = ~np.isnan(traced)
    assert made.sum() == len(table) - table.get_column("student").n_unique()
    np.testing.assert_allclose(fitted.predict_proba(table)[made, 1], traced[made], atol=1e-7)


@pytest.mark.parametrize("known", [1, 5, 8, 12, 20])
def test_an_open_answer_is_predicted_as_if_it_were_known(
    known: int, fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    mine = own(X, X["student"][0])
    X, y = X.filter(mine), y[mine]
    assert len(y) > 21
    opened = [*y[:known].tolist(), None]
    expected = fitted.predict_proba(told(X[: known + 1], y[: known + 1]))
    found = fitted.predict_proba(told(X[: known + 1], opened))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_open_answer_adds_nothing_to_the_past(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    rows = np.random.default_rng(0).random(len(y)) < 0.3
    opened = pl.Series(y).set(pl.Series(rows), None)
    found = fitted.predict_proba(told(X, opened))
    # the known rows alone are predicted as if the open ones were not there
    alone = fitted.predict_proba(told(X.filter(~rows), y[~rows]))
    np.testing.assert_allclose(found[~rows], alone, atol=1e-6)
    # what stands at an open row is never read: neither a 0 nor a 1
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_many_questions_are_asked_in_parts(
    fitted: GainSumClassifier,
    history: tuple[pl.DataFrame, Answers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = history
    opened = told(X, pl.Series(y).set(pl.Series(np.arange(len(y)) % 2 == 1), None))
    together = fitted.predict_proba(opened)
    monkeypatch.setattr("gainakt.evaluation.predictor.BLANKS_AT_ONCE", 7)
    np.testing.assert_allclose(fitted.predict_proba(opened), together, atol=1e-6)


def test_of_new_students_the_share_of_right_first_attempts_is_said() -> None:
    X = [
        ["a", "x"],
        ["a", "x"],
        ["a", "x"],
        ["a", "y"],
        ["b", "x"],
        ["b", "y"],
        ["b", "x"],
        ["b", "x"],
    ]
    y = [1, 0, 1, 0, 0, 1, 1, 0]
    model = GainSumClassifier(**SMALL, skills=["z"]).fit(X, y)
    # first attempts: x right and wrong, y wrong and right; in all (2 + 1) / (4 + 2)
    assert model.first_answers_.tolist() == [0.5, 0.5, 0.5]
    y[5] = 0
    model.fit(X, y)
    overall = (1 + 1) / (4 + 2)
    expected = [(1 + 2 * overall) / 4, 2 * overall / 4, overall]
    np.testing.assert_allclose(model.first_answers_, expected)
    np.testing.assert_allclose(
        model.predict_proba([["new", "z"], ["a", "y"], ["a", "x"]])[:, 1],
        [expected[2], expected[1], expected[0]],
    )


def test_the_order_column_sorts(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    expected = fitted.predict_proba(told(X, y))
    mixed = np.random.default_rng(0).permutation(len(y))
    table = told(X, y).with_columns(order=pl.int_range(pl.len()))[mixed]
    np.testing.assert_allclose(fitted.predict_proba(table), expected[mixed], atol=1e-6)
    assert fitted.score(table.drop("correct"), y[mixed]) == pytest.approx(fitted.score(X, y))
    renamed = clone(fitted).set_params(order="at").fit(X.with_columns(at=pl.int_range(pl.len())), y)
    assert renamed.history_ == fitted.history_


# ------------------------------------------------------------------ kinds of X


def test_tables_and_arrays_say_the_same(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    table = told(X, y)
    expected = fitted.predict_proba(table)
    as_numbers = table.cast(pl.Float64).to_numpy()
    for same in (table.to_pandas(), table.to_numpy(), as_numbers, np.asfortranarray(as_numbers)):
        assert (fitted.predict_proba(same) == expected).all()
    as_numbers[::3, 2] = np.nan
    opened = table.with_columns(pl.Series("correct", as_numbers[:, 2]))
    assert (fitted.predict_proba(as_numbers) == fitted.predict_proba(opened)).all()
    assert (fitted.predict_proba(opened.to_pandas()) == fitted.predict_proba(opened)).all()
    again = clone(fitted).fit(X.to_pandas(), pd.Series(y, index=np.arange(len(y))[::-1]))
    assert again.history_ == fitted.history_
    renamed = GainSumClassifier(**SMALL, student="user", skill="topic")
    renamed.fit(X.rename({"student": "user", "skill": "topic"}), y.astype(bool).tolist())
    assert renamed.history_ == fitted.history_


def test_neither_X_nor_parameters_are_changed(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history[0].to_pandas(), history[1].copy()
    before = X.copy(), y.copy()
    model = GainSumClassifier(**SMALL)
    parameters = model.get_params()
    model.fit(X, y).predict(X)
    pd.testing.assert_frame_equal(X, before[0])
    assert (y == before[1]).all()
    assert model.get_params() == parameters


# ------------------------------------------------------------------ scikit-learn's ways


def test_cross_validation_by_student(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history
    model = GainSumClassifier(**SMALL)
    by_student = {"groups": X["student"].to_numpy(), "cv": GroupKFold(2), "error_score": "raise"}
    scores = cross_val_score(model, X, y, **by_student)
    assert (np.abs(scores - 0.5) < 0.3).all() and scores.std() > 0
    # any other measure needs the answers in X; then first answers are scored too
    assert np.isfinite(cross_val_score(model, told(X, y), y, scoring="roc_auc", **by_student)).all()
    assert (cross_val_score(model, told(X, y).to_pandas(), y, **by_student) == scores).all()


def test_a_search_draws_numbers_of_numpy(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history
    search = GridSearchCV(
        GainSumClassifier(**SMALL),
        {"learning_rate": np.array([1e-3, 1e-2]), "n_heads": np.array([1])},
        cv=GroupKFold(2),
        error_score="raise",
    )
    search.fit(X, y, groups=X["student"].to_numpy())
    assert search.best_params_["learning_rate"] in (1e-3, 1e-2)


def test_it_ends_a_pipeline(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    raw = X.rename({"skill": "topic"})
    rename = FunctionTransformer(lambda table: table.rename({"topic": "skill"}))
    pipeline = make_pipeline(rename, clone(fitted)).fit(raw, y)
    assert pipeline.score(raw, y) == fitted.score(X, y)


def test_it_is_pickled_cloned_and_set(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    X, y = history
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(told(X, y)) == fitted.predict_proba(told(X, y))).all()
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copied.predict(X)
    assert copied.set_params(epochs=3).epochs == 3 and fitted.epochs == 1


def test_it_predicts_the_likelier_answer(
    fitted: GainSumClassifier, history: tuple[pl.DataFrame, Answers]
) -> None:
    table = told(*history)
    probability = fitted.predict_proba(table)
    assert (fitted.predict(table) == fitted.classes_[probability.argmax(axis=1)]).all()
    assert set(fitted.predict(table)) == {0, 1}


def test_the_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = check_estimator(
            GainSumClassifier(**SMALL),
            expected_failed_checks=EXPECTED_FAILED_CHECKS,
            on_skip=None,
            on_fail=None,
        )
    failed = {o["check_name"]: o["exception"] for o in outcomes if o["status"] == "failed"}
    assert failed == {}
    needless = {o["check_name"] for o in outcomes if o["status"] == "passed"}
    assert not needless & set(EXPECTED_FAILED_CHECKS)
    assert len([o for o in outcomes if o["status"] == "passed"]) > 25


# ------------------------------------------------------------------ learning


def test_the_defaults_are_those_of_the_named_configuration() -> None:
    assert GainSumClassifier()._config().model_copy(
        update={"hardware": load_config("gainsum").hardware}
    ) == load_config("gainsum")


def test_a_fit_is_a_function_of_its_seed(history: tuple[pl.DataFrame, Answers]) -> None:
    def weights(**parameters: Any) -> torch.Tensor:
        model = GainSumClassifier(**SMALL | parameters).fit(*history)
        return model.checkpoint_.weights["embed_skill.weight"]

    torch.manual_seed(1)
    first = weights()
    state = torch.get_rng_state()
    second = weights()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(random_state=1))
    drawn = np.random.RandomState(3)
    assert not torch.equal(weights(random_state=drawn), weights(random_state=drawn))
    assert not torch.equal(weights(random_state=None), weights(random_state=None))
    generator = np.random.default_rng(0)
    drawn_again = weights(random_state=np.random.default_rng(0))
    assert torch.equal(weights(random_state=generator), drawn_again)
    assert not torch.equal(weights(random_state=generator), drawn_again), "it goes on drawing"


def test_a_frame_of_pandas_without_names_is_an_array(history: tuple[pl.DataFrame, Answers]) -> None:
    pandas = pytest.importorskip("pandas")
    frame, answers = history
    named = GainSumClassifier(**SMALL).fit(frame, answers)
    values = frame.select("student", "skill").to_numpy()
    counted = pandas.DataFrame(values)
    assert counted.columns.tolist() == [0, 1]
    again = GainSumClassifier(**SMALL).fit(counted, answers)
    np.testing.assert_array_equal(again.predict_proba(counted), named.predict_proba(frame))


def test_it_keeps_the_best_epoch_and_stops_without_patience(
    history: tuple[pl.DataFrame, Answers], capfd: pytest.CaptureFixture[str]
) -> None:
    model = GainSumClassifier(
        **SMALL | {"epochs": 6, "learning_rate": 0.1, "patience": 2}, verbose=1
    )
    model.fit(*history)
    aucs = [row["val_auc"] for row in model.history_]
    assert model.checkpoint_.epoch == 1 + int(np.argmax(aucs))
    assert model.n_iter_ == len(aucs) == min(6, model.checkpoint_.epoch + model.patience)
    assert capfd.readouterr().err.count(" done in ") == len(aucs)
    model.set_params(verbose=0, epochs=1).fit(*history)
    assert capfd.readouterr() == ("", "")


def test_validating_students_are_not_learnt_from(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history
    model = GainSumClassifier(**SMALL, validation_fraction=0.25)
    folds = model._folds(model._answered(X, y), None, seed=0)
    assert (folds == 0).sum() == 6 and (folds == 1).sum() == 18
    assert (folds != model._folds(model._answered(X, y), None, seed=1)).any()
    weights = []
    for flip in (False, True):
        # the first epoch is the only one, so that validation cannot choose another
        validating = X.get_column("student").is_in(
            np.flatnonzero(model._folds(model._answered(X, y), None, seed=42) == 0)
        )
        answers = np.where(validating.to_numpy() & flip, 1 - y, y)
        weights.append(model.fit(X, answers).checkpoint_.weights["embed_skill.weight"])
    assert torch.equal(weights[0], weights[1])


def test_groups_stay_together(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history
    model = GainSumClassifier(**SMALL)
    table = model._answered(X, y)
    school = X.get_column("student").to_numpy() % 7
    folds = model._folds(table, school, seed=0)
    of_student = np.array([int(s) % 7 for s in table.dataset.student_ids])
    assert all(len(set(folds[of_student == number])) == 1 for number in range(7))
    assert set(folds) == {0, 1}
    model.fit(X, y, groups=school)
    with pytest.raises(DataError, match=r"student '.*' is in two groups"):
        model.fit(X, y, groups=np.arange(len(y)))
    with pytest.raises(DataError, match=r"groups of shape \(3,\)"):
        model.fit(X, y, groups=[1, 2, 3])


# ------------------------------------------------------------------ mistakes

GOOD = [[student, skill] for student in "abcd" for skill in "xyxy"]
RIGHT = [0, 1, 1, 0] * 4


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (GOOD, RIGHT[:-1], "X has 16 rows and y 15 answers"),
        (GOOD, [*RIGHT[:-1], 2], "y, row 16: 2; only 0 and 1 are allowed"),
        (GOOD, [*RIGHT[:-1], None], "y, row 16: None; only 0 and 1 are allowed"),
        (GOOD, [*RIGHT[:-1], np.nan], "y, row 16: nan; only 0 and 1 are allowed"),
        (
            GOOD,
            np.array([*RIGHT[:-1], pd.NA], dtype=object),
            "y, row 16: <NA>; only 0 and 1 are allowed",
        ),
        (GOOD, ["right"] * 16, r"y, row 1: 'right'; .* \(16 rows are bad, this is the first\)"),
        (GOOD, None, "y is None"),
        (GOOD, np.zeros((16, 2)), r"y of shape \(16, 2\): must have one dimension"),
        (GOOD[:4], RIGHT[:4], "X has 1 students with 3 answers or more; at least 2"),
        (GOOD, [1] * 16, "every answer of the train students"),
        ([["a"]] * 16, RIGHT, r"X of shape \(16, 1\): must be a polars or pandas DataFrame"),
        (["a"] * 16, RIGHT, r"X of shape \(16,\)"),
        ([["a", None]] * 16, RIGHT, "row 1, column 'skill': empty"),
        ([[np.nan, 1.0]] * 16, RIGHT, "row 1, column 'student': empty"),
        (pl.DataFrame({"student": ["a"], "right": [1]}), [1], "has no column 'skill'"),
        (pl.DataFrame({"student": [], "skill": []}), [], "the table has no rows"),
        (pl.LazyFrame({"student": ["a"], "skill": ["x"]}), [1], "collect it first"),
        ([[*row, 2] for row in GOOD], RIGHT, "row 1, column 'correct': '2'"),
        ([[*row, 0] for row in GOOD], RIGHT, "row 2: y and the column 'correct' of X differ"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(X: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GainSumClassifier(**SMALL).fit(X, y)


def test_what_cannot_be_predicted_is_said(fitted: GainSumClassifier) -> None:
    with pytest.raises(DataError, match=r"first is 'unheard'.*named in the parameter `skills`"):
        fitted.predict_proba([["a", "unheard"]])
    with pytest.raises(DataError, match="column 'correct': '7'; only 0 and 1 are allowed"):
        fitted.predict_proba([["a", "0", 7]])
    with pytest.raises(DataError, match=r"1 rows have an earlier answer .* AUC needs right and"):
        fitted.score([["a", "0"], ["a", "0"], ["b", "0"]], [1, 0, 1])
    with pytest.raises(DataError, match="X is sparse"):
        from scipy.sparse import csr_matrix

        fitted.predict(csr_matrix([[1, 2]]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"d_model": 0}, "model.d_model = 0"),
        ({"n_heads": 3}, "n_heads = 3 must divide d_model = 8"),
        ({"weights": "all"}, "model.weights = 'all'"),
        ({"validation_fraction": 1.0}, "validation_fraction = 1.0: must be between 0 and 1"),
        ({"random_state": -1}, "runtime.seed = -1"),
        ({"device": "gpu"}, "hardware.devices = 'gpu'"),
    ],
)
def test_an_impossible_parameter_is_said_by_fit(parameters: dict[str, Any], message: str) -> None:
    model = GainSumClassifier(**SMALL | parameters)
    with pytest.raises(ConfigError, match=message):
        model.fit(GOOD, RIGHT)


def test_without_scikit_learn_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gainakt.estimator")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ConfigError, match=r"needs scikit-learn; .* install 'gainakt\[sklearn\]'"):
        _ = gainakt.GainSumClassifier
    assert "GainSumClassifier" in dir(gainakt)


# ------------------------------------------------------------------ the page


def checks_table() -> str:
    """The table of docs/estimator.md."""
    rows = "".join(f"| `{name}` | {why} |\n" for name, why in EXPECTED_FAILED_CHECKS.items())
    return f"| check | why it does not apply |\n|---|---|\n{rows}"


def test_the_page_lists_the_checks_that_do_not_apply() -> None:
    assert checks_table() in DOCS.read_text(encoding="utf-8"), (
        "docs/estimator.md is out of date; renew it with: python -m tests.product.test_estimator"
    )


def test_the_examples_of_the_page_run(
    history: tuple[pl.DataFrame, Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setitem(GainSumClassifier.__init__.__kwdefaults__, name, value)
    monkeypatch.chdir(tmp_path)
    names = {"student": "user", "skill": "topic", "correct": "right"}
    told(*history).rename(names).write_csv("answers.csv")
    found: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), found)


if __name__ == "__main__":
    page = DOCS.read_text(encoding="utf-8")
    table = re.compile(r"\| check \|.*?\n(?=\n|\Z)", re.S)
    DOCS.write_text(table.sub(lambda _: checks_table(), page), encoding="utf-8")


def test_skills_of_one_question_are_one_answer_to_it() -> None:
    """Of coin flips whose questions have two skills, nothing can be predicted."""
    rng = np.random.default_rng(7)
    rows = [
        (f"s{student}", f"q{question}", skill, right)
        for student in range(60)
        for question, right in zip(rng.integers(30, size=20), rng.integers(2, size=20), strict=True)
        for skill in (f"k{question % 5}", f"k{5 + question % 4}")
    ]
    table = pl.DataFrame(rows, schema=["student", "item", "skill", "correct"], orient="row")
    X, y = table.drop("correct"), table["correct"].to_numpy()
    model = GainSumClassifier(**SMALL | {"question": "item"}).fit(X, y)
    assert abs(model.score(X, y) - 0.5) < 0.1
    scored = model.predict_proba(table)[:, 1]
    second = np.arange(len(rows)) % 2 == 1
    np.testing.assert_array_equal(scored[second], scored[~second])
    plain = GainSumClassifier(**SMALL).fit(X.rename({"item": "question"}), y)
    np.testing.assert_array_equal(
        plain.predict_proba(table.rename({"item": "question"}))[:, 1], scored
    )


@pytest.mark.parametrize(
    "nothing",
    [None, pd.NA, pd.NaT, float("nan"), Decimal("NaN"), Decimal("sNaN"), np.datetime64("NaT")],
    ids=repr,
)
@pytest.mark.parametrize("column", [0, 1])
def test_a_missing_id_in_an_array_is_missing_and_no_student_or_skill(
    nothing: object, column: int
) -> None:
    cells = np.array([["s", "k"], ["t", "l"]] * 6, dtype=object)
    cells[3, column] = nothing
    with pytest.raises(DataError, match=r"row 4, column .*: empty; an id is missing"):
        GainSumClassifier(**SMALL).fit(cells, [0, 1] * 6)


def test_a_whole_number_is_one_id_whatever_its_type() -> None:
    same = [3, 3.0, np.int64(3), np.float32(3), Decimal("3.0"), Decimal(3), "3"]
    assert {spell(cell) for cell in same} == {"3"}


def test_skills_named_before_may_be_an_array(history: tuple[pl.DataFrame, Answers]) -> None:
    X, y = history
    named = np.append(X["skill"].unique().to_numpy(), "never practised")
    model = GainSumClassifier(**SMALL | {"skills": named}).fit(X, y)
    assert "never practised" in model.checkpoint_.skill_ids
    asked = pl.DataFrame({"student": ["new"], "skill": ["never practised"]})
    assert model.predict_proba(asked).shape == (1, 2)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_question_of_several_skills_is_predicted_alike_known_or_not(pooled: bool) -> None:
    rng = np.random.default_rng(8)
    rows = [
        (f"s{student}", step, f"q{step}", f"k{skill}", right)
        for student in range(20)
        for step, right in enumerate(rng.integers(2, size=12).tolist())
        for skill in rng.permutation(4)[: rng.integers(1, 4)]
    ]
    names = ["student", "order", "question", "skill", "correct"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    model = GainSumClassifier(**SMALL).fit(table.drop("correct"), table["correct"].to_numpy())
    if not pooled:
        settings = model.checkpoint_.config
        parameters = settings.model.model_copy(update={"pooled_skills": False})
        model.checkpoint_ = replace(
            model.checkpoint_, config=settings.model_copy(update={"model": parameters})
        )
    mine = table.filter(pl.col("student") == "s3")
    known = model.predict_proba(mine)[:, 1]
    for step in range(1, 12):
        upto = mine.filter(pl.col("order") <= step)
        asked = upto.with_columns(pl.when(pl.col("order") < step).then("correct").alias("correct"))
        found = model.predict_proba(asked)[:, 1]
        np.testing.assert_allclose(found, known[: len(upto)], atol=1e-6)
        if pooled:
            session = model.tracer().session()
            for _, answer in mine.filter(pl.col("order") < step).group_by(
                "order", maintain_order=True
            ):
                session.observe(answer["skill"].to_list(), answer["correct"][0])
            last = upto.filter(pl.col("order") == step)["skill"].to_list()
            assert session.predict(last) == pytest.approx(found[-1], abs=1e-6)
