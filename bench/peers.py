"""Our training epoch beside pyKT's: dkt, sakt and akt by pyKT's own loop, on the same students.

    python bench/peers.py [--data FOLDER] [--models dkt sakt akt_1_block akt] [--steps N]

What is measured: one epoch of optimiser steps over the training students of a fold, from asking
for the first batch to the end of the last step, and apart from it the pass over the validation
students with its metrics. In processor seconds (user and system, all threads), in wall seconds,
and in the largest resident memory of the whole process. Ours is GainSum as configured in
gainsum_assist2015 without teachers, trained by the package's own loop. Theirs is pykt-toolkit from
PyPI in an environment of its own under bench/.venvs, made on first use, with pyKT's published
settings. Every measurement is a process of its own; rounds go through all systems in turn, and the
table shows medians over the rounds. Ratios are theirs to ours: above 1 we need less.

`--data` is a folder with pyKT's train_valid.csv and test.csv; without it the students are
simulated. With `--steps N`, N steps after one of warm-up are scaled to the epoch; akt is always
measured so, since an epoch of it takes hours. Whole epochs go on until validation AUC `--target`
or `--epochs`, which gives the time to that AUC, validation passes included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import BENCH, MIB, Instant, Table, apart, header, median, say, whole_pass

PYKT = "0.0.38"
# pyKT names pandas, scikit-learn and wandb as well; it imports the last only for its sweeps
PYKT_NEEDS = ("numpy", "pandas", "scikit-learn")
OURS = "gainsum"
THEIRS = ("dkt", "sakt", "akt_1_block", "akt")
ALWAYS_IN_PART = {"akt_1_block": 3, "akt": 2}
SIMULATED = {"students": 19000, "skills": 100, "mean_length": 36.0}


def train_ours(
    config: str, data: str, fold: int, threads: int, steps: int | None, epochs: int, target: float
) -> dict[str, Any]:
    """Train our model by our loop and time the training part and the validation of each epoch.

    The arguments are those of `peers_pykt.train`, `data` being a prepared data set.
    """
    from gainakt.config import load_config
    from gainakt.data.interactions import load_dataset
    from gainakt.experiment.run import make_trainer
    from gainakt.training.accelerate import prepare_machine
    from gainakt.training.loop import Trainer

    overrides = {"teachers": 0, "threads": threads, "fold": fold, "monitor_freq": 1}
    settings = load_config(config, overrides)
    device = prepare_machine(settings)
    trainer = make_trainer(settings, load_dataset(data), device)

    class Watch:
        """Notes the instant of every step, and what every epoch took."""

        instants = [Instant.now()]
        epochs: list[dict[str, Any]] = []

        def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            self.instants.append(Instant.now())

        def on_epoch(self, trainer: Trainer, improved: bool) -> None:
            now = Instant.now()
            self.epochs.append(
                {
                    "training": whole_pass(self.instants, trainer.steps_per_epoch),
                    "validation": now.since(self.instants[-1]),
                    "val_auc": trainer.history.rows[-1]["val_auc"],
                }
            )
            self.instants = [now]

        def on_state(self, trainer: Trainer) -> None:
            """Saves nothing."""

        def should_stop(self) -> bool:
            if steps is not None:
                return len(self.instants) > steps + 1
            done = [epoch["val_auc"] for epoch in self.epochs]
            return len(self.instants) == 1 and bool(done) and (done[-1] >= target or len(done) >= epochs)

    watch = Watch()
    trainer.run(watch, watch.should_stop)
    if steps is not None:
        part = {"training": whole_pass(watch.instants, trainer.steps_per_epoch)}
        watch.epochs.append(part | {"validation": None, "val_auc": None})
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "batch_size": settings.training.batch_size,
        "steps": trainer.steps_per_epoch,
        "epochs": watch.epochs,
    }
