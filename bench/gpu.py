"""Seconds an epoch takes on a GPU: plain steps, recorded steps, and recorded steps compiled.

    python bench/gpu.py DATA [--configs assist2015 gainsum_assist2015] [--epochs 5] [--fold 0]

DATA is a prepared data set. Every way trains the same model from the same seed in this process; the
first epoch, with all recording and compiling, is shown apart from the median of the others. An
epoch is its optimiser steps and its validation. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from gainakt.config import load_config
from gainakt.data.interactions import load_dataset
from gainakt.experiment.run import make_trainer
from gainakt.training.accelerate import prepare_machine
from gainakt.training.loop import Trainer

WAYS = {
    "plain": {"cuda_graphs": "off"},
    "recorded": {"compile": "off"},
    "recorded, bf16": {"compile": "off", "use_amp": True},
    "compiled, bf16": {"compile": "on", "use_amp": True},
}


class Nothing:
    """A recorder that writes nothing down."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Nothing to record."""

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        """Show life."""
        print(f"  epoch {trainer.epoch}: {trainer.history.seconds[-1]:.2f} s", flush=True)

    def on_state(self, trainer: Trainer) -> None:
        """Nothing to record."""


def measure(config_name: str, way: str, data: Path, epochs: int, fold: int) -> list[str]:
    """Train in one way and return a row of the table."""
    settings = {"epochs": epochs, "fold": fold, "devices": "cuda", "monitor_freq": 10**9}
    config = load_config(config_name, settings | WAYS[way])
    trainer = make_trainer(config, load_dataset(data), prepare_machine(config))
    trainer.say = print
    print(f"{config_name}, {way}", flush=True)
    trainer.run(Nothing())
    first, *others = trainer.history.seconds
    best = trainer.history.best
    assert best is not None
    median, spread = statistics.median(others), max(others) - min(others)
    return [
        config_name,
        way,
        trainer.path,
        f"{first:.2f}",
        f"{median:.2f}",
        f"{spread:.2f}",
        f"{1000 * median / trainer.steps_per_epoch:.2f}",
        f"{best['val_auc']:.4f}",
    ]


def main() -> None:
    """Measure every way for every configuration, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--configs", nargs="+", default=["assist2015", "gainsum_assist2015"])
    parser.add_argument("--epochs", type=int, default=5, help="at least 4: the first is apart")
    parser.add_argument("--fold", type=int, default=0)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("this machine has no GPU that torch can use: nothing is measured")
        return
    rows = [
        measure(name, way, chosen.data, max(4, chosen.epochs), chosen.fold)
        for name in chosen.configs
        for way in WAYS
    ]
    titles = ("configuration", "way", "steps", "first epoch s", "epoch s", "spread", "ms a step")
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, validation included\n")
    for row in ([*titles, "best AUC"], ["---"] * 8, *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
