"""Measuring a run's interpretability: figures beside controls, into its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gainakt.errors import DataError, ExperimentError
from gainakt.evaluation.interpretability import (
    MEASURES,
    Interpretability,
    Material,
    Settings,
    measure,
)
from gainakt.evaluation.predictor import Predictor, Reading
from gainakt.experiment.console import RunConsole
from gainakt.experiment.findings import summary, table
from gainakt.experiment.opening import OpenRun, open_run
from gainakt.models import build_model
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.folder import RunFolder, write_json


@dataclass(frozen=True)
class Findings:
    """A run's measures: as values for a file, as a table and in words."""

    values: dict[str, Any]
    table: str
    summary: str


def interpret(
    folder: RunFolder,
    split: str,
    console: RunConsole,
    data: Path | None = None,
    against: RunFolder | None = None,
    flips: int = Settings.flips,
) -> Findings:
    """Measure the interpretability of a run's best checkpoint and write interpretability_*.json.

    Args:
        folder: the run.
        split: valid or test.
        console: where to report.
        data: a prepared data set in place of the recorded one.
        against: a run of another seed, to measure how stable mastery is.
        flips: answers to flip; the resamples of students are the run's `bootstrap_samples`.

    Raises:
        DataError: as for an evaluation; also where a class of answers is missing.
        ExperimentError: the other run knows other skills.
    """
    run = open_run(folder, data)
    config = run.checkpoint.config
    settings = Settings(
        samples=config.evaluation.bootstrap_samples, flips=flips, seed=config.runtime.seed
    )
    material = _material(run, split, settings)
    console.say(f"measuring {len(material.windows):,} sequences; this takes some minutes")
    found = measure(
        *_trained_and_not(run, folder),
        material,
        run.dataset.students("train", config.data.fold, config.data.test_fold),
        settings,
        None if against is None else _trained_and_not(run, against),
    )
    words = summary(found, config.experiment.model)
    values = _values(found, words) | {
        "run": folder.path.name,
        "model": config.experiment.model,
        "epoch": run.checkpoint.epoch,
        "split": split,
        "same_data_as_training": run.same_data,
        "of": folder.stamp(run.stored.manifest["interactions_sha256"]),
        "against": None if against is None else against.path.name,
    }
    path = folder.interpretability(run.name_of(split))
    write_json(path, values)
    console.say(f"measures: {path}")
    return Findings(values, table(found), words)


def _material(run: OpenRun, split: str, settings: Settings) -> Material:
    config = run.checkpoint.config
    dataset = run.dataset
    students = dataset.students(split, config.data.fold, config.data.test_fold)
    material = Material.of(dataset, students, Reading.of(config), settings)
    if not len(material.pieces):
        raise DataError(
            f"the {split} students of {dataset.name!r} have fewer than 3 interactions each, "
            "there is nothing to measure"
        )
    rows = np.concatenate([np.arange(*dataset.offsets[[s, s + 1]])[1:] for s in students.tolist()])
    if len(np.unique(dataset.rows.response[rows])) < 2:
        raise DataError(
            f"the {split} students of {dataset.name!r} give answers of one class only; right and "
            "wrong ones are needed"
        )
    return material


def _trained_and_not(run: OpenRun, folder: RunFolder) -> tuple[Predictor, Predictor]:
    """A folder's model, and one of its configuration that has learnt nothing."""
    checkpoint = load_checkpoint(folder.best)
    if checkpoint.vocabulary != run.checkpoint.vocabulary:
        raise ExperimentError(
            f"{folder.path.name} was trained on other skills; mastery can only be compared "
            "between runs of the same data"
        )
    untrained = build_model(checkpoint.config, checkpoint.vocabulary)
    trained, not_trained = (
        Predictor.of(model, checkpoint.config, run.device)
        for model in (checkpoint.model(), untrained.eval())
    )
    return trained, not_trained


def _values(found: Interpretability, words: str) -> dict[str, Any]:
    return {
        "students": found.students,
        "answers": found.answers,
        "flips": found.flips,
        "settings": vars(found.settings),
        "measures": [
            {
                "measure": entry.number,
                "name": key,
                "label": entry.label,
                "by_construction": key in found.by_construction,
                **{
                    column: vars(figures[key]) if key in figures else None
                    for column, figures in found.columns.items()
                },
            }
            for key, entry in MEASURES.items()
        ],
        "reliability": found.curves,
        "summary": words,
    }
