"""Checkpoints: whole or not there, readable without running code, refused when they do not fit."""

from __future__ import annotations

import errno
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gainakt.config import MODELS, load_config
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import ExperimentError
from gainakt.files import write_atomically
from gainakt.models import build_model
from gainakt.record.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_state,
)
from tests.helpers import batch_of, random_students, small_config, vocabulary_of

SKILL_IDS = ("7", "Brüche", "c, d", "9")


def checkpoint_of(name: str = "gainakt2exp", **overrides: Any) -> Checkpoint:
    config = small_config(name, **overrides)
    weights = build_model(config, vocabulary_of(len(SKILL_IDS))).state_dict()
    return Checkpoint(config=config, vocabulary=Vocabulary(SKILL_IDS), epoch=3, weights=weights)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model_best.safetensors"


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_comes_back_as_it_was(name: str, path: Path) -> None:
    written = checkpoint_of(name, seed=7, purpose="round trip", learning_rate=1e-5)
    save_checkpoint(path, written)
    read = load_checkpoint(path)
    assert read.config == written.config
    assert read.vocabulary.skills == SKILL_IDS
    assert read.epoch == 3
    assert read.weights.keys() == written.weights.keys()
    batch = batch_of(*random_students([5, 9]))
    original = build_model(written.config, vocabulary_of(4)).eval()
    model = read.model()
    assert not model.training
    assert torch.equal(model(batch).logits, original(batch).logits)


def test_the_loaded_weights_are_used_not_the_initial_ones(path: Path) -> None:
    written = checkpoint_of()
    for weight in written.weights.values():
        weight.add_(1.0)
    save_checkpoint(path, written)
    state = load_checkpoint(path).model().state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in written.weights.items())


