"""`gainakt crossval`: every fold with every seed, stopped and started again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import TINY


def _flags(**changed):
    return [f"--{name}={value}" for name, value in (TINY | {"threads": 1} | changed).items()]


def _command(data, out, **changed):
    words = ["crossval", f"--data={data}", f"--out={out}", *_flags(**changed), "--json"]
    return [sys.executable, "-m", "gainakt", *words, "--folds", "0", "1", "--seeds", "42", "7"]


def _without_names(summary):
    return [{k: v for k, v in row.items() if k != "run"} for row in summary["runs"]]


def test_killed_half_way_and_started_again_it_ends_with_the_same_summary(tiny_data, tmp_path):
    whole = subprocess.run(_command(tiny_data, tmp_path / "whole"), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    expected = json.loads(whole.stdout)
    assert [(row["fold"], row["seed"]) for row in expected["runs"]] == [
        (0, 42),
        (1, 42),
        (0, 7),
        (1, 7),
    ]

    out = tmp_path / "killed"
    process = subprocess.Popen(
        _command(tiny_data, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(out.glob("*/*/evaluation_test.json")):
        time.sleep(0.01)
    assert process.poll() is None, "it was killed half-way, not after its end"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*/*/evaluation_test.json")}

    again = subprocess.run(_command(tiny_data, out), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert _without_names(summary) == _without_names(expected)
    assert summary["summary"] == expected["summary"]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "finished runs are not run again"
    mean = sum(row["test_auc"] for row in summary["runs"]) / 4
    assert summary["summary"]["test_auc"]["mean"] == pytest.approx(mean)


@pytest.mark.parametrize("signalled", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_it_leaves_no_run_training(signalled, tiny_data, tmp_path):
    process = subprocess.Popen(
        _command(tiny_data, tmp_path, epochs=1000),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # under nohup a hang-up is ignored, as it should be
        preexec_fn=lambda: signal.signal(signalled, signal.SIG_DFL),
    )
    while process.poll() is None and not list(tmp_path.glob("*/*/state_last.pt")):
        time.sleep(0.05)
    process.send_signal(signalled)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    # nothing of its process group is left, but for what a run asked in passing, such as git
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    begun = [path for path in tmp_path.glob("*/*") if (path / "config.json").is_file()]
    assert begun
    for run in begun:
        results = run / "results.json"
        assert not results.is_file() or json.loads(results.read_text())["status"] == "interrupted"


def test_rotated_folds_test_once_each_and_are_never_learnt_from(tiny_data):
    from gainakt.data.interactions import load_dataset
    from gainakt.experiment.crossval import _folds

    dataset = load_dataset(tiny_data)
    turns = _folds(dataset, None, -1, rotate_test=True)
    assert turns == [(1, 0), (2, 1), (3, 2), (4, 3), (0, 4)]
    for fold, test_fold in turns:
        parts = [set(dataset.students(s, fold, test_fold)) for s in ("train", "valid", "test")]
        assert {int(dataset.folds[s]) for s in parts[0]} == {0, 1, 2, 3, 4} - {fold, test_fold}
        assert {int(dataset.folds[s]) for s in parts[2]} == {test_fold}
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_a_fold_that_is_not_there(tiny_data, tmp_path, gainakt):
    outcome = gainakt("crossval", f"--data={tiny_data}", f"--out={tmp_path}", "--folds", "9")
    assert outcome.code == 1
    assert "fold 9 is not in data set" in outcome.err


@pytest.mark.parametrize("given", [("--folds", "0", "0"), ("--seeds", "42", "42")])
def test_a_run_named_twice_is_refused(given, tiny_data, tmp_path, gainakt):
    outcome = gainakt("crossval", f"--data={tiny_data}", f"--out={tmp_path}", *given)
    assert outcome.code == 1
    assert f"{given[0][2:]} names {given[1]} twice" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_is_named_with_its_reason(tiny_data, tmp_path, gainakt):
    outcome = gainakt(
        "crossval",
        f"--data={tiny_data}",
        f"--out={tmp_path}",
        *_flags(learning_rate=1e9),
        "--folds=0",
    )
    assert outcome.code == 1
    assert "1 of 1 runs failed: run-fold0-seed42" in outcome.err
    assert "not finite" in outcome.err
