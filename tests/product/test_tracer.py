"""The tracer: the figures of an evaluation on a user's table, and clear words where it cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gainakt as package
from gainakt.data.tables import read_table
from gainakt.errors import ConfigError, DataError, ExperimentError, GainaktError
from gainakt.evaluation.protocol import coded
from gainakt.record.checkpoint import load_checkpoint
from tests.conftest import Outcome
from tests.helpers import random_table, small_tracer

TABLE = random_table([4, 1, 30])


def table_of(data: Path) -> pl.DataFrame:
    """The answers of a prepared data set as a user would hold them, students in disorder."""
    table = pl.read_parquet(data / "interactions.parquet")
    names = {"student_id": "student", "skill_id": "skill"}
    return table.select("student_id", "skill_id", "correct", "order", "fold").rename(names)


def mastery_of(tracer: package.Tracer) -> dict[tuple[str, str], float]:
    """(student, skill) -> mastery in TABLE."""
    rows = tracer.mastery(TABLE).iter_rows()
    return {(student, skill): mastery for student, skill, mastery in rows}


@pytest.mark.parametrize("fixture", ["gainsum_run", "finished_run"])
def test_predictions_are_those_of_evaluate(
    fixture: str,
    gainakt: Callable[..., Outcome],
    tiny_data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = request.getfixturevalue(fixture)
    folder = shutil.copytree(run, tmp_path / run.name)
    assert gainakt("evaluate", folder, "--quiet").code == 0
    recorded = pq.read_table(folder / "predictions_test.parquet").to_pandas()
    table = table_of(tiny_data).filter(fold=-1).sample(fraction=1.0, shuffle=True, seed=1)
    predicted = package.load(folder).predict(table).sort("student", "order")
    firsts = predicted.filter(pl.col("order") == 0)
    assert firsts["probability"].null_count() == len(firsts) > 0
    later = predicted.filter(pl.col("order") > 0)
    assert later["order"].max() > 20, "no history is longer than the model reads"
    recorded = recorded.sort_values(["student", "position"])
    assert later["student"].to_list() == recorded["student"].tolist()
    assert later["order"].to_list() == recorded["position"].tolist()
    found, expected = later["probability"].to_numpy(), recorded["probability"].to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_mastery_is_a_row_for_each_student_and_skill() -> None:
    tracer = small_tracer()
    mastery = tracer.mastery(TABLE)
    assert mastery.columns == ["student", "skill", "mastery"]
    assert mastery["student"].to_list() == [s for s in ("s0", "s1", "s2") for _ in range(5)]
    assert mastery["skill"].to_list() == list(tracer.skills) * 3
    for student, rows in TABLE.partition_by("student", as_dict=True).items():
        session = tracer.session()
        for _, skill, correct in rows.iter_rows():
            session.observe(skill, correct)
        found = mastery.filter(pl.col("student") == student[0])["mastery"].to_list()
        assert found == pytest.approx(list(session.mastery().values()), abs=1e-6)


def test_gainsum_predicts_what_it_calls_mastery() -> None:
    tracer = small_tracer(exact=True)
    coming = pl.DataFrame({"student": ["s0", "s2"], "skill": ["k3", "k1"], "correct": [0, 1]})
    predicted = tracer.predict(pl.concat([TABLE, coming]))["probability"].to_list()[-2:]
    mastery = mastery_of(tracer)
    assert predicted == pytest.approx([mastery["s0", "k3"], mastery["s2", "k1"]], abs=1e-12)


def test_pandas_in_pandas_out_with_names_and_index_kept() -> None:
    tracer = small_tracer()
    names = {"student": "user", "skill": "topic", "correct": "right"}
    frame = TABLE.rename(names).to_pandas()
    frame.index = pd.Index(range(100, 100 + len(frame)))
    predicted = tracer.predict(frame, **names)
    assert isinstance(predicted, pd.DataFrame)
    pd.testing.assert_frame_equal(predicted.drop(columns="probability"), frame)
    expected = tracer.predict(TABLE)["probability"].to_list()
    assert [None if np.isnan(v) else v for v in predicted["probability"]] == expected
    mastery = tracer.mastery(frame, **names)
    assert isinstance(mastery, pd.DataFrame)
    assert mastery.columns.tolist() == ["user", "topic", "mastery"]
    assert mastery["mastery"].tolist() == tracer.mastery(TABLE)["mastery"].to_list()
    explained = tracer.explain(frame, "s2", columns=names)
    assert explained == tracer.explain(TABLE, "s2")


def test_ids_may_be_numbers() -> None:
    table = TABLE.with_columns(pl.col("student").str.slice(1).cast(pl.Int64))
    tracer = small_tracer()
    expected = tracer.predict(TABLE)["probability"].to_list()
    assert tracer.predict(table)["probability"].to_list() == expected
    assert tracer.mastery(table)["student"].to_list() == [s for s in range(3) for _ in range(5)]
    assert tracer.explain(table, 2).student == "2"


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_students_do_not_depend_on_one_another(lengths: list[int], random: Any) -> None:
    tracer = small_tracer(exact=True)
    table = random_table(lengths).with_row_index("place")
    order = list(range(len(table)))
    random.shuffle(order)
    # rows of different students change places, each student's own stay in order
    owners = table["student"].gather(order).to_list()
    places = {s: iter(rows["place"]) for (s,), rows in table.group_by("student")}
    mixed = table[[next(places[owner]) for owner in owners]]
    expected = tracer.predict(table).sort("place")["probability"].to_list()
    found = tracer.predict(mixed).sort("place")["probability"].to_list()
    assert found == [None if v is None else pytest.approx(v, abs=1e-12) for v in expected]


@pytest.mark.parametrize("answers_at_once", [1, 7, 40, 10_000])
def test_it_does_not_matter_how_many_answers_are_read_at_once(answers_at_once: int) -> None:
    tracer = small_tracer(exact=True)
    long = read_table(random_table([5, 1, 1, 30, 13, 12, 2]))
    data = coded(long.dataset, tracer.predictor.vocabulary)
    expected = tracer.predictor.answers(data)
    found = tracer.predictor.answers(data, answers_at_once)
    assert np.isnan(expected).sum() == 7
    np.testing.assert_allclose(found, expected, atol=1e-12, rtol=0)


def test_unknown_skills_are_named_or_left_out_and_counted() -> None:
    tracer = small_tracer()
    strange = TABLE.with_columns(
        skill=pl.when(pl.col("skill") == "k2").then(pl.lit("algebra")).otherwise("skill")
    )
    rows = (strange["skill"] == "algebra").sum()
    assert 0 < rows < len(strange)
    told = rf"{rows} of 35 rows of the table have 1 skill .*'skill'.* not know: algebra; it knows"
    for act in (tracer.predict, tracer.mastery, lambda table: tracer.explain(table, "s2")):
        with pytest.raises(DataError, match=told + r".* k4 .*unknown=\"skip\" leaves"):
            act(strange)
    with pytest.warns(UserWarning, match=rf"{rows} of 35 rows.*algebra; they are left out") as seen:
        predicted = tracer.predict(strange, unknown="skip")
    assert seen[0].filename == __file__, "the warning points at the user's line"
    known = strange.filter(pl.col("skill") != "algebra")
    alone = iter(tracer.predict(known)["probability"].to_list())
    expected = [None if skill == "algebra" else next(alone) for skill in strange["skill"]]
    found = predicted["probability"].to_list()
    assert found == [None if v is None else pytest.approx(v, abs=1e-6) for v in expected]
    assert predicted.drop("probability").equals(strange)


def test_a_table_of_unknown_skills_alone_is_refused_in_both_ways() -> None:
    table = TABLE.with_columns(skill=pl.lit("algebra"))
    for unknown in ("raise", "skip"):
        with pytest.raises(DataError, match="35 of 35 rows of the table have 1 skill"):
            small_tracer().predict(table, unknown=unknown)
    with pytest.raises(DataError, match="unknown = 'drop'; allowed are 'raise' and 'skip'"):
        small_tracer().predict(TABLE, unknown="drop")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (TABLE.drop("skill"), "the table has no column 'skill'"),
        (TABLE.with_columns(correct=pl.lit(2)), "row 1, column 'correct': '2'; only 0 and 1"),
        (TABLE.head(0), "the table has no rows"),
        (TABLE.with_columns(probability=0.5), "has a column 'probability' already"),
        ([1, 2], "must be a polars or pandas DataFrame"),
    ],
)
def test_a_bad_table_is_refused(table: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        small_tracer().predict(table)


def test_an_explanation_is_of_the_prediction() -> None:
    tracer = small_tracer(exact=True)
    probability = tracer.predict(TABLE).filter(student="s2")["probability"].to_list()
    for step in (1, 11, 12, 17, 29):
        e = tracer.explain(TABLE, "s2", step)
        assert e.probability == pytest.approx(probability[step], abs=1e-12)
        assert e.prior is not None
        total = e.prior + sum(answer.contribution or 0.0 for answer in e.past)
        assert total == pytest.approx(e.logit, abs=1e-9)
    coming = tracer.explain(TABLE, "s2", skill="k3")
    assert coming.step == 30
    assert coming.probability == pytest.approx(mastery_of(tracer)["s2", "k3"], abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"student": "x"}, "no student 'x' in the table; near are s0, s1, s2; all 3"),
        ({"student": "s2", "step": 0}, "no prediction for step 0 .* steps 1 to 29 can be"),
        (
            {"student": "s2", "step": 30},
            "whose history has 30 steps; .* also step 30, the next answer",
        ),
        (
            {"student": "s1"},
            "no prediction for step 0 of student 's1', whose history has 1 step; there",
        ),
        ({"student": "s2", "skill": "k9"}, "no skill 'k9' in the model"),
    ],
)
def test_what_cannot_be_explained_is_said(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        small_tracer().explain(TABLE, **arguments)


HOSTILE = "<script>alert('x')</script>"


@pytest.mark.parametrize("model", ["gainsum", "gainakt2exp", "dkt"])
def test_a_notebook_shows_tables_with_ids_escaped(model: str) -> None:
    tracer = small_tracer(model, about={"data": HOSTILE, "run": "a & b"})
    table = TABLE.with_columns(student=pl.lit(HOSTILE))
    explained = tracer.explain(table, HOSTILE)
    for page in (tracer._repr_html_(), explained._repr_html_()):
        assert "<script>" not in page and "&lt;script&gt;" in page
        assert page.startswith("<table>") and page.count("<tr>") == page.count("</tr>")
    assert "a &amp; b" in tracer._repr_html_()
    assert ("prior" in explained._repr_html_()) == (model == "gainsum")
    assert ("do not explain it" in explained._repr_html_()) == (model == "gainakt2exp")


def test_a_coloured_explanation_shows_the_strongest_answers_and_the_sum_of_the_rest() -> None:
    explained = small_tracer(seq_len=64).explain(TABLE, "s2")
    page = explained._repr_html_()
    rows = page.count("<tr>") - 1
    assert rows == 1 + 20 + 1 and "9 more answers" in page
    strongest = explained.strongest_first[0]
    colour = "33,102,172" if (strongest.contribution or 0) > 0 else "178,24,43"
    assert f"rgba({colour},0.60)" in page


def test_a_loaded_run_says_what_it_is(gainsum_run: Path) -> None:
    tracer = package.load(gainsum_run)
    facts = dict(tracer._facts())
    assert facts["model"] == "gainsum" and facts["run"] == gainsum_run.name
    assert facts["trained on"].startswith("simulated, 60 students, ")
    assert facts["skills"] == "4: k01, k02, k03, k04"
    assert facts["checks"] == "10 of 10 passed"
    results = json.loads((gainsum_run / "results.json").read_text(encoding="utf-8"))
    best = results["best"]
    assert facts["best epoch"].startswith(f"{results['best_epoch']}: val_auc {best['val_auc']:.5f}")
    assert repr(tracer) == "<Tracer: gainsum trained on simulated, 4 skills>"


def test_what_a_damaged_folder_does_not_say_is_left_out(gainsum_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gainsum_run, tmp_path / gainsum_run.name)
    (folder / "data.json").write_text("[]", encoding="utf-8")
    (folder / "results.json").unlink()
    facts = dict(package.load(folder)._facts())
    assert "trained on" not in facts and facts["best epoch"].isdigit()
    assert "failed: " in facts["checks"]


def test_a_run_is_named_in_three_ways(
    gainsum_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(gainsum_run, tmp_path / "experiments" / gainsum_run.name)
    for run in (
        gainsum_run,
        str(gainsum_run),
        gainsum_run.name[:8],
        SimpleNamespace(path=gainsum_run),
    ):
        assert package.load(run).skills == ("k01", "k02", "k03", "k04")
    with pytest.raises(ExperimentError, match="no experiment folder 'nothing'"):
        package.load("nothing")
    with pytest.raises(ExperimentError, match="not as int"):
        package.load(3)
    with pytest.raises(ConfigError, match="devices"):
        package.load(gainsum_run, device="tpu")


@pytest.mark.parametrize("model", ["gainsum", "gainakt2exp", "dkt"])
def test_a_saved_model_is_the_same_model(model: str, tmp_path: Path) -> None:
    about = {"data": "mine | <b>", "metrics": {"val_auc": 0.7, "val_accuracy": 0.6}}
    about["counts"] = {"students": 10, "interactions": 100}
    tracer = small_tracer(model, about=about, command="secret /home/me")
    tracer.save_pretrained(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md"}
    again = package.Tracer.from_pretrained(tmp_path / "model", device="cpu")
    assert again.predict(TABLE).equals(tracer.predict(TABLE))
    assert again.skills == tracer.skills and again.about == about
    content = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert content["model_type"] == model and content["skill_ids"] == list(tracer.skills)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: gainakt\n")
    assert "| validation AUC | 0.70000 |" in card and "mine \\| &lt;b&gt;: 10 students" in card
    for path in (tmp_path / "model").iterdir():
        assert b"secret" not in path.read_bytes(), path
    with pytest.raises(ExperimentError, match="exists already; choose another folder"):
        tracer.save_pretrained(tmp_path / "model")


def test_a_run_becomes_a_model_on_its_own(gainsum_run: Path, tmp_path: Path) -> None:
    tracer = package.load(gainsum_run)
    tracer.save_pretrained(tmp_path / "model")
    again = package.Tracer.from_pretrained(tmp_path / "model")
    assert again.about == tracer.about and again.about["checks"] == "10 of 10 passed"
    with pytest.raises(ExperimentError, match=r"use gainakt.Tracer.from_pretrained"):
        package.load(tmp_path / "model")
    with pytest.raises(ExperimentError, match=r"it is the folder of a run: use gainakt.load"):
        package.Tracer.from_pretrained(gainsum_run)


def test_a_model_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"loads nothing from a model hub: download"):
        package.Tracer.from_pretrained("someone/gainsum")
    with pytest.raises(ExperimentError, match=r"has no model.safetensors"):
        package.Tracer.from_pretrained(tmp_path)
    folder = tmp_path / "model"
    small_tracer().save_pretrained(folder)
    config = folder / "config.json"
    whole = json.loads(config.read_text(encoding="utf-8"))
    for change, told in (
        ({"skill_ids": ["a"]}, "not of one model, they differ in 'skill_ids'"),
        ({"epoch": 9}, "they differ in 'epoch'"),
    ):
        config.write_text(json.dumps(whole | change), encoding="utf-8")
        with pytest.raises(ExperimentError, match=told):
            package.Tracer.from_pretrained(folder)
    for text, told in (("[]", "must hold a JSON object"), ("{", "cannot be read as JSON")):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(ExperimentError, match=told):
            package.Tracer.from_pretrained(folder)
    config.write_text(json.dumps(whole), encoding="utf-8")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ExperimentError, match="not a readable checkpoint"):
        package.Tracer.from_pretrained(folder)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gainakt.record.pretrained.write_json", fail)
    with pytest.raises(GainaktError, match=r"cannot write .*No space left"):
        small_tracer().save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_tracer_learns_nothing_and_needs_no_gradient(gainsum_run: Path) -> None:
    tracer = package.load(gainsum_run)
    assert not any(weight.requires_grad for weight in tracer.predictor.model.parameters())
    assert not tracer.predictor.model.training
    weights = load_checkpoint(gainsum_run / "model_best.safetensors").weights
    tracer.predict(pl.DataFrame({"student": ["s"] * 2, "skill": ["k01"] * 2, "correct": [1, 0]}))
    for name, weight in tracer.predictor.model.state_dict().items():
        assert weight.equal(weights[name])


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, gainakt; assert 'Tracer' in dir(gainakt)\n"
        "heavy = {'torch', 'polars', 'altair', 'pandas', 'narwhals', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert gainakt.load is sys.modules['gainakt.tracer'].load\n"
        "assert 'pandas' not in sys.modules and 'altair' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(package.__file__).parents[1])
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = package.lode  # type: ignore[attr-defined]


def test_no_warning_without_a_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_tracer().predict(TABLE, unknown="skip")


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [("config.json", "gainakt_version", "9.9.9"), ("config.json", "format", "gainakt-2")],
)
def test_what_a_newer_version_wrote_is_refused_as_such(
    file: str, name: str, value: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    small_tracer().save_pretrained(folder)
    content = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps(content | {name: value}), encoding="utf-8")
    with pytest.raises(ExperimentError, match="was written by a newer version of GainAKT"):
        package.Tracer.from_pretrained(folder)
    (folder / file).write_text(json.dumps(content | {"gainakt_version": "0.0.9"}))
    package.Tracer.from_pretrained(folder)
