"""Seconds and memory of each stage from students to metrics, at growing numbers of interactions.

    python bench/scale.py --run RUN --work FOLDER [--interactions 700000 7000000 70000000]
        [--stages simulate arrays open batches score metrics] [--keep]

RUN is a trained run on 100 simulated skills; FOLDER takes the data (about 15 bytes an interaction,
and 10 more of predictions). Every stage runs in a process of its own, on one thread; processor
seconds and peak memory are the system's account of that process. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
note(interactions=len(data.skills), students=len(data.student_ids), last=data.student_ids[-1])
"""
# one epoch's batches of training students, as the loop draws them, without a model
BATCHES = """
from gainakt.data.batches import chunk_sequences, training_batches
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
PRELUDE = "import json, sys\ndef note(**found): print(json.dumps(found))\n"


def measured(words: list[str]) -> dict[str, Any]:
    """Run a command; return its seconds, peak memory and what it printed as JSON."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(words)}")
    return {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "found": json.loads(printed),
    }


def command(stage: str, data: Path, predictions: Path, run: str, interactions: int) -> list[str]:
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
        "score": [*gainakt, "score", run, f"--data={data}", f"--out={predictions}", "--json"],
        "metrics": [*python, PRELUDE + METRICS, str(data), str(predictions)],
    }[stage]


def main() -> None:
    """Measure the stages that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="", help="experiment folder of a trained run")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and predictions")
    parser.add_argument("--interactions", type=int, nargs="+", default=[700_000, 7_000_000])
    stages = ["simulate", "arrays", "open", "batches", "score", "metrics"]
    parser.add_argument("--stages", nargs="+", default=stages, choices=stages)
    parser.add_argument("--keep", action="store_true", help="keep the data")
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread")
    print("| interactions | stage | wall s | CPU s | peak MiB | interactions / CPU s | found |")
    print("|---|---|---|---|---|---|---|")
    for interactions in given.interactions:
        data = given.work / f"simulated_{interactions}"
        predictions = given.work / f"predictions_{interactions}.parquet"
        for stage in given.stages:
            if stage == "simulate":
                shutil.rmtree(data, ignore_errors=True)
            if stage == "score":
                predictions.unlink(missing_ok=True)
            row = measured(command(stage, data, predictions, given.run, interactions))
            kept = {
                k: v
                for k, v in row["found"].items()
                if isinstance(v, int | float) and k != "format_version"
            }
            print(
                f"| {interactions:,} | {stage} | {row['wall']:.1f} | {row['cpu']:.1f} "
                f"| {row['peak'] / 2**20:,.0f} | {interactions / row['cpu']:,.0f} | {kept} |",
                flush=True,
            )
        if not given.keep:
            shutil.rmtree(data, ignore_errors=True)
            predictions.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
