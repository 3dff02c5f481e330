"""The ten reproducibility checks: each opens the file it speaks of and looks.

A check reads as little as it can besides its own file, so that one damage turns one row.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gainakt.config import (
    FILLED_BY_RUN,
    FORMAT_VERSION,
    GROUPS,
    MODELS,
    RENAMED,
    config_hash,
    flatten,
    hash_of,
    load_config,
    model_fields,
    overridden,
    parse_config,
)
from gainakt.errors import ExperimentError, GainaktError
from gainakt.record import commands
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.folder import (
    COMPLETED,
    INTERRUPTED,
    METRIC_COLUMNS,
    RUNNING,
    TRAJECTORY_KEYS,
    RunFolder,
    read_json,
    read_text,
)
from gainakt.record.records import checkpoint_problems, config_problems

_PACKAGES_NEEDED = ("torch", "numpy", "pydantic", "safetensors", "pyarrow")
_RATES = ("monotonicity_violation_rate", "negative_gain_rate", "bounds_violation_rate")


@dataclass(frozen=True)
class Check:
    """A row of the checklist: what was checked, the outcome, and the reason where it failed."""

    title: str
    passed: bool
    reason: str = ""

    @property
    def mark(self) -> str:
        """The outcome as the README shows it."""
        return "✅" if self.passed else "❌"


class Failure(Exception):
    """A check found what is wrong."""


def run_checks(folder: RunFolder) -> list[Check]:
    """Perform the ten checks on an experiment folder, in the README's order."""
    return [_perform(title, check, folder) for title, check in CHECKS.items()]


def _perform(title: str, check: Callable[[RunFolder], None], folder: RunFolder) -> Check:
    try:
        check(folder)
    except (Failure, GainaktError) as failure:
        return Check(title, False, str(failure))
    except OSError as error:
        return Check(title, False, f"{error.filename} cannot be read: {error.strerror or error}")
    except (LookupError, TypeError, ValueError, AttributeError, csv.Error) as error:
        # a file of the right syntax but another shape
        return Check(title, False, f"unexpected content: {type(error).__name__} {error}")
    return Check(title, True)


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise Failure(reason)


def _refuse(problems: list[str]) -> None:
    _require(not problems, "; ".join(problems))


def _folder_name(folder: RunFolder) -> None:
    models = "|".join(map(re.escape, MODELS))
    match = re.fullmatch(rf"(\d{{8}}_\d{{6}})_({models})_([A-Za-z0-9][\w.-]*)", folder.path.name)
    _require(
        match is not None,
        f"{folder.path.name!r} is not YYYYMMDD_HHMMSS_model_short_title with a known model",
    )
    assert match is not None
    try:
        datetime.strptime(match[1], "%Y%m%d_%H%M%S")
    except ValueError:
        raise Failure(f"{match[1]} is not a date and time") from None


def _config(folder: RunFolder) -> None:
    content = read_json(folder.config)
    order = [key for key in content if key in GROUPS]
    _require(order == list(GROUPS), f"groups are {order}, must be {list(GROUPS)} in this order")
    for group, cls in GROUPS.items():
        known = (
            model_fields(content["experiment"]["model"]) if group == "model" else cls.model_fields
        )
        missing = [name for name in known if name not in content[group]]
        # a parameter that came after the run is not missing: then the values still hash alike
        whole = not missing or hash_of(content) == content.get("config_hash")
        _require(whole, f"parameter {group}.{missing[0] if missing else ''} is missing")
    config = parse_config(content, "config.json")
    _refuse(config_problems(folder))
    old = {name: new for (_, name), new in RENAMED.items()}
    listed = content.get("override_applied")
    _require(isinstance(listed, dict), f"override_applied is {listed}, not what was overridden")
    listed = {old.get(k, k): v for k, v in listed.items()}
    found = overridden(config)
    if content.get("format_version") != FORMAT_VERSION:  # what the defaults were then is not known
        found = {name: flatten(config).get(name) for name in listed}
    _require(listed == found, f"override_applied is {listed}, but the values give {found}")
    _require(bool(config.runtime.command), "runtime.command is empty")


