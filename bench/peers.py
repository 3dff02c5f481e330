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

With `--steps N`, N steps after one of warm-up are scaled to the epoch; akt is always
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

import students
from measuring import BENCH, MIB, Table, TrainerWatch, apart, header, median, say

PYKT = "0.0.38"
# pyKT names pandas, scikit-learn and wandb as well; it imports the last only for its sweeps
PYKT_NEEDS = ("numpy", "pandas", "scikit-learn")
OURS = "gainsum"
THEIRS = ("dkt", "sakt", "akt_1_block", "akt")
ALWAYS_IN_PART = {"akt_1_block": 3, "akt": 2}


class Skipped(Exception):
    """There is nothing to compare with here; the message says why."""


def train_ours(
    config: str, data: str, fold: int, threads: int, epochs: int, target: float | None
) -> dict[str, Any]:
    """Train our model by our loop and time the training part and the validation of each epoch.

    Args:
        config: a configuration by name or file.
        data: a prepared data set.
        fold, threads, epochs, target: as in `peers_pykt.train`.
    """
    from gainakt.config import load_config
    from gainakt.data.interactions import load_dataset
    from gainakt.experiment.learning import Learning
    from gainakt.machine import prepare_machine

    overrides = {"teachers": 0, "threads": threads, "fold": fold, "monitor_freq": 1}
    settings = load_config(config, overrides)
    device = prepare_machine(*settings.machine)
    trainer = Learning.of(settings, load_dataset(data)).trainer(settings, device)
    watch = TrainerWatch()

    def enough() -> bool:
        # asked after every step: the first step of an epoch too many is not counted
        reached = target is not None and any(e["val_auc"] >= target for e in watch.epochs)
        return reached or len(watch.epochs) >= epochs

    trainer.run(watch, enough)
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "batch_size": settings.training.batch_size,
        "steps": trainer.steps_per_epoch,
        "measured_steps": trainer.steps_per_epoch,
        "epochs": watch.epochs,
    }


def pykt_environment() -> Path:
    """Return the interpreter of an environment with pyKT and our version of torch; made once.

    Raises:
        Skipped: pip could not install them.
    """
    torch = version("torch").split("+")[0]
    folder = BENCH / ".venvs" / f"pykt-{PYKT}-torch-{torch}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        say(f"making {folder} (once)")
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pins = f"--constraint={BENCH.parent / 'constraints.txt'}"
        for words in (
            [pins, f"torch=={torch}", *PYKT_NEEDS],
            ["--no-deps", f"pykt-toolkit=={PYKT}"],
        ):
            if subprocess.run([*install, *words], check=False, stdout=sys.stderr).returncode != 0:
                raise Skipped(f"pip could not install {' '.join(words)}")
        ready.touch()
    return python


def measure(
    given: argparse.Namespace, python: Path, temporary: Path
) -> dict[str, list[dict[str, Any]]]:
    """Run every system in turn, `--rounds` times; return the answers of each by its name."""
    csv = students.csv_folder(given, temporary)
    prepared = students.prepared(csv, temporary)
    (temporary / "cut").mkdir()
    data_config = apart(
        "peers_pykt", "cut", python=python, data=str(csv), out=str(temporary / "cut")
    )
    apart("peers_pykt", "load", python=python, data_config=data_config, fold=given.fold)
    common = {
        "fold": given.fold,
        "threads": given.threads,
        "epochs": given.epochs,
        "target": given.target,
    }
    answers: dict[str, list[dict[str, Any]]] = {}
    for number in range(1, given.rounds + 1):
        for name in (OURS, *given.models):
            if name == OURS:
                own = {"config": given.config, "data": str(prepared)}
                answer = apart("peers", "train_ours", **own, **common)
            else:
                steps = given.steps or ALWAYS_IN_PART.get(name)
                own = {"model": name, "data_config": data_config, "steps": steps}
                answer = apart("peers_pykt", "train", python=python, **own, **common)
            answers.setdefault(name, []).append(answer)
            took = answer["epochs"][-1]["training"]
            say(f"round {number}, {name}: {took['cpu']:.1f} CPU s, {took['wall']:.1f} s an epoch")
    return answers


