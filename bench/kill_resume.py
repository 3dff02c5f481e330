"""Kill a run with SIGKILL at random moments, resume it, and compare with one never interrupted.

    python bench/kill_resume.py [--kills 25] [--seed 0]

A third of the kills wait for a checkpoint that is just being written, a third for the validation
after an epoch's last batch, and a third come at any moment. Prints one row a kill and exits with 1
when any resumed run differs in a bit of metrics_epoch.csv, the weights, or the final metrics.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

TRAIN = (
    *("--epochs=4", "--batch_size=16", "--seq_len=40", "--d_model=32", "--n_heads=2"),
    *("--num_encoder_blocks=1", "--d_ff=64", "--threads=1", "--monitor_freq=1"),
    *("--warmup_constraint_epochs=1", "--alignment_warmup_epochs=1", "--weight_average=0.9"),
    *("--bootstrap_samples=100", "--devices=cpu"),
)


def gainakt(*words: str) -> subprocess.Popen[bytes]:
    """Start a command of the package, its output thrown away."""
    return subprocess.Popen(
        [sys.executable, "-m", "gainakt", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def train(data: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a training run."""
    return gainakt("train", f"--data={data}", f"--out={out}", *TRAIN)


def wait_for_folder(out: Path, process: subprocess.Popen[bytes]) -> Path:
    """Return the run's folder once the last file before training is there: data.json."""
    while process.poll() is None:
        for found in out.glob("*/data.json"):
            return found.parent
        time.sleep(0.002)
    raise SystemExit(f"the run ended with {process.returncode} before it began")


def at_random(folder: Path, seconds: float, rng: random.Random) -> Callable[[], bool]:
    """A moment at random before the run's last tenth, when it may be over already."""
    moment = time.monotonic() + rng.uniform(0, 0.9 * seconds)
    return lambda: time.monotonic() >= moment


def while_writing(folder: Path, seconds: float, rng: random.Random) -> Callable[[], bool]:
    """The moment when one of the next files is half-way to its name."""
    skip = rng.randrange(24)  # four epochs write six files each
    seen: set[tuple[str, int]] = set()

    def now() -> bool:
        for path in folder.glob("*.writing"):
            try:
                seen.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        return len(seen) > skip

    return now


def while_validating(folder: Path, seconds: float, rng: random.Random) -> Callable[[], bool]:
    """Just after the last batch of an epoch, while the validation students are read."""
    epoch = rng.randint(1, 4)

    def now() -> bool:
        lines = (folder / "stdout.log").read_text(encoding="utf-8").splitlines()
        for line in lines:
            words = line.split()
            if line.startswith(f"epoch {epoch}/") and words[2] == "batch":
                step, steps = words[3].split("/")
                if step == steps:
                    return True
        return False

    return now


MOMENTS = {"random": at_random, "writing": while_writing, "validating": while_validating}


def fingerprint(folder: Path) -> dict[str, object]:
    """Everything of a finished run that must not differ in a bit."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    weights = {
        name: {k: v.numpy().tobytes() for k, v in load_file(folder / name).items()}
        for name in ("model_best.safetensors", "model_last.safetensors")
    }
    return {
        "metrics_epoch.csv": (folder / "metrics_epoch.csv").read_bytes(),
        "trajectory.json": (folder / "trajectory.json").read_bytes(),
        "weights": weights,
        "final metrics": results["consistency"],
        "status": results["status"],
    }


def kill_and_resume(
    data: Path, out: Path, moment: str, seconds: float, rng: random.Random
) -> tuple[Path, str]:
    """Kill one run and resume it to its end; return its folder and where it went on."""
    process = train(data, out)
    folder = wait_for_folder(out, process)
    due = MOMENTS[moment](folder, seconds, rng)
    while process.poll() is None and not due():
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if gainakt("resume", str(folder)).wait() != 0:
        raise SystemExit(f"{folder} could not be resumed")
    resumed = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    where = [entry["at"] for entry in resumed.get("resumed", [])]
    return folder, where[0] if where else "it had finished"


def main() -> None:
    """Run the harness."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = root / "data"
        if gainakt("simulate", f"--out={data}", "--students=150", "--skills=6").wait() != 0:
            raise SystemExit("the data could not be simulated")
        process = train(data, root / "whole")
        whole = wait_for_folder(root / "whole", process)
        began = time.monotonic()
        if process.wait() != 0:
            raise SystemExit("the uninterrupted run failed")
        seconds = time.monotonic() - began
        expected = fingerprint(whole)
        print(f"uninterrupted: {seconds:.1f} s; torch {torch.__version__}", flush=True)
        print(f"{'kill':>4}  {'moment':10}  {'differs in':24}  went on at")
        failures = 0
        for number in range(given.kills):
            moment = list(MOMENTS)[number % len(MOMENTS)]
            folder, where = kill_and_resume(data, root / f"run{number}", moment, seconds, rng)
            actual = fingerprint(folder)
            differing = [name for name in expected if actual[name] != expected[name]]
            failures += bool(differing)
            print(
                f"{number + 1:4}  {moment:10}  {', '.join(differing) or 'nothing':24}  {where}",
                flush=True,
            )
    print(f"{given.kills - failures} of {given.kills} resumed runs are bit-identical")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