def _script(folder: RunFolder) -> None:
    given = commands.read_script(read_text(folder.script))
    _require(bool(folder.script.stat().st_mode & 0o100), "run.sh is not executable")
    config = load_config(None, given)
    content = read_json(folder.config)
    current = content.get("format_version") == FORMAT_VERSION
    old = {name: new for (_, name), new in RENAMED.items()}
    names = {old.get(n, n) for g in GROUPS for n in content.get(g, {})}
    recorded = flatten(config) if current else names
    missing = [n for n in recorded if n not in given and n not in FILLED_BY_RUN]
    _require(not missing, f"run.sh does not spell out {min(missing) if missing else ''}")
    expected = _recorded_hash(content)
    _require(
        config_hash(config) == expected,
        f"the command in run.sh builds configuration {config_hash(config)[:12]}..., "
        f"config.json recorded {expected[:12]}...",
    )


def _recorded_hash(content: dict[str, Any]) -> str:
    """The hash that config.json recorded, under the names that parameters have now."""
    if content.get("format_version") == FORMAT_VERSION:
        return str(content.get("config_hash"))
    return config_hash(parse_config(content, "config.json"))


def _checkpoints(folder: RunFolder) -> None:
    results = read_json(folder.results)
    expected = {folder.best: results.get("best_epoch"), folder.last: results.get("epochs")}
    content = read_json(folder.config)
    for path, epoch in expected.items():
        checkpoint = load_checkpoint(path)
        checkpoint.model()
        _require(
            checkpoint.epoch == epoch,
            f"{path.name} is of epoch {checkpoint.epoch}, results.json says {epoch}",
        )
        made = checkpoint.config
        _require(
            made.experiment.id == content.get("experiment", {}).get("id"),
            f"{path.name} was written by the run {made.experiment.id!r}",
        )
        _require(
            config_hash(made) == _recorded_hash(content),
            f"{path.name} was written under another configuration than config.json records: "
            f"{config_hash(made)[:12]}...",
        )
    _refuse(checkpoint_problems(folder, results))
    _refuse(folder.stale_files())


def _metrics(folder: RunFolder) -> None:
    rows = folder.read_metrics()
    epochs = read_json(folder.results)["epochs"]
    _require(len(rows) == epochs, f"metrics_epoch.csv has {len(rows)} rows for {epochs} epochs")
    best = read_json(folder.results).get("best") or {}
    # what was not measured is empty in every epoch and null in results.json
    may_lack = {name for name in METRIC_COLUMNS if best.get(name, 0) is None}
    for number, row in enumerate(rows, start=1):
        _require(row["epoch"] == str(number), f"row {number} is epoch {row['epoch']!r}")
        for name in METRIC_COLUMNS:
            value = row[name]
            if name in may_lack and value == "":
                continue
            _require(bool(value), f"epoch {number}: {name} has no value")
            _require(_is_number(value), f"epoch {number}: {name} = {value!r} is not a number")
    if not rows:
        return
    results = read_json(folder.results)
    top = max(rows, key=lambda row: float(row["val_auc"]))
    _require(
        results.get("best_epoch") == int(top["epoch"]),
        f"the best validation AUC is of epoch {top['epoch']}, results.json says "
        f"{results.get('best_epoch')}",
    )
    for name, value in top.items():
        known = best.get(name)
        _require(
            known == (float(value) if value else None),
            f"epoch {top['epoch']}: {name} is {value or 'empty'} here and {known} in results.json",
        )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _log(folder: RunFolder) -> None:
    text = read_text(folder.log)
    _require(bool(text.strip()), "stdout.log is empty")
    rows = _by_epoch(folder)
    for epoch in range(1, int(read_json(folder.results)["epochs"]) + 1):
        said = re.findall(rf"^epoch {epoch}/\d+ done.*", text, re.MULTILINE)
        _require(bool(said), f"stdout.log does not report the end of epoch {epoch}")
        row = rows.get(str(epoch), {})
        for name, label in (("train_loss", "train loss"), ("val_loss", "validation loss")):
            value = row.get(name, "")
            _require(
                not _is_number(value) or f"{label} {float(value):.5f} " in f"{said[-1]} ",
                f"stdout.log, epoch {epoch}: its {label} is not the {value} of metrics_epoch.csv",
            )


def _by_epoch(folder: RunFolder) -> dict[str, dict[str, str]]:
    """The rows of metrics_epoch.csv; none where it is damaged, which another check says."""
    try:
        return {row["epoch"]: row for row in folder.read_metrics()}
    except ExperimentError:
        return {}


