"""Scoring a run's best checkpoint: metrics and every prediction, into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gainakt.data.interactions import Dataset
from gainakt.evaluation.protocol import Scores, evaluate_split, with_skills_of
from gainakt.experiment.console import RunConsole
from gainakt.experiment.folder import RunFolder, write_json
from gainakt.experiment.opening import open_run
from gainakt.training.accelerate import precision
from gainakt.training.checkpoint import Checkpoint, write_atomically


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
    run = open_run(folder, data)
    scores = score(run.checkpoint, run.dataset, split, run.device)
    metrics = {
        **scores.metrics,
        "epoch": run.checkpoint.epoch,
        "same_data_as_training": run.same_data,
    }
    name = run.name_of(split)
    write_scores(folder, name, Scores(metrics, scores.predictions))
    console.say(f"metrics: {folder.evaluation(name)}")
    console.say(f"predictions: {folder.predictions(name)}")
    return metrics


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
