"""Seconds an epoch takes on a GPU: plain steps, recorded steps, and recorded steps compiled.

    python bench/gpu.py [--data FOLDER] [--configs assist2015 gainsum_assist2015] [--epochs 5]

What is measured: an epoch of optimiser steps with its validation, in wall seconds, for each way of
carrying steps out. Every way is a process of its own and trains the same model from the same seed.
What is paid once (kernels chosen, recordings, compiling) is the first epoch less the median of the
others, and stands apart; "s to best" are those medians up to the epoch with the best validation
AUC. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import students
from measuring import MIB, Table, TrainerWatch, apart, header, median, say

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"cuda_graphs": "off"},
    "recorded": {"compile": "off"},
    "recorded, bf16": {"compile": "off", "use_amp": True},
    "compiled, bf16": {"compile": "on", "use_amp": True},
}


def train(config: str, way: str, data: str, epochs: int, fold: int) -> dict[str, Any]:
    """Train in one way; return the seconds of each epoch, the path taken and the best figures.

    Args:
        config: a configuration by name or file; its teachers are left out.
        way: one of WAYS.
        data: a prepared data set.
        epochs, fold: as in the configuration.
    """
    from gainakt.config import load_config
    from gainakt.data.interactions import load_dataset
    from gainakt.experiment.learning import Learning
    from gainakt.machine import prepare_machine

    settings = {"epochs": epochs, "fold": fold, "devices": "cuda", "monitor_freq": 10**9}
    loaded = load_config(config, settings | {"teachers": 0} | WAYS[way])
    trainer = Learning.of(loaded, load_dataset(data)).trainer(
        loaded, prepare_machine(*loaded.machine)
    )
    trainer.run(TrainerWatch())
    best = trainer.history.best
    assert best is not None
    return {
        "seconds": trainer.history.seconds,
        "backend": trainer.backend,
        "steps": trainer.steps_per_epoch,
        "best_epoch": best["epoch"],
        "val_auc": best["val_auc"],
    }


def main() -> None:
    """Measure every way for every configuration, and print."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students.add_options(parser)
    parser.add_argument("--configs", nargs="+", default=["assist2015", "gainsum_assist2015"])
    parser.add_argument("--epochs", type=int, default=5, help="at least 4: the first is apart")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("this machine has no GPU that torch can use: nothing is measured")
        return
    columns = ["configuration", "way", "steps", "paid once s", "epoch s", "spread", "ms a step"]
    columns += ["s to best", "best AUC", "GPU MiB", "ratio"]
    table = Table("Epochs on a GPU, validation included", columns, header())
    table.header["students"] = students.described(given)
    with tempfile.TemporaryDirectory() as temporary:
        data = students.prepared(students.csv_folder(given, Path(temporary)), Path(temporary))
        common = {"data": str(data), "epochs": max(4, given.epochs), "fold": given.fold}
        for config in given.configs:
            plain = None
            for way in WAYS:
                say(f"{config}, {way}")
                answer = apart("gpu", "train", config=config, way=way, **common)
                first, *others = answer["seconds"]
                epoch = median(others)
                plain = plain or epoch
                table.add(
                    configuration=config,
                    way=way,
                    steps=answer["path"],
                    paid_once_s=first - epoch,
                    epoch_s=epoch,
                    spread=max(others) - min(others),
                    ms_a_step=1000 * epoch / answer["steps"],
                    s_to_best=epoch * answer["best_epoch"],
                    best_AUC=f"{answer['val_auc']:.4f}",
                    GPU_MiB=answer["peak_gpu_memory"] / MIB,
                    ratio=plain / epoch,
                )
    table.notes = ["the ratio is that of plain steps to this way: above 1, this way needs less"]
    table.print(given.json)


if __name__ == "__main__":
    main()