def _git(folder: RunFolder) -> None:
    content = read_json(folder.environment)
    git, code = content.get("git"), content.get("code") or {}
    _require(isinstance(git, dict), "environment.json does not record git")
    if git.get("commit") is None:
        # an installed package is in no repository: what it holds says which code ran
        _require(git.get("branch") is None, "git commit None is not a commit id")
        known = bool(re.fullmatch(r"[0-9a-f]{64}", code.get("sha256") or ""))
        _require(known, git.get("reason") or "neither a commit nor the package's hash is recorded")
        return
    _require(
        bool(re.fullmatch(r"[0-9a-f]{40,64}", git["commit"] or "")),
        f"git commit {git.get('commit')!r} is not a commit id",
    )
    _require(bool(git.get("branch")), "no git branch recorded")
    dirty = git.get("dirty")
    _require(isinstance(dirty, bool), "whether there were uncommitted changes is not recorded")
    _require(not dirty or bool(git.get("changes")), "uncommitted changes are not recorded")


def _seeds(folder: RunFolder) -> None:
    text = read_text(folder.seeds)
    seeds = read_json(folder.config)["seeds"]
    every = ", ".join(str(seed) for seed in seeds["all"])
    for line in (f"- primary: {seeds['primary']}", f"- all: {every}"):
        _require(line in text.splitlines(), f"SEEDS.md does not say {line[2:]!r}")


def _environment(folder: RunFolder) -> None:
    content = read_json(folder.environment)
    for key in ("python", "torch", "platform", "processor", "device", "threads"):
        _require(bool(content.get(key)), f"environment.json does not record {key}")
    installed = {name.lower() for name in content.get("packages", {})}
    missing = [name for name in _PACKAGES_NEEDED if name not in installed]
    _require(not missing, f"the version of package {missing[0] if missing else ''} is not recorded")


def _correlations(folder: RunFolder) -> None:
    results = read_json(folder.results)
    _require(results["status"] == COMPLETED, _unfinished(results))
    consistency = results["consistency"]
    for name in _RATES:
        _number(consistency, name)
    for name in ("mastery_corr", "gain_corr"):
        _number(results, name)
    _number(consistency, "clock_correlation")
    pairs = (("mastery_corr", "mastery_correlation"), ("gain_corr", "gain_correlation"))
    for name, same in pairs:
        _require(
            results[name] == consistency.get(same),
            f"{name} is {results[name]}, but consistency.{same} is {consistency.get(same)}",
        )
    entries = read_json(folder.trajectory)
    _require(
        len(entries) == results["epochs"],
        f"trajectory.json has {len(entries)} entries for {results['epochs']} epochs",
    )
    for epoch, entry in enumerate(entries, start=1):
        _require(
            isinstance(entry, dict) and entry.get("epoch", epoch) == epoch,
            f"trajectory.json, entry {epoch}: it is not of epoch {epoch}",
        )
        missing = [name for name in TRAJECTORY_KEYS if name not in entry]
        _require(not missing, f"trajectory.json, epoch {epoch}: {', '.join(missing)} is missing")


def _unfinished(results: dict[str, Any]) -> str:
    status = results["status"]
    reason = {
        RUNNING: "it still trains, or was killed and can be resumed",
        INTERRUPTED: "it can be resumed",
    }.get(status, results.get("reason", ""))
    return f"the run is {status} ({reason}); the final metrics come with its end"


def _number(values: dict[str, Any], name: str) -> None:
    """Require a figure: a number, or null where nothing was there to measure."""
    _require(name in values, f"{name} is missing")
    value = values[name]
    _require(
        value is None or (isinstance(value, int | float) and math.isfinite(value)),
        f"{name} is {value}, not a number",
    )


CHECKS: dict[str, Callable[[RunFolder], None]] = {
    "Folder naming convention followed": _folder_name,
    "config.json contains all params": _config,
    "Shell script lists full command": _script,
    "Best + last checkpoints saved": _checkpoints,
    "Per-epoch metrics CSV present": _metrics,
    "Raw stdout log saved": _log,
    "Git commit & branch recorded": _git,
    "Seeds documented": _seeds,
    "Environment versions captured": _environment,
    "Correlation / interpretability metrics logged": _correlations,
}
