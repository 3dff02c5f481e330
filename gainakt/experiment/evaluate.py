"""Scoring a run's best checkpoint: metrics and every prediction, into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gainakt.config import Config
from gainakt.data.interactions import Dataset
from gainakt.errors import DataError
from gainakt.evaluation.protocol import Scores, evaluate_split, with_skills_of
from gainakt.experiment.console import RunConsole
from gainakt.experiment.folder import RunFolder, write_json
from gainakt.experiment.records import data_problems, recorded_data
from gainakt.training.accelerate import precision, prepare_machine
from gainakt.training.checkpoint import Checkpoint, load_checkpoint, write_atomically


def evaluate(
    folder: RunFolder, split: str, console: RunConsole, data: Path | None = None
) -> dict[str, Any]:
    """Score a run's best checkpoint on a split; write metrics and every prediction.

    Args:
        folder: the run.
        split: valid or test.
        console: where to report.
        data: a prepared data set in place of the recorded one.
    """
    checkpoint = load_checkpoint(folder.best)
    dataset = recorded_data(folder, data)
    problems = data_problems(folder, dataset)
    if data is None and problems:
        raise DataError(f"{problems[0]}; to evaluate on other data, name them with --data")
    device = prepare_machine(_anywhere(checkpoint.config))
    scores = score(checkpoint, dataset, split, device)
    metrics = {**scores.metrics, "epoch": checkpoint.epoch, "same_data_as_training": not problems}
    # figures on other data never take the place of the run's own
    name = f"{split}_on_{dataset.name}" if problems else split
    write_scores(folder, name, Scores(metrics, scores.predictions))
    console.say(f"metrics: {folder.evaluation(name)}")
    console.say(f"predictions: {folder.predictions(name)}")
    return metrics


def _anywhere(config: Config) -> Config:
    """A model trained on a GPU may be evaluated where there is none."""
    hardware = config.hardware.model_copy(update={"devices": "auto"})
    return config.model_copy(update={"hardware": hardware})


def score(checkpoint: Checkpoint, dataset: Dataset, split: str, device: torch.device) -> Scores:
    """Score a checkpoint on a split of a data set, by the recorded fold and protocol."""
    config = checkpoint.config
    return evaluate_split(
        checkpoint.model().to(device),
        with_skills_of(dataset, checkpoint.skill_ids),
        split,
        config.data,
        config.model.seq_len,
        config.evaluation,
        device,
        precision(config, device),
    )


def write_scores(folder: RunFolder, split: str, scores: Scores) -> None:
    """Write a split's metrics and predictions into the run's folder."""
    sink = pa.BufferOutputStream()
    pq.write_table(scores.predictions, sink, compression="zstd")
    write_atomically(folder.predictions(split), sink.getvalue().to_pybytes())
    write_json(folder.evaluation(split), scores.metrics)
