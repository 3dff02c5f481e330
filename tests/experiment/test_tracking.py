"""Tracking elsewhere is off, unloaded unless asked for, and then complete."""

from __future__ import annotations

import csv
import importlib.util
import os
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gainakt.config import Config, load_config
from gainakt.experiment import tracking
from tests.conftest import Outcome, tiny_command

MODULES = ("mlflow", "wandb")


@pytest.fixture
def without_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every import of a tracker's library fail, as where it is not installed."""
    for module in MODULES:
        monkeypatch.setitem(sys.modules, module, None)


def test_tracking_is_off_by_default() -> None:
    runtime = load_config(None).runtime
    assert (runtime.use_wandb, runtime.use_mlflow) == (False, False)


@pytest.mark.usefixtures("without_trackers")
def test_no_library_is_needed_unless_asked_for(train_tiny: Callable[..., Outcome]) -> None:
    assert train_tiny("--quiet", epochs=1).code == 0


def test_no_library_is_loaded_unless_asked_for(tiny_data: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom gainakt.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as leaving: assert not leaving.code\n"
        f"print([name for name in {MODULES} if name in sys.modules])"
    )
    command = [*tiny_command(tiny_data, tmp_path / "out", epochs=1), "--quiet"]
    answer = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]"
    assert {path.name for path in tmp_path.glob("out/*")} == {
        Path(answer.stdout.splitlines()[0]).name
    }


@pytest.mark.usefixtures("without_trackers")
@pytest.mark.parametrize("module", MODULES)
def test_a_missing_library_is_named_before_the_run_begins(
    module: str, train_tiny: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = train_tiny(**{f"use_{module}": "true"})
    assert outcome.code == 1
    (told,) = outcome.err.splitlines()
    assert told == (
        f"gainakt: runtime.use_{module} = true needs {module}; "
        "install it with: pip install 'gainakt[track]'"
    )
    assert not (tmp_path / "out").exists()


class Notebook:
    """A tracker that remembers what it was told."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.title = config.experiment.id
        self.folder = folder
        self.epochs: dict[int, Mapping[str, float]] = {}
        self.closed = ""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs[epoch] = metrics

    def close(self, outcome: str) -> None:
        self.closed = outcome


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> list[Notebook]:
    """The notebooks that `use_wandb` opens in place of the real tracker."""
    opened: list[Notebook] = []

    def start(config: Config, folder: Path) -> Notebook:
        opened.append(Notebook(config, folder))
        return opened[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    monkeypatch.setitem(tracking.TRACKERS, "use_wandb", start)
    return opened


def metrics_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics_epoch.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_a_tracker_hears_of_every_epoch(
    notebooks: list[Notebook], train_tiny: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert train_tiny("--quiet", use_wandb="true").code == 0
    (folder,) = (tmp_path / "out").iterdir()
    (notebook,) = notebooks
    assert notebook.title == folder.name
    assert notebook.folder == folder
    assert [notebook.epochs[1], notebook.epochs[2]] == metrics_of(folder)
    assert notebook.closed == "FINISHED"


def test_a_tracker_is_closed_when_training_fails(
    notebooks: list[Notebook], train_tiny: Callable[..., Outcome]
) -> None:
    assert train_tiny(use_wandb="true", learning_rate=1e9).code == 1
    assert notebooks[0].closed == "FAILED"
    assert notebooks[0].epochs == {}


def test_a_tracker_that_fails_does_not_stop_a_run(
    notebooks: list[Notebook],
    train_tiny: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(self: Notebook, epoch: int, metrics: Mapping[str, float]) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Notebook, "log", fails)
    assert train_tiny(use_wandb="true").code == 0
    (folder,) = (tmp_path / "out").iterdir()
    log = (folder / "stdout.log").read_text(encoding="utf-8")
    assert log.count("use_wandb: not tracked any further (no route to host)") == 1


def test_tracking_does_not_change_what_is_learnt(
    notebooks: list[Notebook],
    train_tiny: Callable[..., Outcome],
    finished_run: Path,
    tmp_path: Path,
) -> None:
    train_tiny("--quiet", use_wandb="true")
    (folder,) = (tmp_path / "out").iterdir()
    assert metrics_of(folder) == metrics_of(finished_run)


def run_with(flag: str, data: Path, out: Path, home: Path) -> Path:
    """Train with a real tracker, in a process and a home of its own; return the run's folder."""
    module = flag.removeprefix("use_")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it comes with the extra 'track'")
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(home)}
    answer = subprocess.run(
        [sys.executable, "-m", "gainakt", *tiny_command(data, out, **{flag: "true"}), "--quiet"],
        env={**os.environ, **quiet},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return Path(answer.stdout.strip())


def test_mlflow_keeps_every_epoch_in_a_local_store(tiny_data: Path, tmp_path: Path) -> None:
    folder = run_with("use_mlflow", tiny_data, tmp_path / "out", tmp_path)
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as store:
        name, status = store.execute("select name, status from runs").fetchone()
        stored = store.execute("select step, key, value from metrics").fetchall()
        parameters: dict[str, Any] = dict(store.execute("select key, value from params"))
    store.close()
    assert (name, status) == (folder.name, "FINISHED")
    for epoch, row in enumerate(metrics_of(folder), start=1):
        assert {key: value for step, key, value in stored if step == epoch} == pytest.approx(row)
    assert parameters["d_model"] == "8"
    assert not (tmp_path / "mlruns").exists()


def test_wandb_stays_offline_and_in_the_folder(tiny_data: Path, tmp_path: Path) -> None:
    folder = run_with("use_wandb", tiny_data, tmp_path / "out", tmp_path)
    (offline,) = folder.glob("wandb/offline-run-*")
    (record,) = offline.glob("*.wandb")
    content = record.read_bytes()
    assert b"val_auc" in content
    assert folder.name.encode() in content


BESIDE = """
import sys
import gainakt, mlflow, wandb
data, out = sys.argv[1:]
mlflow.set_tracking_uri("sqlite:///mine.db")
mlflow.set_experiment("mine")
mine = wandb.init(project="mine", mode="offline")
with mlflow.start_run() as run:
    gainakt.train(
        None, data, out=out, quiet=True, epochs=1, d_model=8, n_heads=2, num_encoder_blocks=1,
        d_ff=8, threads=1, bootstrap_samples=100, use_mlflow=True, use_wandb=True,
    )
    mlflow.log_metric("mine", 1.0)
mine.log({"x": 2})
mine.finish()
assert mlflow.get_tracking_uri() == "sqlite:///mine.db"
assert mlflow.get_run(run.info.run_id).data.metrics == {"mine": 1.0}
"""


def test_what_the_user_tracks_in_the_same_process_stays_theirs(
    tiny_data: Path, tmp_path: Path
) -> None:
    for module in ("mlflow", "wandb"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; it comes with the extra 'track'")
    answer = subprocess.run(
        [sys.executable, "-c", BESIDE, str(tiny_data), str(tmp_path / "out")],
        env={**os.environ, "WANDB_SILENT": "true", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert answer.returncode == 0, answer.stderr
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as store:
        assert store.execute("select status from runs").fetchall() == [("FINISHED",)]
    store.close()
