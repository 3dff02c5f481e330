"""A finished run trained further is the run that more epochs would have made from the start."""

import json
import shutil
from pathlib import Path

import pytest

GAINSUM = {
    "config": "gainsum",
    "num_encoder_blocks": None,
    "learning_rate_schedule": "constant",
}


def _content(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _only(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


@pytest.mark.parametrize(
    "settings",
    [
        {},
        GAINSUM | {"weight_average": 0.9, "weight_average_warmup": True},
        GAINSUM | {"teachers": 1, "teacher_epochs": 1},
    ],
    ids=["plain", "averaged", "taught"],
)
def test_it_is_the_longer_run_to_the_last_bit(settings, train_tiny, gainakt, tmp_path):
    assert train_tiny(epochs=4, out=tmp_path / "long", **settings).code == 0
    assert train_tiny(epochs=2, out=tmp_path / "short", **settings).code == 0
    short = _only(tmp_path / "short")
    before = {path.name: path.read_bytes() for path in short.iterdir()}
    outcome = gainakt("resume", short, "--epochs", "4", "--json", "--no-report")
    assert outcome.code == 0, outcome.err
    further = Path(json.loads(outcome.out)["folder"])
    assert {path.name: path.read_bytes() for path in short.iterdir()} == before
    compared = gainakt("compare", _only(tmp_path / "long"), further, "--json")
    assert json.loads(compared.out)["verdict"] == "IDENTICAL"
    assert _content(further / "environment.json")["continues"] == {"run": short.name, "epoch": 2}
    checks = json.loads(gainakt("check", further, "--json").out)
    assert [check["reason"] for check in checks if not check["passed"]] == []
    assert gainakt("reproduce", further, "--quiet").code == 0


def test_one_that_patience_ended_needs_more_of_it(train_tiny, gainakt, tmp_path):
    wild = {"learning_rate": 0.5, "patience": 1}
    assert train_tiny(epochs=8, **wild).code == 0
    run = _only(tmp_path / "out")
    done = _content(run / "results.json")["epochs"]
    assert done < 8, "patience ended it"
    refused = gainakt("resume", run, "--epochs", "12")
    assert refused.code == 1
    assert "give a larger --patience than 1" in refused.err
    outcome = gainakt("resume", run, "--patience", "20", "--json", "--no-report")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["epochs"] == 8


@pytest.mark.parametrize(
    ("settings", "words", "told"),
    [
        ({}, ["--epochs", "2"], "has 2 epochs already; say how many there are to be in all"),
        ({"learning_rate_schedule": "cosine"}, ["--epochs", "4"], "schedule = cosine made every"),
        ({"enable_cosine_perf_schedule": True}, ["--epochs", "4"], "made every epoch depend on"),
    ],
)
def test_what_would_not_be_the_same_run_is_refused(
    settings, words, told, train_tiny, gainakt, tmp_path
):
    assert train_tiny(**settings).code == 0
    refused = gainakt("resume", _only(tmp_path / "out"), *words)
    assert refused.code == 1
    assert told in refused.err
    assert len(list((tmp_path / "out").iterdir())) == 1, "no folder is left"


def test_an_unfinished_or_changed_run_is_refused(run_copy, gainakt):
    other = run_copy.parent / "20000101_000000_gainakt2exp_other"
    shutil.copytree(run_copy, other)
    results = _content(run_copy / "results.json") | {"status": "interrupted"}
    (run_copy / "results.json").write_text(json.dumps(results))
    refused = gainakt("resume", run_copy, "--epochs", "4")
    assert refused.code == 1 and "finish it first: gainakt resume" in refused.err
    (other / "model_last.safetensors").write_bytes(b"")
    refused = gainakt("resume", other, "--epochs", "4")
    assert refused.code == 1 and "cannot be trained further: model_last" in refused.err


def test_what_is_fitted_at_once_has_no_further_epochs(gainakt, tiny_data, tmp_path):
    trained = gainakt("train", "--model", "bkt", "--data", tiny_data, "--out", tmp_path / "out")
    assert trained.code == 0, trained.err
    run = _only(tmp_path / "out")
    refused = gainakt("resume", run, "--epochs", "6")
    assert refused.code == 1
    assert "fitted at once" in refused.err
    assert _only(tmp_path / "out") == run, "no folder is left"
