"""Devices, threads, number formats and determinism of the machine at hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from gainakt.errors import TrainingError
from gainakt.seeds import step_seed

_ONE_AT_A_TIME = threading.RLock()


def select_device(wanted: str) -> torch.device:
    """Return the device to compute on.

    Args:
        wanted: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        TrainingError: a GPU was asked for that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asked = wanted
    if wanted == "auto":
        wanted = "cuda" if count else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= count:
        found = (
            f"{count} GPU(s): cuda:0 to cuda:{count - 1}" if count else "no GPU that torch can use"
        )
        raise TrainingError(
            f"hardware.devices = {asked!r}: this machine has {found}; "
            "choose another device, 'cpu' or 'auto'"
        )
    return device


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_machine(devices: str, threads: int, deterministic: bool) -> torch.device:
    """Set threads and determinism for this process, and return the device.

    Args:
        devices: see `select_device`.
        threads: how many to compute with; 0 for as many as there are cores.
        deterministic: whether the same run repeats to the last bit.

    Raises:
        TrainingError: see `select_device`.
    """
    device = select_device(devices)
    torch.set_num_threads(threads or cores())
    if deterministic and device.type == "cuda":
        # cuBLAS repeats to the bit only with a fixed workspace, read when it first starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # filling fresh memory finds reads of what was never written; it repeats no bit more
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    # float32 means float32: what may be rounded more is in `use_amp`
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


@contextmanager
def machine_on_loan() -> Iterator[None]:
    """Put back at the end what computing sets for the whole process, which is someone else's.

    That is what `prepare_machine` sets, and torch's random numbers. Threads take turns: they draw
    from the same generator, and a run among others would not repeat.
    """
    with _ONE_AT_A_TIME:
        threads = torch.get_num_threads()
        deterministic = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        benchmark = torch.backends.cudnn.benchmark
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        try:
            with torch.random.fork_rng(devices=list(gpus)):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark


def precision(number_format: str | None, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which dense layers compute.

    Args:
        number_format: "bf16", or None for float32.
        device: where they compute.
    """
    if number_format is None:
        return nullcontext()
    formats = {"bf16": torch.bfloat16}
    return torch.autocast(device.type, dtype=formats[number_format])


def bf16_slowdown(device: torch.device) -> float | None:
    """Return how many times longer a product takes in bf16 than in float32, measured in a moment.

    A processor without instructions for bf16 emulates them. None on a GPU, where it is known to
    pay.
    """
    if device.type != "cpu":
        return None
    wide = torch.ones(512, 512)
    return _seconds(wide.bfloat16()) / _seconds(wide)


def _seconds(matrix: torch.Tensor) -> float:
    """The shortest of some products; the first, which sets things up, does not decide."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - began)
    return min(taken)


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Set torch's generators for one optimiser step (see `gainakt.seeds.step_seed`)."""
    torch.manual_seed(step_seed(seed, epoch, step))
