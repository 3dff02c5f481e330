"""A trained model on its own: three files in the form that model hubs use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gainakt._version import __version__
from gainakt.config import dump_config
from gainakt.data.writing import new_folder
from gainakt.errors import ExperimentError, GainaktError
from gainakt.files import write_atomically
from gainakt.record.checklist import run_checks
from gainakt.record.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from gainakt.record.folder import RunFolder, read_json, write_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# How a run was called can hold paths and names of its machine; a model that is given away has none.
_COMMANDS = ("command", "train_command", "eval_command", "repro_command")


def about_run(folder: RunFolder) -> dict[str, Any]:
    """Return what a run's folder says of it: name, data and their counts, metrics when best.

    What cannot be read is left out; the checks say what is wrong with a folder.
    """
    about: dict[str, Any] = {"run": folder.path.name}
    try:
        manifest = read_json(folder.data)["manifest"]
        about["data"] = manifest["name"]
        about["counts"] = {what: int(count) for what, count in manifest["counts"].items()}
    except (GainaktError, LookupError, TypeError, ValueError, AttributeError):
        pass
    try:
        best = read_json(folder.results)["best"]
        about["metrics"] = {name: float(best[name]) for name in ("val_auc", "val_accuracy")}
    except (GainaktError, LookupError, TypeError, ValueError):
        pass
    return about


def checks_passed(folder: RunFolder) -> str:
    """Return how many of the ten checks a run passes, and which it does not."""
    checks = run_checks(folder)
    failed = "; ".join(check.title for check in checks if not check.passed)
    passed = f"{sum(check.passed for check in checks)} of {len(checks)} passed"
    return f"{passed}; failed: {failed}" if failed else passed


def save_pretrained(folder: Path, checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
    """Write config.json, model.safetensors and README.md into a new folder, whole or not at all.

    Args:
        folder: where; it must not exist.
        checkpoint: the model.
        about: what is known of its training, plain values.

    Raises:
        GainaktError: the folder exists, or cannot be written.
    """
    if os.path.lexists(folder):
        raise ExperimentError(f"{folder} exists already; choose another folder or remove it first")
    runtime = checkpoint.config.runtime.model_copy(update=dict.fromkeys(_COMMANDS, ""))
    config = checkpoint.config.model_copy(update={"runtime": runtime})
    checkpoint = Checkpoint(
        config,
        checkpoint.vocabulary,
        checkpoint.epoch,
        checkpoint.weights,
        checkpoint.first_answers,
    )
    with new_folder(folder) as temporary:
        save_checkpoint(temporary / WEIGHTS, checkpoint)
        write_json(temporary / CONFIG, _described(checkpoint) | {"about": dict(about)})
        write_atomically(temporary / CARD, _card(folder.name, checkpoint, about).encode())


def load_pretrained(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Read what `save_pretrained` wrote; no code runs on load.

    Returns:
        The model, and what is known of its training.

    Raises:
        ExperimentError: there is no such folder, its files are damaged or of two models, or a newer
            version of GainAKT wrote them.
    """
    if not folder.is_dir():
        raise ExperimentError(
            f"no folder {str(folder)!r}; from_pretrained reads a folder on this machine that "
            "save_pretrained made. It loads nothing from a model hub: download the files first "
            "and give their folder"
        )
    if not (folder / WEIGHTS).is_file():
        run = RunFolder(folder).best.is_file()
        hint = "; it is the folder of a run: use gainakt.load" if run else ""
        raise ExperimentError(f"{folder} has no {WEIGHTS}, so it holds no pretrained model{hint}")
    described = read_json(folder / CONFIG)
    if not isinstance(described, dict):
        raise ExperimentError(f"{folder / CONFIG} must hold a JSON object")
    _refuse_newer(folder, described)
    checkpoint = load_checkpoint(folder / WEIGHTS)
    about = described.pop("about", {})
    # versions may differ: what counts is that both files are of one model
    mine = _described(checkpoint)
    other = [
        name for name in mine if name != "gainakt_version" and described.get(name) != mine[name]
    ]
    if other:
        raise ExperimentError(
            f"{folder}: {CONFIG} and {WEIGHTS} are not of one model, they differ in {other[0]!r}; "
            "take both from the same place"
        )
    return checkpoint, dict(about) if isinstance(about, dict) else {}


def _refuse_newer(folder: Path, described: Mapping[str, Any]) -> None:
    """What a newer version means by its files is not known, even where they look alike."""
    wrote = str(described.get("gainakt_version", ""))
    newer = _numbers(wrote) > _numbers(__version__)
    if newer or described.get("format", FORMAT) != FORMAT:
        raise ExperimentError(
            f"{folder} was written by a newer version of GainAKT, {wrote or 'unknown'}; this is "
            f"{__version__}: update it with pip install --upgrade gainakt"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, to compare: 0.10.1 comes after 0.9."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[^\d.]", version)[0])))


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "library_name": "gainakt",
        "gainakt_version": __version__,
        "format": FORMAT,
        "model_type": checkpoint.config.experiment.model,
        "epoch": checkpoint.epoch,
        "skill_ids": list(checkpoint.vocabulary.skills),
        "config": dump_config(checkpoint.config),
    }


def _card(name: str, checkpoint: Checkpoint, about: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        # names of data sets and skills are other people's text in Markdown, which may hold HTML
        autoescape=True,
    )
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        model=checkpoint.config.experiment.model,
        config=checkpoint.config,
        skills=checkpoint.vocabulary.skills,
        epoch=checkpoint.epoch,
        about=about,
        version=__version__,
    )
