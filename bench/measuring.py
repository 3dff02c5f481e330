"""What the benchmarks share: clocks, a process of its own for each measurement, header and table.

    python bench/measuring.py MODULE FUNCTION ARGUMENTS ANSWER

is what `apart` starts: it calls a function of a module in this folder with the keyword arguments
in ARGUMENTS (JSON) and writes what it returns to the file ANSWER. Needs the standard library
alone, since it also runs in the environments of other toolkits.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
MIB = 2**20


@dataclass(frozen=True)
class Instant:
    """A moment: wall clock, and processor time (user and system, all threads) of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Instant:
        """The moment it is called."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, earlier: Instant) -> dict[str, float]:
        """Seconds between two moments, as {"wall": ..., "cpu": ...}."""
        return {"wall": self.wall - earlier.wall, "cpu": self.cpu - earlier.cpu}


@dataclass
class Watched:
    """Batches of a loader, the first `limit` or all, with the instant each was asked for.

    `instants` ends with the moment when the batch after the last was asked for: step i took from
    `instants[i]` to `instants[i + 1]`, loading its batch included.
    """

    loader: Iterable[Any]
    limit: int | None = None
    instants: list[Instant] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches, from the first again each time."""
        self.instants = [Instant.now()]
        for number, batch in enumerate(self.loader, start=1):
            yield batch
            self.instants.append(Instant.now())
            if number == self.limit:
                break


def whole_pass(instants: Sequence[Instant], steps: int | None = None) -> dict[str, float]:
    """Seconds of a pass over batches.

    Args:
        instants: before the first step and after each one.
        steps: the mean of all steps but the first, a warm-up, is scaled to so many; None where the
            instants are those of the whole pass.
    """
    if steps is None:
        return instants[-1].since(instants[0])
    some = instants[-1].since(instants[1])
    return {name: value / (len(instants) - 2) * steps for name, value in some.items()}


class TrainerWatch:
    """A recorder for our Trainer that notes when steps and epochs end, and saves nothing.

    Args:
        steps: as in `whole_pass`.
        scale: what scales the validation to all validation students.
    """

    def __init__(self, steps: int | None = None, scale: float = 1.0) -> None:
        self.steps = steps
        self.scale = scale
        self.epochs: list[dict[str, Any]] = []
        self.instants = [Instant.now()]

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """The loop reports every `monitor_freq` steps; on a GPU it has waited for the device."""
        self.instants.append(Instant.now())

    def on_epoch(self, trainer: Any, improved: bool) -> None:
        """The validation ended."""
        validation = Instant.now().since(self.instants[-1])
        self.epochs.append(
            {
                "training": whole_pass(self.instants, self.steps),
                "validation": {name: value * self.scale for name, value in validation.items()},
                "val_auc": trainer.history.rows[-1]["val_auc"],
            }
        )
        self.instants = [Instant.now()]

    def on_state(self, trainer: Any) -> None:
        """No state is saved."""


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # ru_maxrss of a fresh process starts at what its parent had: Linux knows its own peak apart
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def apart(
    module: str,
    function: str,
    *,
    python: str | Path = sys.executable,
    **arguments: Any,
) -> dict[str, Any]:
    """Call a function of a module in this folder in a process of its own; return its answer.

    Args:
        module, function: what to call; it returns a dict of plain values.
        python: the interpreter.
        arguments: keyword arguments, plain values.

    Returns:
        What the function returned, and `peak_memory` in bytes.

    Raises:
        SystemExit: the process failed; the message is the end of what it said.
    """
    with tempfile.TemporaryDirectory() as temporary:
        answer = Path(temporary) / "answer.json"
        process = subprocess.run(
            [str(python), __file__, module, function, json.dumps(arguments), str(answer)],
            # an idle thread sleeps, so that processor time is work even on a busy machine
            env=os.environ | {"OMP_WAIT_POLICY": "passive"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode != 0:
            raise SystemExit(f"{module}.{function} failed:\n{process.stdout[-3000:]}")
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return result


def median(values: Iterable[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def header() -> dict[str, str]:
    """Hardware, versions and commit, for the top of a table."""
    import torch

    from gainakt.record.provenance import git_state, processor

    git = git_state(BENCH.parent / "gainakt")
    commit = "unknown" if git["commit"] is None else git["commit"][:12]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    load = f"{os.getloadavg()[1]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores, load {load} over five minutes",
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "gpu": gpu,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "commit": commit + (" with uncommitted changes" if git["dirty"] else ""),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass
class Table:
    """What a benchmark prints: a header, rows of cells, and notes."""

    title: str
    columns: Sequence[str]
    header: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, **cells: Any) -> None:
        """Add a row; keys are column names with spaces as underscores, what is missing is empty."""
        self.rows.append(cells)

    def print(self, as_json: bool) -> None:
        """Print for a reader, or everything unrounded as JSON."""
        if as_json:
            print(json.dumps(vars(self), indent=2))
            return
        print(self.title)
        for name, value in self.header.items():
            print(f"  {name}: {value}")
        cells = [
            [_shown(row.get(name.replace(" ", "_"))) for name in self.columns] for row in self.rows
        ]
        lines = [list(self.columns), *cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        for number, line in enumerate(lines):
            first, *rest = (
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            print("| " + " | ".join([first, *rest]) + " |")
            if number == 0:
                print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
        for note in self.notes:
            print(f"- {note}")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return (
            f"{value:,.0f}"
            if abs(value) >= 1000
            else f"{value:.3g}"
            if abs(value) < 100
            else f"{value:.0f}"
        )
    return str(value)


def say(news: str) -> None:
    """Report progress, on stderr."""
    print(news, file=sys.stderr, flush=True)


def _main() -> None:
    module, function, arguments, answer = sys.argv[1:]
    call: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), function)
    result = call(**json.loads(arguments)) | {"peak_memory": peak_memory()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        result["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _main()