def to_target(epochs: list[dict[str, Any]], target: float) -> tuple[int, float] | None:
    """Return after how many epochs and CPU seconds, validation included, the AUC was reached."""
    spent = 0.0
    for number, epoch in enumerate(epochs, start=1):
        spent += epoch["training"]["cpu"] + epoch["validation"]["cpu"]
        if epoch["val_auc"] is not None and epoch["val_auc"] >= target:
            return number, spent
    return None


def summary(answers: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """Medians over rounds and their epochs, as cells of the table."""
    epochs = [epoch for answer in answers for epoch in answer["epochs"]]
    first = answers[0]
    cells: dict[str, Any] = {
        "parameters": f"{first['parameters']:,}",
        "batch": first["batch_size"],
        "steps_measured": f"{first['measured_steps']} of {first['steps']}",
        "epoch_CPU_s": median(epoch["training"]["cpu"] for epoch in epochs),
        "epoch_s": median(epoch["training"]["wall"] for epoch in epochs),
        "valid_CPU_s": median(epoch["validation"]["cpu"] for epoch in epochs),
        "peak_MiB": median(answer["peak_memory"] for answer in answers) / MIB,
    }
    reached = [r for answer in answers if (r := to_target(answer["epochs"], target))]
    known = [epoch["val_auc"] for epoch in epochs if epoch["val_auc"] is not None]
    if reached and len(reached) == len(answers):
        cells["epochs_to_AUC"] = median(number for number, _ in reached)
        cells["CPU_s_to_AUC"] = median(seconds for _, seconds in reached)
    elif known:
        cells["epochs_to_AUC"] = f"none: {max(known):.4f}"
    return cells


def report(given: argparse.Namespace, answers: dict[str, list[dict[str, Any]]]) -> Table:
    """Return the table: our row first, and what each of theirs takes times as much."""
    columns = "system, parameters, batch, steps measured, epoch CPU s, epoch s, valid CPU s"
    more = "peak MiB, epochs to AUC, CPU s to AUC, CPU ratio, wall ratio, memory ratio"
    table = Table("One training epoch, ours and pyKT's", f"{columns}, {more}".split(", "), header())
    table.header["students"] = students.described(given)
    table.header["threads"] = f"{given.threads}; {given.rounds} rounds, medians"
    ours = summary(answers[OURS], given.target)
    table.add(system=f"{OURS} (ours)", **ours)
    for name in given.models:
        theirs = summary(answers[name], given.target)
        ratios = {
            ratio: theirs[cell] / ours[cell]
            for ratio, cell in (
                ("CPU_ratio", "epoch_CPU_s"),
                ("wall_ratio", "epoch_s"),
                ("memory_ratio", "peak_MiB"),
            )
        }
        table.add(system=f"pyKT {name}", **theirs, **ratios)
    table.notes = [
        f"pykt-toolkit {PYKT}; ratios are theirs to ours: above 1, ours needs less",
        "an epoch is its optimiser steps; the validation pass with its metrics stands apart",
        "where fewer steps were measured than there are, their mean is scaled to the epoch",
        f"to validation AUC {given.target} with validation passes; {given.epochs} epochs at most",
    ]
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students.add_options(parser)
    parser.add_argument("--config", default="gainsum_assist2015", help="of our model")
    parser.add_argument("--models", nargs="+", choices=THEIRS, default=THEIRS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="steps of theirs to scale to the epoch")
    parser.add_argument("--epochs", type=int, default=3, help="at most")
    parser.add_argument("--target", type=float, default=0.72, help="validation AUC to stop at")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.steps is not None or given.data is None:
        given.epochs = 1
    try:
        python = pykt_environment()
    except Skipped as reason:
        print(f"ours beside pyKT's: skipped, {reason}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        answers = measure(given, python, Path(temporary))
    report(given, answers).print(given.json)


if __name__ == "__main__":
    main()
