"""Our GainAKT2Exp beside the shape of computation that it was first implemented in.

    python bench/reference.py [--data FOLDER] [--steps N] [--sample M]

What is measured: one epoch of the configuration `tolerance_test` (the full model, batches of 32)
with its validation: the same students in the same batches, the same loss terms, the same number of
optimiser steps. The reference (`reference_gainakt2exp.py`) pads every sequence to 200, sums up
mastery in a loop over time, copies loss and predictions to the host after every batch, and passes
four times over the validation students; ours is what `gainakt train` does, with its one pass. On a
CPU, N steps after one of warm-up and M validation students are scaled to the whole; on a GPU the
whole epoch runs. Every measurement is a process of its own, ours and theirs in turn; the table
shows medians over the rounds, and ratios of the reference to ours. That both compute the same
logits, mastery, gains and loss is checked in tests/project/test_bench.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import students
from measuring import MIB, Instant, Table, TrainerWatch, apart, header, median, say, whole_pass

CONFIG = "tolerance_test"


def train_ours(**setting: Any) -> dict[str, Any]:
    """Train and validate by our loop; the arguments are those of `Piece.of`."""
    from pieces import Piece

    piece = Piece.of(CONFIG, **setting)
    watch = TrainerWatch(setting["steps"] and piece.epoch_steps, piece.scale)
    piece.trainer().run(watch)
    return watch.epochs[0] | {"steps": piece.epoch_steps}


def train_reference(**setting: Any) -> dict[str, Any]:
    """Train and validate the reference; the arguments are those of `Piece.of`."""
    from pieces import Piece
    from reference_gainakt2exp import VALIDATION_PASSES, ReferenceTraining

    piece = Piece.of(CONFIG, **setting)
    epoch = ReferenceTraining(piece.config, piece.vocabulary.n_skills, piece.device)
    instants = [Instant.now()]
    for batch in epoch.training_batches(piece.training):
        epoch.step(batch)
        instants.append(Instant.now())
    for _ in range(VALIDATION_PASSES):
        epoch.validate(piece.validation)
    validated = Instant.now().since(instants[-1])
    return {
        "training": whole_pass(instants, setting["steps"] and piece.epoch_steps),
        "validation": {name: seconds * piece.sequence_scale for name, seconds in validated.items()},
        "steps": piece.epoch_steps,
    }


SYSTEMS = {"reference": "train_reference", "gainakt2exp (ours)": "train_ours"}


def measure(given: argparse.Namespace, temporary: Path) -> dict[str, list[dict[str, Any]]]:
    """Run both in turn, `--rounds` times; return the answers of each."""
    data = students.prepared(students.csv_folder(given, temporary), temporary)
    setting = {
        "data": str(data),
        "fold": given.fold,
        "threads": given.threads,
        "steps": given.steps or None,
        "sample": given.sample or None,
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
    for number in range(1, given.rounds + 1):
        for name, function in SYSTEMS.items():
            answer = apart("reference", function, **setting)
            answers[name].append(answer)
            took = answer["training"]
            say(f"round {number}, {name}: {took['cpu']:.1f} CPU s, {took['wall']:.1f} s an epoch")
    return answers


def summary(answers: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds, as cells of the table."""
    cells = {}
    for clock, unit in (("cpu", "CPU_s"), ("wall", "s")):
        training = median(answer["training"][clock] for answer in answers)
        validation = median(answer["validation"][clock] for answer in answers)
        cells[f"training_{unit}"] = training
        cells[f"validation_{unit}"] = validation
        cells[f"epoch_{unit}"] = training + validation
    cells["step_ms"] = 1000 * cells["training_s"] / answers[0]["steps"]
    cells["peak_MiB"] = median(answer["peak_memory"] for answer in answers) / MIB
    if "peak_gpu_memory" in answers[0]:
        cells["GPU_MiB"] = median(answer["peak_gpu_memory"] for answer in answers) / MIB
    return cells


def report(given: argparse.Namespace, answers: dict[str, list[dict[str, Any]]]) -> Table:
    """Return the table; the epoch is training and validation."""
    columns = ["system", "step ms", "training CPU s", "validation CPU s", "epoch CPU s"]
    columns += ["epoch s", "peak MiB", "GPU MiB", "CPU ratio", "wall ratio", "memory ratio"]
    table = Table("One epoch of GainAKT2Exp, ours and as first implemented", columns, header())
    table.header["students"] = students.described(given)
    table.header["threads"] = f"{given.threads}; {given.rounds} rounds, medians"
    theirs, ours = (summary(answers[name]) for name in SYSTEMS)
    table.add(system="reference", **theirs)
    table.add(
        system="gainakt2exp (ours)",
        **ours,
        CPU_ratio=theirs["epoch_CPU_s"] / ours["epoch_CPU_s"],
        wall_ratio=theirs["epoch_s"] / ours["epoch_s"],
        memory_ratio=theirs["peak_MiB"] / ours["peak_MiB"],
    )
    steps = answers["reference"][0]["steps"]
    measured = f"{given.steps} steps after one of warm-up" if given.steps else "every step"
    read = f"{given.sample} validation sequences" if given.sample else "all validation students"
    table.notes = [
        "ratios are the reference's to ours: above 1, ours needs less",
        f"{measured} and {read} were measured; an epoch is {steps} steps and the validation",
        "the reference passes four times over the validation students, ours once",
    ]
    return table


def main() -> None:
    """Measure and print."""
    import torch

    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students.add_options(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=0 if on_gpu else 4, help="to measure; 0: the whole epoch"
    )
    parser.add_argument(
        "--sample", type=int, default=0 if on_gpu else 64, help="validation sequences; 0: all"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        answers = measure(given, Path(temporary))
    report(given, answers).print(given.json)


if __name__ == "__main__":
    main()
