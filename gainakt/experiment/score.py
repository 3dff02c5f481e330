"""Predictions of a run's best checkpoint for any number of students, in constant memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gainakt.errors import ExperimentError
from gainakt.evaluation.protocol import predict, predictions_schema
from gainakt.experiment.console import RunConsole, duration
from gainakt.experiment.evaluate import predictions_file
from gainakt.experiment.opening import open_run
from gainakt.record.folder import RunFolder

# Seconds between two lines of progress.
REPORT_EVERY = 30.0


def score(
    folder: RunFolder,
    data: Path,
    out: Path,
    console: RunConsole,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Predict every answer but the first of every student of a data set, whatever its folds.

    Args:
        folder: the run.
        data: a prepared data set.
        out: the Parquet file to make.
        console: where to report.
        clock: seconds, for the rate and the time left.

    Returns:
        Counts, seconds and the rate.

    Raises:
        DataError: the data have skills unknown to the model, or are damaged.
        ExperimentError: `out` exists or cannot be written, or the folder is damaged.
    """
    if out.suffix.lower() not in (".parquet", ".pq"):
        raise ExperimentError(f"{out}: predictions are written as Parquet; name it .parquet")
    if os.path.lexists(out):
        raise ExperimentError(f"{out} exists already; choose another --out or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"cannot write {out}: {error.strerror or error}") from None
    run = open_run(folder, data)
    stored = run.stored
    students = np.arange(len(stored.folds))
    expected = len(stored.rows) - len(students)
    targets, began = 0, clock()
    reported = began
    with predictions_file(out, predictions_schema(stored)) as keep:
        for _, table in predict(run.predictor, stored, students):
            keep(table)
            targets += len(table)
            if clock() - reported > REPORT_EVERY:
                reported = clock()
                left = (reported - began) / targets * (expected - targets)
                console.say(f"{targets:,} of {expected:,} predictions, {duration(left)} left")
    seconds = clock() - began
    console.say(f"predictions: {out}")
    return {
        "predictions": str(out),
        "students": len(students),
        "interactions": len(stored.rows),
        "targets": targets,
        "seconds": round(seconds, 3),
        "interactions_per_second": round(len(stored.rows) / max(seconds, 1e-9), 1),
        "epoch": run.checkpoint.epoch,
        "same_data_as_training": run.same_data,
    }
