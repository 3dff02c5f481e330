"""Every file of a finished run's folder holds what the specification of the folder says."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from gainakt.config import FILLED_BY_RUN, GROUPS, load_config, model_fields
from gainakt.errors import GainaktError
from gainakt.record.checkpoint import load_checkpoint, load_state
from gainakt.record.commands import read_script
from gainakt.record.folder import RunFolder
from gainakt.record.readme import UNDEFINED
from tests.conftest import TINY, Outcome
from tests.helpers import METRIC_COLUMNS

FILES = {
    "config.json",
    "run.sh",
    "model_best.safetensors",
    "model_last.safetensors",
    "state_last.pt",
    "metrics_epoch.csv",
    "stdout.log",
    "environment.json",
    "SEEDS.md",
    "trajectory.json",
    "results.json",
    "data.json",
    "README.md",
    "evaluation_valid.json",
    "predictions_valid.parquet",
}

# The groups and the parameters that the specification names, in its order.
SPECIFIED = {
    "runtime": "seed monitor_freq use_amp use_wandb enable_cosine_perf_schedule auto_shifted_eval "
    "command train_command eval_command repro_command timestamp",
    "hardware": "devices threads",
    "seeds": "primary all",
    "training": "epochs batch_size learning_rate weight_decay optimizer mixed_precision "
    "gradient_clip patience",
    "experiment": "id model short_title purpose",
    "data": "dataset fold",
    "interpretability": "use_mastery_head use_gain_head enhanced_constraints "
    "non_negative_loss_weight monotonicity_loss_weight mastery_performance_loss_weight "
    "gain_performance_loss_weight sparsity_loss_weight consistency_loss_weight "
    "warmup_constraint_epochs max_semantic_students",
    "alignment": "alignment_weight alignment_warmup_epochs adaptive_alignment "
    "alignment_min_correlation alignment_share_cap alignment_share_decay_factor",
    "global_alignment": "alignment_global_students use_residual_alignment "
    "alignment_residual_window",
    "refinement": "retention_delta retention_weight lag_gain_weight lag_max_lag lag_l1_weight "
    "lag_l2_weight lag_l3_weight consistency_rebalance_epoch consistency_rebalance_threshold "
    "consistency_rebalance_new_weight variance_floor variance_floor_patience "
    "variance_floor_reduce_factor",
    "model": "seq_len d_model n_heads num_encoder_blocks d_ff dropout emb_type",
    "evaluation": "window_stride bootstrap_samples",
}


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def metric_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics_epoch.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def section(folder: Path, title: str) -> str:
    """The text of one section of the README."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without head and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-|")][1:]


