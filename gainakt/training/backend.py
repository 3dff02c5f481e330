"""In which way a machine carries out optimiser steps, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch

from gainakt.config import Config
from gainakt.data.batches import Batch
from gainakt.data.packing import Packing
from gainakt.data.sequences import Sequences
from gainakt.models.interface import KnowledgeTracer, ModelOutput
from gainakt.training.captured import PackedSteps, graph_recorder
from gainakt.training.step import Step

# A run of fewer steps than this would wait longer for the compiler than compiled steps save.
COMPILING_PAYS = 50_000


def why_plain(model: KnowledgeTracer, config: Config, device: torch.device) -> str | None:
    """Return why steps are taken one operation at a time, or None where they can be recorded."""
    if device.type != "cuda":
        return f"on the {device.type.upper()}"
    if config.hardware.cuda_graphs == "off":
        return "as configured"
    if not model.reads_packed_rows:
        return f"for {config.experiment.model} does not read packed rows"
    return None


def packed_steps(
    step: Step, config: Config, training: Sequences, say: Callable[[str], None]
) -> PackedSteps:
    """Return what takes steps as CUDA graphs, the model compiled where that pays.

    Args:
        step: the model and its optimiser, on a GPU.
        config: the complete configuration.
        training: what is learnt.
        say: told in a line when the model is not compiled though it should be.
    """
    batch_size = config.training.batch_size
    packing = Packing(training, config.model.seq_len, batch_size, config.runtime.seed)
    if compiles(config, config.training.epochs * -(-len(training) // batch_size)):
        if find_spec("triton") is None:
            say("step: not compiled (triton, torch's compiler for GPUs, is not installed)")
        else:
            step.read = compiled(step.model)
    stream = torch.cuda.Stream(step.device)
    return PackedSteps(step, packing, config, partial(graph_recorder, stream), stream)


def compiles(config: Config, steps: int) -> bool:
    """Return whether to compile the model of a run of so many optimiser steps on a GPU."""
    wanted = config.hardware.compile
    return wanted == "on" or (wanted == "auto" and steps >= COMPILING_PAYS)


def compiled(model: KnowledgeTracer, backend: str = "inductor") -> Callable[[Batch], ModelOutput]:
    """Return the model compiled as one piece, anew for every shape of a batch."""
    whole: Callable[[Batch], ModelOutput] = torch.compile(
        model, fullgraph=True, dynamic=False, backend=backend
    )
    return whole


def describe(packed: PackedSteps | None) -> str:
    """Return how steps over packed rows are carried out."""
    if packed is None:
        return "one CUDA graph per shape"
    count = len(packed.packing.shapes)
    return f"one CUDA graph per shape ({count} shape{'s' * (count > 1)})"


def first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
