"""`gainakt.train` does what the command line does, in a process that belongs to somebody else."""

from __future__ import annotations

import ast
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import gainakt
from gainakt.config import config_hash, load_config
from gainakt.data.interactions import load_dataset
from gainakt.errors import ConfigError, DataError, ExperimentError
from gainakt.experiment.console import RunConsole
from gainakt.record import commands
from tests.conftest import TINY, Outcome

SMALL: dict[str, Any] = {**TINY, "epochs": 1, "report": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> gainakt.Run:
    """A run started from Python, in a repository whose state is made up."""
    git = {"commit": "0" * 40, "branch": "main", "dirty": False, "changes": [], "diff": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gainakt.record.provenance.git_state", lambda package: git)
        out = tmp_path_factory.mktemp("api") / "out"
        return gainakt.train(
            None,
            tiny_data,
            out=out,
            quiet=True,
            **{**SMALL, "epochs": 2, "report": True},
            purpose="it's <b>",
        )


def test_a_run_from_python_passes_the_ten_checks(run: gainakt.Run) -> None:
    assert [check.reason for check in run.checks if not check.passed] == []
    assert len(run.checks) == 10
    assert (run.path / "report.html").is_file()


def test_it_learns_what_the_command_line_learns(
    run: gainakt.Run, finished_run: Path, tiny_data: Path
) -> None:
    other = gainakt.Run(finished_run)
    assert run.results["best"] == other.results["best"]
    assert run.metrics.equals(other.metrics)
    assert config_hash(run.config) == config_hash(other.config)


def test_a_run_shows_its_folder(run: gainakt.Run) -> None:
    assert run.path.is_dir() and run.name == run.path.name == run.config.experiment.id
    assert run.results["status"] == "completed"
    assert run.metrics.get_column("epoch").to_list() == [1, 2]
    assert set(run.metrics.dtypes) == {pl.Int64, pl.Float64}
    assert run.metrics.get_column("val_auc").max() == run.results["best"]["val_auc"]
    assert repr(run) == f"Run({str(run.path)!r})"
    assert gainakt.Run(str(run.path)).results == run.results


def test_figures_that_a_model_lacks_are_null(gainsum_run: Path) -> None:
    correlations = gainakt.Run(gainsum_run).metrics.get_column("mastery_correlation")
    assert correlations.dtype == pl.Float64 and correlations.null_count() == len(correlations)


def test_a_run_knows_its_tracer(run: gainakt.Run) -> None:
    checkpoint = run.tracer().checkpoint
    assert checkpoint.config == run.config and checkpoint.epoch == run.results["best_epoch"]


# ------------------------------------------------------------------ the notebook's view


def test_a_notebook_shows_name_figures_and_checks(run: gainakt.Run) -> None:
    shown = run._repr_html_()
    assert f"<caption>{run.name}</caption>" in shown
    assert f"<td>{run.results['best']['val_auc']:.5f}</td>" in shown
    assert "<td>checks passed</td><td>10 of 10</td>" in shown


def test_a_damaged_run_is_shown_too_and_escaped(run_copy: Path) -> None:
    config = run_copy / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(content | {"config_hash": "<b>"}), encoding="utf-8")
    shown = gainakt.Run(run_copy)._repr_html_()
    # the configuration is not the recorded one, nor what run.sh builds or checkpoints hold
    assert "<td>checks passed</td><td>7 of 10</td>" in shown
    assert "❌ config.json contains all params" in shown
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    (run_copy / "results.json").unlink()
    assert "<td>results.json is missing</td>" in gainakt.Run(run_copy)._repr_html_()


# ------------------------------------------------------------------ what is recorded


def test_the_recorded_call_and_script_build_the_same_configuration(run: gainakt.Run) -> None:
    call = ast.parse(run.config.runtime.command, mode="eval").body
    assert isinstance(call, ast.Call) and ast.unparse(call.func) == "gainakt.train"
    values = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    assert Path(values.pop("out")) == run.path.parent
    again = load_config(ast.literal_eval(call.args[0]), values)
    assert config_hash(again) == config_hash(run.config)
    assert again.experiment.purpose == "it's <b>"
    script = (run.path / "run.sh").read_text(encoding="utf-8")
    from_script = load_config(None, commands.read_script(script))
    assert config_hash(from_script) == config_hash(run.config)
    assert subprocess.run(["sh", "-n", str(run.path / "run.sh")], check=False).returncode == 0
    assert "--out=.." in shlex.split(run.config.runtime.train_command)


@pytest.mark.parametrize(
    ("arguments", "overrides", "call"),
    [
        ((), {}, "gainakt.train()"),
        (("quickstart",), {"epochs": 2}, "gainakt.train('quickstart', epochs=2)"),
        ((None, Path("mine")), {}, "gainakt.train(None, 'mine')"),
        (("a'b.json", "mine"), {"purpose": "x\ny"}, None),
        ((load_config("dkt"), "mine"), {"epochs": 3}, None),
        ((load_config(None, {"seed": 7}), "mine"), {"all": (7, 8)}, None),
    ],
)
def test_a_call_is_spelt_so_that_it_does_the_same(
    arguments: tuple[Any, ...],
    overrides: dict[str, Any],
    call: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def stop(config: Any, data: Any, out: Any, **given: Any) -> None:
        seen.update(given, config=config, data=data, out=out)
        raise DataError("seen")

    monkeypatch.setattr("gainakt.api.train_run", stop)
    monkeypatch.setattr("gainakt.config.load.named_configs", lambda: NAMED)
    with pytest.raises(DataError, match="seen"):
        gainakt.train(*arguments, quiet=True, **overrides)
    first = dict(seen)
    assert "\n" not in first["command"]
    assert call is None or first["command"] == call
    with pytest.raises(DataError, match="seen"):
        eval(first["command"], {"gainakt": gainakt})
    for name in ("config", "data", "out", "command"):
        assert seen[name] == first[name], name


NAMED = {
    name: Path(__file__).parents[2] / "configs" / "quickstart.json"
    for name in ("quickstart", "a'b.json")
}


# ------------------------------------------------------------------ data and mistakes


def test_without_data_students_are_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gainakt.experiment.embedded.STUDENTS", 60)
    monkeypatch.setattr("gainakt.experiment.embedded.SKILLS", 4)
    run = gainakt.train(out=str(tmp_path), quiet=True, **SMALL)
    made = tmp_path / "data" / "simulated_60_students_4_skills_seed_42"
    assert f"--data=../{made.relative_to(tmp_path)}" in shlex.split(
        run.config.runtime.train_command
    )
    assert load_dataset(made).n_skills == 4


def test_a_loaded_data_set_stands_for_its_folder(
    tiny_data: Path, tmp_path: Path, run: gainakt.Run
) -> None:
    dataset = load_dataset(tiny_data)
    settings: dict[str, Any] = {**TINY, "epochs": 2}
    config = load_config(None, settings)
    again = gainakt.train(config, dataset, out=tmp_path, report=False, quiet=True)
    assert again.metrics.equals(run.metrics)
    for name, values in dataset.rows.present().items():
        rows = dataset.rows.replace(**{name: values[::-1].copy()})
        with pytest.raises(DataError, match=f"its {name} differ"):
            gainakt.train(None, replace(dataset, rows=rows), out=tmp_path, quiet=True, **settings)


@pytest.mark.parametrize(
    ("config", "overrides", "error", "message"),
    [
        (None, {"epoch": 2}, ConfigError, "did you mean 'epochs'"),
        ("quickstrat", {}, ConfigError, "did you mean 'quickstart'"),
        (None, {"epochs": "2"}, ConfigError, "training.epochs = '2'"),
        (None, {"command": "x"}, ConfigError, "command is filled in by the run"),
        (None, {}, DataError, "no prepared data set at nowhere"),
    ],
)
def test_a_mistake_is_said_and_leaves_nothing(
    config: str | None,
    overrides: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        gainakt.train(config, "nowhere", out=tmp_path / "out", quiet=True, **overrides)
    assert not (tmp_path / "out").exists()


def test_a_wrong_value_is_a_value_error_as_python_has_it() -> None:
    assert issubclass(ConfigError, ValueError) and issubclass(DataError, ValueError)


def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no experiment folder"):
        gainakt.Run(tmp_path / "nowhere")


def test_unknown_names_are_refused_as_everywhere() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = gainakt.trian
    assert {"train", "Run"} <= set(dir(gainakt))


# ------------------------------------------------------------------ somebody else's process


def process_state() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.get_rng_state().tolist(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


def test_training_leaves_the_process_as_it_was(tiny_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.use_deterministic_algorithms(False)
    before = process_state()
    gainakt.train(None, tiny_data, out=tmp_path, quiet=True, **SMALL)
    assert process_state() == before
    with pytest.raises(ConfigError):
        gainakt.train(None, tiny_data, out=tmp_path, quiet=True, model="none")
    assert process_state() == before


def test_it_trains_in_threads_and_each_run_is_the_same(tiny_data: Path, tmp_path: Path) -> None:
    runs: list[gainakt.Run] = []

    def train(title: str) -> None:
        settings = {**SMALL, "short_title": title}
        runs.append(gainakt.train(None, tiny_data, out=tmp_path, quiet=True, **settings))

    threads = [threading.Thread(target=train, args=(title,)) for title in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 2
    assert runs[0].metrics.equals(runs[1].metrics)


def test_a_host_that_handles_signals_itself_keeps_them(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_by_us: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: set_by_us.append(number))
    assert gainakt.train(None, tiny_data, out=tmp_path, quiet=True, **SMALL).path.is_dir()
    assert set_by_us == []


def test_an_interrupt_ends_the_run_and_the_callers_line(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gainakt: Callable[..., Outcome],
) -> None:
    def step(self: RunConsole, *news: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    from gainakt.api import Run, train

    with monkeypatch.context() as patch:
        patch.setattr(RunConsole, "step", step)
        with pytest.raises(KeyboardInterrupt, match="go on with: gainakt resume"):
            train(None, tiny_data, out=tmp_path, quiet=True, **SMALL)
    (folder,) = tmp_path.iterdir()
    assert Run(folder).results["status"] == "interrupted"
    with pytest.raises(ExperimentError, match=r"metrics_epoch\.csv is missing"):
        _ = Run(folder).metrics
    assert gainakt("resume", folder, "--quiet").code == 0
    assert Run(folder).results["status"] == "completed"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, gainakt; gainakt.__version__; dir(gainakt);"
        "print(*{n.split('.')[0] for n in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "numpy", "polars", "pydantic", "sklearn", "rich"}