def test_the_metadata_can_be_read_without_this_package(path: Path) -> None:
    save_checkpoint(path, checkpoint_of(seed=7))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["skill_ids"]) == list(SKILL_IDS)
    config = json.loads(metadata["config"])
    assert config["runtime"]["seed"] == 7
    assert set(config) >= {"model", "data", "config_hash", "override_applied"}
    assert metadata["epoch"] == "3"


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_checkpoint_is_refused(kept: int, path: Path) -> None:
    save_checkpoint(path, checkpoint_of())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ExperimentError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_missing_checkpoint_is_refused(path: Path) -> None:
    with pytest.raises(ExperimentError, match="no such checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "gainakt-99"},
        {"format": None},
        {"config": None},
        {"config": "{"},
        {"config": "[]"},
        {"config": '{"runtime": {"sead": 1}}'},
        {"skill_ids": "5"},
        {"skill_ids": None},
        {"epoch": "third"},
    ],
    ids=str,
)
def test_damaged_metadata_is_refused(change: dict[str, str | None], path: Path) -> None:
    save_checkpoint(path, checkpoint_of())
    with safe_open(path, framework="pt") as file:
        metadata = {**file.metadata(), **change}
    kept = {name: value for name, value in metadata.items() if value is not None}
    save_file(load_checkpoint(path).weights, path, kept)
    with pytest.raises(ExperimentError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_are_refused(path: Path) -> None:
    written = checkpoint_of()
    for other in (
        replace(written, vocabulary=Vocabulary(SKILL_IDS[:3])),
        replace(written, config=small_config(d_ff=32)),
        replace(written, weights={k: v for k, v in written.weights.items() if "predict" not in k}),
        replace(written, weights=written.weights | {"spare": torch.zeros(1)}),
    ):
        save_checkpoint(path, other)
        with pytest.raises(ExperimentError, match="do not fit"):
            load_checkpoint(path).model()


def fail_replace(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def replace_file(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", replace_file)
    monkeypatch.setattr(Path, "replace", replace_file)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failure_before_the_rename_keeps_the_old_file(
    code: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, checkpoint_of())
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        fail_replace(patch, code)
        with pytest.raises(ExperimentError) as caught:
            save_checkpoint(path, replace(checkpoint_of(), epoch=4))
    assert str(path) in str(caught.value) and os.strerror(code) in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    save_checkpoint(path, replace(checkpoint_of(), epoch=4))
    assert load_checkpoint(path).epoch == 4


def test_an_interrupt_before_the_rename_keeps_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(path, b"old")

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new", verify=interrupt)
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_read_back_never_gets_the_name(path: Path) -> None:
    write_atomically(path, b"old")
    seen = []

    def refuse(written: Path) -> None:
        seen.append(written.read_bytes())
        raise ExperimentError("not good")

    with pytest.raises(ExperimentError, match="not good"):
        write_atomically(path, b"new", verify=refuse)
    assert seen == [b"new"]
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "missing" / "x", tmp_path / "file" / "x", tmp_path):
        with pytest.raises(ExperimentError, match="cannot write"):
            write_atomically(place, b"content")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]


def test_a_read_only_disk_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There even removing a file that does not exist fails."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ExperimentError, match="Read-only file system"):
        write_atomically(path, b"content")


STATE = {
    "epoch": 2,
    "nothing": None,
    "history": {"rows": [{"val_auc": 0.1 + 0.2, "undefined": None}], "seconds": [1.5]},
    "weights": {"a": torch.tensor([1.0, float("nan")])},
}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state_last.pt"
    save_state(path, STATE)
    read = load_state(path)
    assert {k: v for k, v in read.items() if k != "weights"} == {
        k: v for k, v in STATE.items() if k != "weights"
    }
    assert torch.equal(read["weights"]["a"].isnan(), torch.tensor([False, True]))


def test_a_damaged_or_missing_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state_last.pt"
    with pytest.raises(ExperimentError, match="nothing to resume"):
        load_state(path)
    save_state(path, STATE)
    whole = path.read_bytes()
    for content in (whole[:100], whole[:-30], b"no state at all"):
        path.write_bytes(content)
        with pytest.raises(ExperimentError, match="not a readable state"):
            load_state(path)
    torch.save([1, 2], path)
    with pytest.raises(ExperimentError, match="not a training state"):
        load_state(path)


class Payload:
    """An object whose unpickling would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def test_loading_a_state_runs_no_code(tmp_path: Path) -> None:
    path, trace = tmp_path / "state_last.pt", tmp_path / "trace"
    torch.save({"epoch": Payload(trace)}, path)
    with pytest.raises(ExperimentError, match="not a readable state"):
        load_state(path)
    assert not trace.exists()
    # the payload is live: ordinary unpickling does run it
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()


def test_a_state_that_could_not_be_loaded_is_never_saved(tmp_path: Path) -> None:
    path = tmp_path / "state_last.pt"
    save_state(path, STATE)
    before = path.read_bytes()
    with pytest.raises(ExperimentError):
        save_state(path, {"place": tmp_path})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_sizes_are_compared_before_memory_is_asked_for() -> None:
    config = load_config(None, {"d_model": 1 << 16, "n_heads": 2, "d_ff": 1 << 16})
    small = build_model(small_config(), Vocabulary(SKILL_IDS)).state_dict()
    huge = Checkpoint(config=config, vocabulary=Vocabulary(SKILL_IDS), epoch=1, weights=small)
    with pytest.raises(ExperimentError, match="do not fit the recorded model"):
        huge.model()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    config = small_config("dkt")
    weights = build_model(config, Vocabulary(SKILL_IDS)).state_dict()
    name = next(iter(weights))
    weights[name] = weights[name].clone().fill_(value)
    broken = Checkpoint(config=config, vocabulary=Vocabulary(SKILL_IDS), epoch=1, weights=weights)
    with pytest.raises(ExperimentError, match="not finite"):
        broken.model()


def test_an_empty_state_says_so(tmp_path: Path) -> None:
    (tmp_path / "state_last.pt").touch()
    with pytest.raises(ExperimentError, match="is empty"):
        load_state(tmp_path / "state_last.pt")
