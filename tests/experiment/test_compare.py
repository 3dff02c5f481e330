"""`gainakt compare`: identical, within tolerance or different, and why."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from gainakt.errors import ExperimentError
from gainakt.experiment.compare import Value, Verdict, parse_tolerances


@pytest.fixture
def second(train_tiny, tmp_path):
    """Train another tiny run; it returns the folder."""

    def train(**parameters: object) -> Path:
        out = tmp_path / "second"
        assert train_tiny(out=out, **parameters).code == 0
        (folder,) = out.iterdir()
        return folder

    return train


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "verdict"),
    [
        (0.5, 0.5, 0.0, Verdict.IDENTICAL),
        (None, None, 0.0, Verdict.IDENTICAL),
        (0.5, 0.50009, 1e-4, Verdict.WITHIN),
        (0.5, 0.50011, 1e-4, Verdict.DIFFERENT),
        (0.0, 1e-9, 0.0, Verdict.DIFFERENT),
        (0.5, None, 1.0, Verdict.DIFFERENT),
        (0.5, float("nan"), 1.0, Verdict.DIFFERENT),
    ],
)
def test_verdict_of_a_value(a, b, tolerance, verdict):
    assert Value(1, "val_auc", a, b, tolerance).verdict is verdict


def test_tolerances_for_all_and_for_one_metric():
    assert parse_tolerances(["1e-3", "val_auc=0.02"]) == {"": 1e-3, "val_auc": 0.02}


@pytest.mark.parametrize("word", ["-1", "x", "val_auc=", "nan"])
def test_impossible_tolerances_are_refused(word):
    with pytest.raises(ExperimentError, match="must be a number of at least 0"):
        parse_tolerances([word])


def test_a_run_and_its_copy_are_identical(finished_run, run_copy, gainakt):
    outcome = gainakt("compare", finished_run, run_copy)
    assert outcome.code == 0
    assert "0 within tolerance, 0 outside" in outcome.out
    assert outcome.out.endswith("verdict: IDENTICAL\n")


def test_a_split_that_only_one_run_evaluated_is_left_out(finished_run, run_copy, gainakt):
    assert gainakt("evaluate", run_copy, "--split", "test").code == 0
    outcome = gainakt("compare", finished_run, run_copy)
    assert outcome.code == 0
    assert outcome.out.endswith("verdict: IDENTICAL\n")


def _change(run: Path, epoch: int, metric: str, by: float) -> None:
    path = run / "metrics_epoch.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    rows[epoch - 1][metric] = str(float(rows[epoch - 1][metric]) + by)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_difference_under_the_tolerance_passes(finished_run, run_copy, gainakt):
    _change(run_copy, 2, "val_auc", 5e-5)
    outcome = gainakt("compare", finished_run, run_copy)
    assert outcome.code == 0
    assert outcome.out.endswith("verdict: WITHIN TOLERANCE\n")


def test_the_first_difference_is_named(finished_run, run_copy, gainakt):
    _change(run_copy, 2, "val_auc", 5e-3)
    _change(run_copy, 2, "val_accuracy", 5e-3)
    outcome = gainakt("compare", finished_run, run_copy)
    assert outcome.code == 1
    assert "first difference: epoch 2, val_auc" in outcome.out
    assert outcome.out.endswith("verdict: DIFFERENT\n")
    wide = gainakt("compare", finished_run, run_copy, "--tolerance", "val_auc=0.01", "0.01")
    assert wide.code == 0


def test_structural_rates_must_hold_exactly(finished_run, run_copy, gainakt):
    _change(run_copy, 1, "bounds_violation_rate", 1e-6)
    outcome = gainakt("compare", finished_run, run_copy, "--tolerance", "0.5")
    assert outcome.code == 1
    assert "epoch 1, bounds_violation_rate" in outcome.out


def test_one_changed_parameter_is_named(finished_run, second, gainakt):
    other = second(learning_rate=0.01)
    outcome = gainakt("compare", finished_run, other)
    assert outcome.code == 1
    assert "settings differ: learning_rate: 0.000174 and 0.01" in outcome.out


def test_another_seed_is_named(finished_run, second, gainakt):
    outcome = gainakt("compare", finished_run, second(seed=7))
    assert outcome.code == 1
    assert "first difference: epoch 1" in outcome.out
    assert "settings differ: seed: 42 and 7" in outcome.out


def test_other_data_are_named(finished_run, gainakt, train_tiny, tmp_path):
    from gainakt.data.simulate import simulate

    data = simulate(tmp_path / "other", students=60, skills=4, seed=2).path
    assert train_tiny(data=data).code == 0
    (other,) = (tmp_path / "out").iterdir()
    outcome = gainakt("compare", finished_run, other)
    assert outcome.code == 1
    assert "settings differ: data (interactions_sha256)" in outcome.out


def test_a_metric_that_is_not_there_is_refused(finished_run, run_copy, gainakt):
    outcome = gainakt("compare", finished_run, run_copy, "--tolerance", "val_ac=1")
    assert outcome.code == 1
    assert "no such metric" in outcome.err


def test_a_single_run_cannot_be_compared(finished_run, gainakt):
    outcome = gainakt("compare", finished_run)
    assert outcome.code == 1
    assert "at least two runs" in outcome.err


def test_csv_markdown_and_json(finished_run, run_copy, gainakt):
    rows = list(
        csv.DictReader(
            io.StringIO(gainakt("compare", finished_run, run_copy, "--format", "csv").out)
        )
    )
    assert {"epoch", "metric", "a", "b", "tolerance", "verdict"} == set(rows[0])
    assert gainakt("compare", finished_run, run_copy, "--format", "markdown").out.startswith(
        "| epoch | metric |"
    )
    assert json.loads(gainakt("compare", finished_run, run_copy, "--json").out)["verdict"] == (
        "IDENTICAL"
    )


def test_groups_are_summarised_and_tested_on_the_same_students(
    finished_run, run_copy, gainakt, tmp_path, train_tiny
):
    assert train_tiny(seed=7, learning_rate=0.05, out=tmp_path / "trained").code == 0
    (other,) = (tmp_path / "trained").iterdir()
    for run in (run_copy, other):
        assert gainakt("evaluate", run).code == 0
    shutil.copytree(other, other.parent / "20000101_000000_gainakt2exp_again")
    result = json.loads(gainakt("compare", run_copy, other.parent, "--json").out)
    (against,) = result["test_auc_against_first"]
    aucs = [json.loads((r / "evaluation_test.json").read_text())["auc"] for r in (other, run_copy)]
    assert against["group"] == "trained"
    # the table rounds probabilities near 0 and 1 to ties that the log-odds did not have
    assert against["difference"] == pytest.approx(aucs[0] - aucs[1], abs=1e-3)
    summaries = {(s["group"], s["metric"]): s for s in result["summaries"]}
    assert summaries["trained", "test_auc"]["n"] == 2
    assert summaries["trained", "test_auc"]["mean"] == pytest.approx(aucs[0])


def test_rotated_folds_are_paired_fold_by_fold(gainakt, train_tiny, tmp_path):
    for name, rate in (("slow", 0.0001), ("fast", 0.05)):
        for fold, test_fold in ((1, 0), (2, 1)):
            out = tmp_path / name
            code = train_tiny(fold=fold, test_fold=test_fold, learning_rate=rate, out=out).code
            assert code == 0
        for run in (tmp_path / name).iterdir():
            assert gainakt("evaluate", run).code == 0
    result = json.loads(gainakt("compare", tmp_path / "slow", tmp_path / "fast", "--json").out)
    (against,) = result["test_auc_against_first"]
    auc = {
        name: [
            json.loads((run / "evaluation_test.json").read_text())["auc"]
            for run in (tmp_path / name).iterdir()
        ]
        for name in ("slow", "fast")
    }
    expected = sum(auc["fast"]) / 2 - sum(auc["slow"]) / 2
    assert against["difference"] == pytest.approx(expected)
    from gainakt.experiment.groups import scored_by
    from gainakt.record.folder import RunFolder

    runs = [RunFolder(run) for run in (tmp_path / "slow").iterdir()]
    students = {s for tested in scored_by(runs, "test") for s in tested.student.tolist()}
    assert against["students"] == len(students)
    assert against["low"] < against["difference"] < against["high"]


def test_groups_that_predicted_nothing_alike_are_told_so(finished_run, run_copy, gainakt):
    said = gainakt("compare", finished_run, run_copy, finished_run.parent)
    assert said.code == 0
    assert "against the first: no runs of both predicted the same answers" in said.out
