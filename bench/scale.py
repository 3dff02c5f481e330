"""Seconds and memory of each stage from students to metrics, at growing numbers of interactions.

    python bench/scale.py [--interactions 700000 7000000 70000000] [--rounds 3] [--work FOLDER]
        [--stages simulate arrays open batches score metrics] [--run RUN] [--keep]

What is measured: simulating the students, making their training arrays, opening the data set, an
epoch's batches without a model, `gainakt score` and the metrics of its predictions. Every stage
runs in a process of its own, on one thread; processor seconds and peak memory are the system's
account of that process. The table shows medians over the rounds; "s a million" is what each million
interactions beyond the size before took, the same at every size where time is linear.

FOLDER takes the data (about 15 bytes an interaction, and 10 more of predictions), by default one
that is removed. RUN scores; by default one is trained, for one epoch on 300 students: only its
speed counts here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import MIB, Table, header, median, say

SKILLS = 100
# what the simulator gives a student on average
PER_STUDENT = 40.3

# making the arrays is the second half of preparing; here apart, from a table that was touched
ARRAYS = """
import os
from gainakt.data.interactions import load_dataset
os.utime(sys.argv[1] + "/interactions.parquet")
note(interactions=len(load_dataset(sys.argv[1]).skills))
"""
OPEN = """
from gainakt.data.interactions import load_dataset
data = load_dataset(sys.argv[1])
note(interactions=len(data.rows), students=len(data.student_ids), last=data.student_ids[-1])
"""
# one epoch's batches of training students, as the loop draws them, without a model
BATCHES = """
from gainakt.data.batches import training_batches
from gainakt.data.sequences import chunk_sequences
from gainakt.data.interactions import load_dataset
data = load_dataset(sys.argv[1])
sequences = chunk_sequences(data, data.students("train", 0), 200)
targets = sum(int(b.has_next.sum()) for b in training_batches(sequences, 128, 42, 1))
note(targets=targets, sequences=len(sequences))
"""
METRICS = """
import numpy as np
import pyarrow.parquet as pq
from gainakt.evaluation.metrics import RunningMetrics
running = RunningMetrics()
file = pq.ParquetFile(sys.argv[2])
for group in range(file.num_row_groups):
    table = file.read_row_group(group, columns=["answer", "probability"])
    answer, p = (column.to_numpy() for column in table.columns)
    logit = np.log(p, dtype=np.float64) - np.log1p(-p, dtype=np.float64)
    running.add(answer, logit.astype(np.float32), p)
note(targets=running.targets, exact=running.auc.exact, **running.values())
"""
# histories long enough to meet every skill
FEW = f"""
import sys
from gainakt.data.simulate import simulate
simulate(sys.argv[1], students=300, skills={SKILLS}, mean_length=400, seed=2)
"""
STAGES = ("simulate", "arrays", "open", "batches", "score", "metrics")
PRELUDE = "import json, sys\ndef note(**found): print(json.dumps(found))\n"


def measured(words: list[str]) -> dict[str, float]:
    """Run a command; return its processor seconds and its peak memory in bytes.

    Raises:
        SystemExit: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(words)}")
    say(f"  {printed.strip().splitlines()[-1][:200]}")
    return {
        "seconds": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def command(stage: str, data: Path, predictions: Path, run: Path, interactions: int) -> list[str]:
    """Return the command of a stage."""
    gainakt = [sys.executable, "-m", "gainakt"]
    python = [sys.executable, "-c"]
    students = round(interactions / PER_STUDENT)
    return {
        "simulate": [*gainakt, "simulate", f"--out={data}", f"--students={students}"]
        + [f"--skills={SKILLS}", "--seed=1", "--json"],
        "arrays": [*python, PRELUDE + ARRAYS, str(data)],
        "open": [*python, PRELUDE + OPEN, str(data)],
        "batches": [*python, PRELUDE + BATCHES, str(data)],
        "score": [*gainakt, "score", str(run), f"--data={data}", f"--out={predictions}", "--json"],
        "metrics": [*python, PRELUDE + METRICS, str(data), str(predictions)],
    }[stage]


def trained(work: Path) -> Path:
    """Return a run of the small GainSum, trained for one epoch on simulated students."""
    say("training the model that scores")
    few, runs = work / "few", work / "runs"
    for words in (
        ["-c", FEW, str(few)],
        ["-m", "gainakt", "train", "--config=gainsum", f"--data={few}", f"--out={runs}"]
        + ["--epochs=1", "--threads=1", "--no-report", "--quiet"],
    ):
        # apart, or this process's own memory would be counted to those that it starts
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    (run,) = runs.iterdir()
    return run


def measure(given: argparse.Namespace, work: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return for each stage and number of interactions the medians over the rounds."""
    run = given.run or (trained(work) if "score" in given.stages else Path())
    found = {}
    for interactions in given.interactions:
        data = work / f"simulated_{interactions}"
        predictions = work / f"predictions_{interactions}.parquet"
        for stage in given.stages:
            say(f"{interactions:,} interactions: {stage}")
            rounds: list[dict[str, float]] = []
            for _ in range(given.rounds):
                if stage == "simulate":
                    shutil.rmtree(data, ignore_errors=True)
                if stage == "score":
                    predictions.unlink(missing_ok=True)
                rounds.append(measured(command(stage, data, predictions, run, interactions)))
            found[stage, interactions] = {
                name: median(one[name] for one in rounds) for name in rounds[0]
            }
        if not given.keep:
            shutil.rmtree(data, ignore_errors=True)
            predictions.unlink(missing_ok=True)
    return found


def report(given: argparse.Namespace, found: dict[tuple[str, int], dict[str, float]]) -> Table:
    """Return the table, with ratios to the smallest number of interactions."""
    columns = ["stage", "interactions", "CPU s", "s a million", "peak MiB", "memory ratio"]
    table = Table("From students to metrics, at growing numbers of interactions", columns, header())
    table.header["threads"] = f"1; {given.rounds} rounds, medians"
    for stage in given.stages:
        before: dict[str, float] = {"seconds": 0.0, "interactions": 0.0}
        for interactions in given.interactions:
            cells = found[stage, interactions]
            more = (interactions - before["interactions"]) / 1e6
            table.add(
                stage=stage,
                interactions=f"{interactions:,}",
                CPU_s=cells["seconds"],
                s_a_million=(cells["seconds"] - before["seconds"]) / more,
                peak_MiB=cells["peak"] / MIB,
                memory_ratio=cells["peak"] / found[stage, given.interactions[0]]["peak"],
            )
            before = cells | {"interactions": interactions}
    table.notes = [
        "seconds a million are those of the interactions beyond the size before; the first size "
        "pays for the start of Python and torch",
        "peak memory counts pages of mapped files, which the system takes back when it needs them",
    ]
    return table


def main() -> None:
    """Measure the stages that are asked for, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="experiment folder of a run on 100 skills")
    parser.add_argument("--work", type=Path, help="folder for data and predictions")
    parser.add_argument("--interactions", type=int, nargs="+", default=[700_000, 7_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--keep", action="store_true", help="keep the data")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = measure(given, work)
    report(given, found).print(given.json)


if __name__ == "__main__":
    main()
