"""Where the time of a training step goes, operator by operator, against what arithmetic allows.

    python bench/hotspots.py [--data FOLDER] [--models gainsum gainakt2exp] [--steps N] [--top M]

What is measured: N optimiser steps of our loop on the CPU, the same students each time, three
times over: as they are, for the processor time of a step; under torch's profiler, for the part of
each operator in it; and counting, for each operator, the floating point operations of its products
and the bytes that it reads and writes. The limit of a product is its operations at the rate of a
large product of matrices, that of any other operator its bytes at the rate of a large copy, both
measured in the same run. A limit is for each operator alone: fusing operators could beat it, and
what fits into the caches moves faster than the copy.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import students
from measuring import Instant, Table, TrainerWatch, apart, header, median, say

CONFIGS = {"gainsum": "gainsum_assist2015", "gainakt2exp": "tolerance_test"}


def rates(threads: int) -> dict[str, float]:
    """Return operations a second of a product, and bytes a second of a copy, on this machine."""
    import torch

    torch.set_num_threads(threads)
    n = 1024
    a, b = torch.randn(n, n), torch.randn(n, n)
    source = torch.randn(2**25)
    target = torch.empty_like(source)

    def best(function: Any) -> float:
        took = []
        for _ in range(10):
            before = Instant.now()
            function()
            took.append(Instant.now().since(before)["cpu"])
        return min(took)

    return {
        "operations": 2 * n**3 / best(lambda: torch.mm(a, b)),
        "bytes": 2 * source.nbytes / best(lambda: target.copy_(source)),
    }


def count(run: Any) -> dict[str, tuple[int, int, int]]:
    """Return for each operator that `run` calls: its operations, bytes and calls."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import (
        flop_registry,
        sdpa_backward_flop_count,
        sdpa_flop_count,
    )

    aten = torch.ops.aten
    operations: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def attention(function: Any, tensors: list[Any], is_causal: bool) -> int | None:
        # torch counts the attention of a GPU only; the causal kernel skips half of the scores
        shapes = [tensor.shape for tensor in tensors]
        half = 2 if is_causal else 1
        if function is aten._scaled_dot_product_flash_attention_for_cpu:
            return sdpa_flop_count(*shapes[:3]) // half
        if function is aten._scaled_dot_product_flash_attention_for_cpu_backward:
            return sdpa_backward_flop_count(*shapes[:4]) // half
        return None

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            packet = function._overloadpacket
            name = str(packet).replace("aten.", "aten::")
            read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            written = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            calls[name] += 1
            if packet in flop_registry:
                operations[name] += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            elif (known := attention(packet, read, True)) is not None:
                operations[name] += known
            if not function.is_view:
                moved[name] += sum(x.numel() * x.element_size() for x in (*read, *written))
            return out

    with Counting():
        run()
    return {name: (operations[name], moved[name], calls[name]) for name in calls}


def profile(model: str, data: str, fold: int, threads: int, steps: int) -> dict[str, Any]:
    """Train the same steps three times and return means a step, in seconds, operations and bytes.

    Args:
        model: of CONFIGS.
        data: a prepared data set.
        fold, threads, steps: as in `Piece.of`.
    """
    import torch
    from pieces import Piece

    piece = Piece.of(CONFIGS[model], data, fold, threads, steps, sample=1)
    watch = TrainerWatch()

    def run(watch: TrainerWatch) -> None:
        trainer = piece.trainer()
        trainer.run(watch, lambda: len(watch.instants) > steps)

    run(watch)
    step = watch.instants[-1].since(watch.instants[1])["cpu"] / (steps - 1)
    watch = TrainerWatch()
    with torch.profiler.profile() as profiler:
        run(watch)
    # the profiler has wall time alone: each operator's part of it is its part of the step
    profiled = watch.instants[-1].since(watch.instants[0])["wall"]
    own: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        own[event.key] += event.self_cpu_time_total / 1e6 / profiled * step
    counted = count(lambda: run(TrainerWatch()))
    return {
        "step": step,
        "operators": {
            name: {
                "seconds": own.get(name, 0.0),
                "operations": found[0] / steps,
                "bytes": found[1] / steps,
                "calls": found[2] / steps,
            }
            for name, found in counted.items()
        },
    }


def add_rows(
    table: Table, model: str, found: dict[str, Any], speed: dict[str, float], top: int
) -> None:
    """Add a row for the whole step and one for each of the `top` operators."""
    operators: dict[str, dict[str, float]] = found["operators"]
    for one in operators.values():
        kind = "operations" if one["operations"] else "bytes"
        one["limit"] = one[kind] / speed[kind]

    def cells(seconds: float, parts: list[dict[str, float]]) -> dict[str, Any]:
        limit = sum(part["limit"] for part in parts)
        return {
            "model": model,
            "calls": round(sum(part["calls"] for part in parts)),
            "CPU_ms": 1e3 * seconds,
            "share": f"{seconds / found['step']:.0%}",
            "GFLOP": sum(part["operations"] for part in parts) / 1e9,
            "MB": sum(part["bytes"] for part in parts) / 1e6,
            "limit_ms": 1e3 * limit,
            "of_limit": f"{limit / seconds:.0%}" if seconds else None,
        }

    everything = list(operators.values())
    table.add(operator="whole step", **cells(found["step"], everything))
    products = [one for one in everything if one["operations"]]
    table.add(operator="all products", **cells(sum(one["seconds"] for one in products), products))
    ordered = sorted(operators, key=lambda name: -operators[name]["seconds"])
    for name in ordered[:top]:
        table.add(operator=name, **cells(operators[name]["seconds"], [operators[name]]))
    rest = found["step"] - sum(one["seconds"] for one in everything)
    table.add(
        model=model,
        operator="outside operators",
        CPU_ms=1e3 * rest,
        share=f"{rest / found['step']:.0%}",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    students.add_options(parser)
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--top", type=int, default=8, help="operators to show")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    columns = ["model", "operator", "calls", "CPU ms", "share"]
    columns += ["GFLOP", "MB", "limit ms", "of limit"]
    table = Table("A training step on the CPU, operator by operator", columns, header())
    table.header["students"] = students.described(given)
    table.header["threads"] = (
        f"{given.threads}; {given.steps} steps, medians of {given.rounds} rounds"
    )
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    speeds = []
    with tempfile.TemporaryDirectory() as temporary:
        csv = students.csv_folder(given, Path(temporary))
        data = str(students.prepared(csv, Path(temporary)))
        for number in range(1, given.rounds + 1):
            speeds.append(apart("hotspots", "rates", threads=given.threads))
            for model in given.models:
                setting = {"data": data, "fold": given.fold, "threads": given.threads}
                answer = apart("hotspots", "profile", model=model, steps=given.steps, **setting)
                answers[model].append(answer)
                say(f"round {number}, {model}: {1e3 * answer['step']:.0f} CPU ms a step")
    speed = {name: median(one[name] for one in speeds) for name in ("operations", "bytes")}
    table.header["rates"] = (
        f"{speed['operations'] / 1e9:.0f} GFLOP/s in a product of 1024 x 1024 matrices, "
        f"{speed['bytes'] / 1e9:.1f} GB/s in a copy of 128 MiB"
    )
    for model, found in answers.items():
        found.sort(key=lambda one: float(one["step"]))
        add_rows(table, model, found[len(found) // 2], speed, given.top)
    table.notes = [
        "limit: operations of a product, or bytes of another operator, at the rates above",
        "of limit: the limit as a part of the time; the whole step's is the sum of its operators'",
        "outside operators: Python, and the making of batches",
    ]
    table.print(given.json)


if __name__ == "__main__":
    main()
