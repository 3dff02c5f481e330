"""How long one answer of one student takes, and that a session says what a batch says.

    python bench/session.py [--rounds 3] [--steps 200]
    python bench/session.py --students 1000 --data DIR RUN [RUN ...]

The first form measures models with initial weights on one core, at a history of 200 answers:
`observe + predict` of the next answer, the mastery of all skills, and, to compare with, one
prediction by reading the same past again. The second compares every prediction of trained models,
session against batch, in float32 and in float64, and prints the largest difference; its exit code
is 1 where a float64 difference is over 1e-6.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

import gainakt
from gainakt.config import load_config
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.data.rows import ORDER, asked_next
from gainakt.data.sequences import context_start
from gainakt.data.vocabulary import Vocabulary
from gainakt.models import build_model
from gainakt.models.interface import RecomputedState
from gainakt.record.checkpoint import Checkpoint
from gainakt.record.provenance import environment
from gainakt.tracer import Tracer

HISTORY = 200
# name, configuration, skills of the data it is for
MODELS = (
    ("gainsum, quickstart size", "gainsum", 20),
    ("gainsum, ASSISTments 2015 size", "gainsum_assist2015", 100),
    ("gainakt2exp, seed size", "assist2015", 100),
)


class Times(NamedTuple):
    """Milliseconds: wall time of the median and of the slowest hundredth, processor time."""

    p50: float
    p99: float
    processor: float


def measure(act: Callable[[int], object], steps: int) -> Times:
    """Time `act` on each of `steps` steps."""
    wall, processor = [], []
    for step in range(steps):
        begin, begin_processor = time.perf_counter(), time.thread_time()
        act(step)
        wall.append(time.perf_counter() - begin)
        processor.append(time.thread_time() - begin_processor)
    scale = 1000.0
    return Times(
        float(np.percentile(wall, 50)) * scale,
        float(np.percentile(wall, 99)) * scale,
        float(np.percentile(processor, 50)) * scale,
    )


def untrained(config_name: str, n_skills: int) -> Tracer:
    """A tracer with initial weights: they take as long as trained ones."""
    config = load_config(config_name, {"devices": "cpu"})
    vocabulary = Vocabulary(tuple(f"k{skill}" for skill in range(n_skills)))
    weights = build_model(config, vocabulary).state_dict()
    return Tracer(Checkpoint(config, vocabulary, 0, weights), device="cpu")


def one_round(tracer: Tracer, steps: int, seed: int) -> dict[str, Times]:
    """Times of the three acts after `HISTORY` answers."""
    rng = np.random.default_rng(seed)
    n = HISTORY + steps
    skills, answers = rng.integers(len(tracer.skills), size=n), rng.integers(2, size=n)
    session = tracer.session()
    with torch.inference_mode():
        session.state.extend(skills[:HISTORY], answers[:HISTORY])

    def predict_and_observe(step: int) -> None:
        skill = tracer.skills[skills[HISTORY + step]]
        session.predict(skill)
        session.observe(skill, answers[HISTORY + step])

    again = RecomputedState(tracer.model)
    window = context_start(
        HISTORY, tracer.config.model.seq_len, tracer.config.evaluation.window_stride
    )
    again.extend(skills[window:HISTORY], answers[window:HISTORY])

    def recompute(step: int) -> None:
        with torch.inference_mode():
            again.logits(asked_next([int(skills[HISTORY + step])])).sigmoid().item()

    return {
        "observe + predict": measure(predict_and_observe, steps),
        "mastery of all skills": measure(lambda _: session.mastery(), max(10, steps // 4)),
        "predict by a new reading": measure(recompute, max(10, steps // 4)),
    }


def report_times(rounds: int, steps: int) -> None:
    """Print the table of times, medians over the rounds."""
    torch.set_num_threads(1)
    rows = []
    for title, config_name, n_skills in MODELS:
        tracer = untrained(config_name, n_skills)
        one_round(tracer, 10, seed=0)
        found = [one_round(tracer, steps, seed) for seed in range(1, rounds + 1)]
        median = {
            act: Times(*(statistics.median(column) for column in zip(*times, strict=True)))
            for act in found[0]
            for times in [[of_round[act] for of_round in found]]
        }
        again = median["predict by a new reading"].processor
        for act, times in median.items():
            ratio = again / times.processor
            rows.append(
                f"| {title} | {act} | {times.p50:.2f} | {times.p99:.2f} | {times.processor:.2f} "
                f"| {ratio:.1f} |"
            )
    print(f"History of {HISTORY} answers, {steps} steps, median of {rounds} rounds, one thread.\n")
    print("| model | what | p50 ms | p99 ms | processor p50 ms | times faster than a new reading |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


def table_of(dataset: Dataset, students: int) -> pl.DataFrame:
    """The answers of the first students of a data set."""
    end = int(dataset.offsets[min(students, len(dataset.student_ids))])
    lengths = np.diff(dataset.offsets)
    names = np.repeat(np.arange(len(lengths)), lengths)[:end]
    order = dataset.column(ORDER)[:end]
    return pl.DataFrame(
        {
            "student": [dataset.student_ids[student] for student in names],
            "skill": [dataset.skill_ids[code] for code in dataset.rows.skill[:end]],
            "correct": dataset.rows.response[:end],
            "order": order,
            "question": order,
        }
    )


def largest_difference(tracer: Tracer, table: pl.DataFrame) -> tuple[float, int]:
    """Session against batch, in probability: the largest difference, and predictions compared."""
    largest, count = 0.0, 0
    predicted = tracer.predict(table, question="question")
    for rows in predicted.partition_by("student", maintain_order=True):
        session = tracer.session()
        for skill, correct, probability in rows.select(
            "skill", "correct", "probability"
        ).iter_rows():
            if probability is not None:
                largest = max(largest, abs(session.predict(skill) - probability))
                count += 1
            session.observe(skill, correct)
    return largest, count


def report_differences(runs: list[str], data: Path, students: int) -> bool:
    """Print the table of differences; return whether float64 keeps to 1e-6."""
    table = table_of(load_dataset(data), students)
    longest = int(table.group_by("student").len()["len"].max())  # type: ignore[arg-type]
    print(f"{table['student'].n_unique()} students of {data}, longest history {longest}.\n")
    print("| run | seq_len | numbers | predictions | largest difference |")
    print("|---|---|---|---|---|")
    good = True
    for run in runs:
        for exact in (False, True):
            tracer = gainakt.load(run, exact=exact, device="cpu")
            largest, count = largest_difference(tracer, table)
            numbers = "float64" if exact else "float32"
            print(
                f"| {Path(run).name} | {tracer.config.model.seq_len} | {numbers} | {count} "
                f"| {largest:.1e} |",
                flush=True,
            )
            good &= not exact or largest <= 1e-6
    return good


def main() -> None:
    """Read the command line and print the table it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="runs to compare session and batch on")
    parser.add_argument("--data", type=Path, help="prepared data set with their skills")
    parser.add_argument("--students", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    chosen = parser.parse_args()
    if bool(chosen.runs) != (chosen.data is not None):
        parser.error("runs and --data go together")
    about = environment(load_config(None), torch.device("cpu"))
    commit = (about["git"]["commit"] or "unknown")[:12] + "+" * bool(about["git"]["dirty"])
    print(
        f"{about['processor']}, {about['cores']} cores; Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}, gainakt {commit}, "
        f"load average {os.getloadavg()[0]:.1f}\n"
    )
    if chosen.runs:
        sys.exit(not report_differences(chosen.runs, chosen.data, chosen.students))
    report_times(chosen.rounds, chosen.steps)


if __name__ == "__main__":
    main()
