"""Whether the way steps are laid out changes what is learnt: rectangles, padding, packed rows.

    python bench/layouts.py [--data FOLDER] [--config gainsum_assist2015] [--epochs 1] [--threads 1]

What is measured: the validation figures after training the same students in the same order from
the same weights, the steps of a batch laid out as a CPU has them (rectangles of similar lengths),
as one rectangle padded to the longest, and in packed rows as a GPU has them; and the processor
seconds of the optimiser steps. Without dropout, which each layout would draw for other places, the
three compute the same sums in another order. Every layout is a process of its own. Differences are
to the first row.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import students
from measuring import Table, TrainerWatch, apart, header, median, say

LAYOUTS = ("rectangles", "one padded rectangle", "packed rows")


def train(
    layout: str, config: str, data: str, fold: int, epochs: int, threads: int
) -> dict[str, Any]:
    """Train with the steps laid out one way; return figures and seconds.

    Args:
        layout: one of LAYOUTS.
        config: a configuration by name or file; dropout and teachers are left out.
        data: a prepared data set.
        fold, epochs, threads: as in the configuration.
    """
    from gainakt.config import load_config
    from gainakt.data import batches
    from gainakt.data.interactions import load_dataset
    from gainakt.data.packing import Packing
    from gainakt.experiment.learning import Learning
    from gainakt.machine import prepare_machine
    from gainakt.training.captured import PackedSteps
    from gainakt.training.steps import GraphedSteps

    settings = load_config(
        config,
        {"devices": "cpu", "threads": threads, "fold": fold, "epochs": epochs, "dropout": 0.0}
        | {"teachers": 0, "monitor_freq": 1},
    )
    device = prepare_machine(*settings.machine)
    if layout == "one padded rectangle":
        batches.RECTANGLE_COST = 10**9
    trainer = Learning.of(settings, load_dataset(data)).trainer(settings, device)
    if layout == "packed rows":
        packing = Packing(
            trainer.training,
            settings.model.seq_len,
            settings.training.batch_size,
            settings.runtime.seed,
        )
        packed = PackedSteps(trainer.step, packing, settings)
        trainer.steps = GraphedSteps(
            trainer.step, trainer.training, trainer.steps.adaptive, print, packed
        )
    watch = TrainerWatch()
    trainer.run(watch)
    last = trainer.history.rows[-1]
    return {
        "seconds": median(epoch["training"]["cpu"] for epoch in watch.epochs),
        **{name: last[name] for name in ("train_loss", "val_loss", "val_auc", "val_accuracy")},
    }


def main() -> None:
    """Train each way and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students.add_options(parser)
    parser.add_argument("--config", default="gainsum_assist2015")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    columns = ["layout", "train loss", "validation loss", "AUC", "difference", "accuracy"]
    table = Table("One model, its steps laid out in three ways", [*columns, "CPU s"], header())
    table.header["students"] = students.described(given)
    table.header["configuration"] = f"{given.config}, {given.epochs} epochs, without dropout"
    with tempfile.TemporaryDirectory() as temporary:
        data = students.prepared(students.csv_folder(given, Path(temporary)), Path(temporary))
        own = {name: getattr(given, name) for name in ("config", "fold", "epochs", "threads")}
        found = []
        for layout in LAYOUTS:
            found.append(apart("layouts", "train", layout=layout, data=str(data), **own))
            say(f"{layout}: validation AUC {found[-1]['val_auc']:.6f}")
    for layout, figures in zip(LAYOUTS, found, strict=True):
        table.add(
            layout=layout,
            train_loss=f"{figures['train_loss']:.6f}",
            validation_loss=f"{figures['val_loss']:.6f}",
            AUC=f"{figures['val_auc']:.6f}",
            difference=f"{figures['val_auc'] - found[0]['val_auc']:+.1e}",
            accuracy=f"{figures['val_accuracy']:.6f}",
            CPU_s=figures["seconds"],
        )
    table.print(given.json)


if __name__ == "__main__":
    main()