def test_it_holds_exactly_the_specified_files(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES


def test_its_name_is_time_model_and_title(finished_run: Path) -> None:
    assert re.fullmatch(r"\d{8}_\d{6}_gainakt2exp_run", finished_run.name)
    assert content(finished_run / "config.json")["runtime"]["timestamp"] == finished_run.name[:15]


def test_config_holds_every_parameter_in_canonical_order(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    assert list(config) == [*SPECIFIED, "override_applied", "config_hash", "format_version"]
    for group, names in SPECIFIED.items():
        specified = names.split()
        assert [name for name in config[group] if name in specified] == specified
        declared = model_fields("gainakt2exp") if group == "model" else GROUPS[group].model_fields
        assert list(config[group]) == list(declared)


def test_config_records_what_was_overridden(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    assert set(config["override_applied"]) == set(TINY)
    assert config["override_applied"]["d_model"] == config["model"]["d_model"] == 8


def test_config_records_the_commands_and_the_threads_taken(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    runtime = config["runtime"]
    assert runtime["command"].startswith("gainakt train --data=")
    assert runtime["train_command"].startswith("gainakt train --data=")
    assert runtime["eval_command"] == "gainakt evaluate . --split test"
    assert runtime["repro_command"] == "gainakt reproduce ."
    assert config["hardware"]["threads"] == 1
    assert config["experiment"]["id"] == finished_run.name


def what_the_shell_runs(folder: Path, tmp_path: Path, *words: str | Path) -> list[str]:
    """The words that run.sh hands to `gainakt`, as the shell splits them; the folder it is in."""
    shim = tmp_path / "bin" / "gainakt"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text('#!/bin/sh\nfor word in "$PWD" "$@"; do printf "%s\\0" "$word"; done\n')
    shim.chmod(0o755)
    answer = subprocess.run(
        [folder / "run.sh", *words],
        env={**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    here, *given = answer.stdout.split("\0")[:-1]
    assert Path(here) == folder.resolve()
    return given


def test_the_train_command_of_run_sh_repeats_the_run(
    run_copy: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    words = what_the_shell_runs(run_copy, tmp_path, "train")
    spelt = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    every = {name for group in GROUPS.values() for name in group.model_fields}
    every |= set(model_fields("gainakt2exp"))
    assert spelt == (every - FILLED_BY_RUN) | {"data", "out"}

    assert "--out=.." in words
    words = [f"--out={tmp_path}/again" if w.startswith("--out=") else w for w in words]
    data = content(run_copy / "data.json")["path"]
    words = [f"--data={data}" if w.startswith("--data=") else w for w in words]
    assert gainakt(*words, "--quiet").code == 0
    (again,) = (tmp_path / "again").iterdir()
    recorded, repeated = content(run_copy / "config.json"), content(again / "config.json")
    assert repeated["config_hash"] == recorded["config_hash"]
    assert repeated["override_applied"] == recorded["override_applied"]
    assert (again / "metrics_epoch.csv").read_bytes() == (
        run_copy / "metrics_epoch.csv"
    ).read_bytes()


@pytest.mark.parametrize(
    ("step", "words"),
    [("evaluate", ["evaluate", ".", "--split", "test"]), ("reproduce", ["reproduce", "."])],
)
def test_run_sh_holds_the_other_commands(
    finished_run: Path, tmp_path: Path, step: str, words: list[str]
) -> None:
    assert what_the_shell_runs(finished_run, tmp_path, step) == words


def test_run_sh_takes_data_that_are_elsewhere(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "the data"
    data.mkdir()
    monkeypatch.chdir(tmp_path)
    given = ("--data", "the data")
    evaluate = ["evaluate", ".", "--split", "test", f"--data={data}"]
    assert what_the_shell_runs(finished_run, tmp_path, *given) == evaluate
    assert what_the_shell_runs(finished_run, tmp_path, "evaluate", *given) == evaluate
    trained = what_the_shell_runs(finished_run, tmp_path, "train", *given)
    assert [word for word in trained if word.startswith("--data=")] == [f"--data={data}"]


def test_a_run_and_its_data_moved_together_go_on_as_before(
    train_tiny: Callable[..., Outcome],
    tiny_data: Path,
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    shutil.copytree(tiny_data, here / "data")
    assert train_tiny("--quiet", data=here / "data", out=here / "runs", epochs=1).code == 0
    here.rename(tmp_path / "there")
    (folder,) = (tmp_path / "there" / "runs").iterdir()
    monkeypatch.chdir(folder)
    outcome = gainakt("evaluate", ".", "--split", "test", "--json")
    assert outcome.code == 0, outcome.err
    assert gainakt("reproduce", ".", "--quiet").code == 0
    trained = what_the_shell_runs(folder, tmp_path, "train")
    assert gainakt(*trained, "--quiet", "--no-report").code == 0
    for name in ("README.md", "report.html", "config.json", "run.sh"):
        text = (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""
        typed = content(folder / "config.json")["runtime"]["command"]
        assert str(here) not in text.replace(json.dumps(typed)[1:-1], "").replace(typed, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tain"], "unknown step tain; allowed: train, evaluate, reproduce"),
        (["train", "--seed", "3"], "cannot take: --seed 3; allowed after the step: --data DIR"),
        (["train", "--data"], "cannot take: --data; allowed after the step: --data DIR"),
    ],
)
def test_run_sh_refuses_what_it_does_not_know(
    finished_run: Path, words: list[str], told: str
) -> None:
    answer = subprocess.run([finished_run / "run.sh", *words], capture_output=True, text=True)
    assert answer.returncode == 2
    assert told in answer.stderr


def test_hostile_words_reach_run_sh_as_plain_text(
    train_tiny: Callable[..., Outcome], gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    purpose = 'it\'s a "test" | of $(touch owned) `touch owned` ;; # and\ntouch owned\n'
    result = train_tiny("--quiet", out=tmp_path / "ex periments", epochs=1, purpose=purpose)
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "ex periments").iterdir()
    words = what_the_shell_runs(folder, tmp_path, "train")
    assert f"--purpose={purpose}" in words
    assert not list(Path.cwd().glob("owned"))
    script = (folder / "run.sh").read_text(encoding="utf-8")
    assert read_script(script)["purpose"] == purpose
    shell_row = next(
        c for c in json.loads(gainakt("check", folder, "--json").out) if "script" in c["title"]
    )
    assert shell_row["passed"], shell_row["reason"]
    groups = table(section(folder, "Configuration Provenance"))
    assert len(groups) == len(SPECIFIED)


@pytest.mark.parametrize(("name", "epoch"), [("best", None), ("last", 2)])
def test_checkpoints_carry_config_skills_and_epoch(
    finished_run: Path, name: str, epoch: int | None
) -> None:
    path = finished_run / f"model_{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        recorded = file.metadata()
    config = content(finished_run / "config.json")
    if epoch is None:
        epoch = content(finished_run / "results.json")["best_epoch"]
    assert json.loads(recorded["config"]) == config
    assert json.loads(recorded["skill_ids"]) == ["k01", "k02", "k03", "k04"]
    assert int(recorded["epoch"]) == epoch

    model = load_checkpoint(path).model()
    assert (
        sum(p.numel() for p in model.parameters())
        == content(finished_run / "results.json")["parameters"]
    )


def test_the_saved_state_loads_without_running_code(finished_run: Path) -> None:
    state = load_state(finished_run / "state_last.pt")
    assert state["epoch"] == 2
    assert {"model", "optimizer", "history", "schedule"} <= set(state)


def test_metrics_have_a_full_row_for_every_epoch(finished_run: Path) -> None:
    rows = metric_rows(finished_run)
    assert list(rows[0])[: len(METRIC_COLUMNS)] == METRIC_COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        values = {name: float(row[name]) for name in METRIC_COLUMNS}
        assert 0 < values["val_auc"] < 1
        shares = [value for name, value in values.items() if name.endswith("_share")]
        assert sum(shares) == pytest.approx(1)


def test_the_log_holds_the_whole_console_output(
    train_tiny: Callable[..., Outcome], tmp_path: Path
) -> None:
    result = train_tiny()
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "stdout.log").read_text(encoding="utf-8") == result.err
    assert result.out == f"{folder}\n"
    assert re.search(r"^epoch 1/2  batch 3/\d+  loss \d\.\d+  about .* left$", result.err, re.M)
    assert "✅ Per-epoch metrics CSV present" in result.err


def test_environment_records_versions_machine_and_code(finished_run: Path) -> None:
    environment = content(finished_run / "environment.json")
    for name in ("python", "torch", "platform", "processor", "device", "threads", "cores"):
        assert environment[name], name
    assert {"cuda", "gpu", "deterministic", "deterministic_algorithms"} <= set(environment)
    assert environment["device"] == "cpu"
    assert environment["deterministic_algorithms"] is True
    assert environment["step"] == "plain, on the CPU"
    assert "; step: plain, on the CPU\n" in (finished_run / "stdout.log").read_text()
    installed = {d.metadata["Name"] for d in metadata.distributions() if d.metadata["Name"]}
    assert set(environment["packages"]) == installed
    assert environment["packages"]["torch"] == metadata.version("torch")
    assert set(environment["git"]) >= {"commit", "branch", "dirty", "diff"}


def test_seeds_page_names_every_seed_and_what_it_seeds(finished_run: Path) -> None:
    page = (finished_run / "SEEDS.md").read_text(encoding="utf-8")
    assert "- primary: 42\n" in page
    assert "- all: 42\n" in page
    for seeded in ("initial weights", "order of students", "dropout", "bootstrap"):
        assert seeded in page


def test_trajectory_tells_what_the_schedules_did(finished_run: Path) -> None:
    entries = content(finished_run / "trajectory.json")
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert [entry["warmup_scale"] for entry in entries] == [0.125, 0.25]
    assert [entry["effective_alignment_weight"] for entry in entries] == [0.03125, 0.0625]
    for entry in entries:
        assert len(entry["batch"]["lag_correlations"]) == 3
        spread = entry["batch"]["mastery_variance"]
        assert 0 < spread["min"] <= spread["mean"] <= spread["max"]
        for where in ("batch", "global"):
            assert -1 <= entry[where]["mastery_correlation"] <= 1
            assert -1 <= entry[where]["gain_correlation"] <= 1
        assert entry["consistency_weight"] == 0.3
        assert entry["sparsity_weight"] == pytest.approx(0.2)
        assert entry["retention"] == 0
        assert entry["events"] == []
    assert entries[1]["peak"] == max(entry["global"]["mastery_correlation"] for entry in entries)


def test_results_agree_with_the_metrics(finished_run: Path) -> None:
    results = content(finished_run / "results.json")
    rows = metric_rows(finished_run)
    best = max(rows, key=lambda row: float(row["val_auc"]))
    assert results["status"] == "completed"
    assert results["epochs"] == 2
    assert results["best_epoch"] == int(best["epoch"])
    for name in METRIC_COLUMNS:
        assert results["best"][name] == float(best[name])
    assert results["mastery_corr"] == results["consistency"]["mastery_correlation"]
    assert results["gain_corr"] == results["consistency"]["gain_correlation"]
    for name in ("mastery", "gain", "clock"):
        low, high = results["consistency"][f"{name}_correlation_interval"]
        assert low <= results["consistency"][f"{name}_correlation"] <= high
    assert len(results["seconds"]["epochs"]) == 2
    assert results["seconds"]["total"] >= sum(results["seconds"]["epochs"])


def test_data_record_holds_place_and_manifest(finished_run: Path, tiny_data: Path) -> None:
    record = content(finished_run / "data.json")
    assert record == {
        "path": str(tiny_data.resolve()),
        "path_from_run": os.path.relpath(tiny_data, finished_run),
        "manifest": content(tiny_data / "manifest.json"),
    }


def test_readme_opens_with_title_model_and_status(finished_run: Path) -> None:
    lines = (finished_run / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# {finished_run.name}"
    assert {"- Model: gainakt2exp", "- Short title: run", "- Status: completed"} <= set(lines)
    assert "- Data: simulated, fold 0" in lines


def test_readme_shows_the_ten_checks_in_order(finished_run: Path) -> None:
    rows = table(section(finished_run, "Reproducibility Checklist"))
    assert [(row[0], row[1].lower()) for row in rows] == [
        ("✅", title)
        for title in (
            "folder naming convention followed",
            "config.json contains all params",
            "shell script lists full command",
            "best + last checkpoints saved",
            "per-epoch metrics csv present",
            "raw stdout log saved",
            "git commit & branch recorded",
            "seeds documented",
            "environment versions captured",
            "correlation / interpretability metrics logged",
        )
    ]


def test_readme_lists_the_configuration_by_group(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    text = section(finished_run, "Configuration Provenance")
    rows = dict(table(text))
    assert list(rows) == list(SPECIFIED)
    for group, names in SPECIFIED.items():
        for name in set(names.split()) - FILLED_BY_RUN:
            assert f"{name} = {json.dumps(config[group][name])}" in rows[group]
    assert config["config_hash"] in text
    assert "`d_model = 8`" in text


def test_readme_snapshots_every_flag(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    rows = table(section(finished_run, "Semantic Flag Snapshot"))
    assert rows == [
        [f"{group}.{name}", json.dumps(value)]
        for group in ("alignment", "global_alignment", "refinement")
        for name, value in config[group].items()
    ]


def test_readme_lists_every_key_of_interpretability(finished_run: Path) -> None:
    config = content(finished_run / "config.json")
    rows = table(section(finished_run, "Core Interpretability & Constraints"))
    parameters = config["interpretability"].items()
    assert rows == [[f"interpretability.{k}", json.dumps(v)] for k, v in parameters]


def test_readme_sums_up_the_best_epoch_in_numbers(finished_run: Path) -> None:
    results: Mapping[str, Any] = content(finished_run / "results.json")
    text = section(finished_run, "Best Epoch Summary")
    summary = {row[0]: row[1] for row in table(text.partition("\n\nmastery_corr")[0])}
    assert summary == {
        "best_epoch": str(results["best_epoch"]),
        "best_val_auc": f"{results['best']['val_auc']:.5f}",
        "best_val_accuracy": f"{results['best']['val_accuracy']:.5f}",
        "mastery_corr": f"{results['mastery_corr']:.5f}",
        "gain_corr": f"{results['gain_corr']:.5f}",
    }


def test_a_model_without_mastery_leaves_a_folder_that_passes(
    train_tiny: Callable[..., Outcome],
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    git = {"commit": "a" * 40, "branch": "main", "dirty": False}
    monkeypatch.setattr("gainakt.record.provenance.git_state", lambda package: git)
    off = (
        "use_mastery_head use_gain_head enhanced_constraints enable_alignment_loss "
        "enable_global_alignment_pass enable_retention_loss enable_lag_gain_loss"
    )
    result = train_tiny("--quiet", **dict.fromkeys(off.split(), "false"))
    assert result.code == 0, result.err
    (folder,) = (tmp_path / "out").iterdir()
    assert gainakt("check", folder).code == 0
    assert "| mastery_corr | not given by this model |" in section(folder, "Best Epoch Summary")


def test_the_recorded_command_builds_the_recorded_configuration(finished_run: Path) -> None:
    given = read_script((finished_run / "run.sh").read_text(encoding="utf-8"))
    config = load_config(None, given).model_dump(mode="json")
    recorded = content(finished_run / "config.json")
    for group in GROUPS:
        for name, value in config[group].items():
            if name not in FILLED_BY_RUN:
                assert recorded[group][name] == value


@pytest.mark.parametrize(
    "changed",
    [{}, {"seq_len": 3}, {"d_model": 1, "n_heads": 1}, {"config": "gainsum"}, {"model": "bkt"}],
    ids=str,
)
def test_a_correlation_that_no_student_has_is_undefined_and_no_failure(
    changed: dict[str, object],
    train_tiny: Callable[..., Outcome],
    write_students: Callable[..., Path],
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    answers = [[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1]]
    steps = [[("a", x), ("b", y), ("a", z)] for x, y, z in answers]
    data = write_students({f"s{i}": (i % 5, steps[i % 4]) for i in range(40)})
    if {"config", "model"} & set(changed):
        changed = changed | dict.fromkeys(("num_encoder_blocks", "d_ff", "n_heads", "d_model"))
    outcome = train_tiny("--quiet", data=data, epochs=1, **changed)
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "out").iterdir()
    checks = json.loads(gainakt("check", folder, "--json").out)
    assert [c["reason"] for c in checks if not c["passed"]] == []
    results = content(folder / "results.json")
    assert results["mastery_corr"] is None
    assert results["consistency"]["students_with_mastery_correlation"] == 0
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| mastery_corr | {UNDEFINED} |" in page
    assert gainakt("report", folder).code == 0
    assert "The correlation is undefined" in (folder / "report.html").read_text(encoding="utf-8")


def test_readme_holds_no_html_of_others(
    train_tiny: Callable[..., Outcome], gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    purpose = "<img src=x onerror=alert(1)> & `<b>`"
    assert train_tiny("--quiet", epochs=1, purpose=purpose).code == 0
    (folder,) = (tmp_path / "out").iterdir()
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "<img" not in page and "<b>" not in page
    assert "- Purpose: &lt;img src=x onerror=alert(1)&gt; &amp; `&lt;b&gt;`" in page


def test_a_name_that_is_no_text_is_refused(
    train_tiny: Callable[..., Outcome], tmp_path: Path
) -> None:
    out = tmp_path / os.fsdecode(b"odd\xff")
    outcome = train_tiny("--quiet", epochs=1, out=out)
    assert outcome.code == 1
    assert "is not UTF-8" in outcome.err and "rename it, or give another" in outcome.err
    out.mkdir()
    with pytest.raises(GainaktError, match="is not UTF-8"):
        RunFolder.create(out, "20260101_000000", "dkt", "run")
    assert not list(out.iterdir())
