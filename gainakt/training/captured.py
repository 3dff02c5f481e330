"""An epoch's optimiser steps on a GPU without the host in between: one CUDA graph for a step.

Batches are packed rows of a few shapes, gathered on the device from a plan uploaded once an epoch.
The first steps of every shape run one operation at a time, as torch asks for before a recording;
the next one is recorded whole (forward, losses, backward, clipping, optimiser, weight average), and
later ones repeat the recording. What the host would decide in between is decided on the device: a
loss or gradient that is not finite lets nothing move any more, and `check` says so later.

Without a recorder the same code runs on any device, which is how it is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gainakt.config import Config
from gainakt.data.batches import upload
from gainakt.data.packing import Packing, packed_batch
from gainakt.machine import seed_step
from gainakt.objectives.schedule import EpochWeights
from gainakt.objectives.total import TERMS, BatchWeights
from gainakt.training.progress import Figures
from gainakt.training.step import Step, learning_rate, refusal, set_learning_rate

# Steps of a shape before it is recorded: libraries choose their kernels, the optimiser makes room.
WARM_UP = 2

Body = Callable[[], None]
# Records what a function does to tensors, without doing it, and returns what repeats it.
Record = Callable[[Body], Body]


def graph_recorder(stream: torch.cuda.Stream) -> Record:
    """Return what records functions as CUDA graphs that share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(body: Body) -> Body:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            body()
        return graph.replay

    return record


class PackedSteps:
    """Takes optimiser steps over packed rows.

    Args:
        step: the model, its optimiser and its weight average.
        packing: how epochs are laid out.
        config: the complete configuration.
        recorder: makes what records steps; None runs every step one operation at a time.
        stream: of the device, for everything here; torch does not record on its usual one.
    """

    def __init__(
        self,
        step: Step,
        packing: Packing,
        config: Config,
        recorder: Callable[[], Record] | None = None,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        self.step = step
        self.packing = packing
        self.config = config
        self.recorder = recorder
        self.stream = stream
        device = step.device
        self.columns = packing.columns().to(device)
        self.moving = BatchWeights.start(0.0, device)
        self.rate = torch.zeros((), device=device)
        # 1 until a loss or gradient is not finite; how many steps were sound; what the first
        # other one was: its terms and the norm of its gradient
        self.finite = torch.ones((), device=device)
        self.taken = torch.zeros((), dtype=torch.int64, device=device)
        self.failure = torch.zeros(len(TERMS) + 1, device=device)
        self._scalars: dict[str, Tensor] = {}
        self._inputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._figures: dict[int, Figures] = {}
        self._met: Counter[int] = Counter()
        self._recorded: dict[int, Body] = {}
        self._structure: tuple[Any, ...] | None = None
        self._record: Record | None = None
        self._first = False
        self.begun = False
        self._prepare_optimizer()

    def begin(
        self, epoch: int, first_step: int, weights: EpochWeights, moving: BatchWeights
    ) -> None:
        """Get ready for an epoch (from 1), from `first_step` (from 0) on.

        `self.moving` follows `moving` from then on.
        """
        device, training = self.step.device, self.config.training
        steps = -(-len(self.packing.sequences) // training.batch_size)
        first, total = (epoch - 1) * steps, training.epochs * steps
        rates = [learning_rate(first + step, total, training) for step in range(steps)]
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(device))
        with self._on_stream():
            self.epoch = epoch
            self.plan = self.packing.epoch(epoch).to(device)
            self.rates = upload(torch.tensor(rates), device)
            for kept, value in _pairs(self.moving, moving):
                kept.copy_(value)
            self.finite.fill_(1)
            self.taken.fill_(first_step)
            self._set_weights(weights)
        self.begun = True

    def keep(self, number: int) -> Callable[[], None] | None:
        """Return what undoes step `number`, None where it is recorded already and cannot fail so.

        Only steps that are carried out one operation at a time, or are being recorded, are kept:
        they are few, and a copy of the weights is made for each.
        """
        if int(self.plan.rows[number]) in self._recorded:
            return None
        undo = self.step.keep()
        values = [value.clone() for value in (*self._own(), *_tensors(self.moving))]

        def restore() -> None:
            undo()
            for kept, value in zip((*self._own(), *_tensors(self.moving)), values, strict=True):
                kept.copy_(value)

        return restore

    def _own(self) -> tuple[Tensor, ...]:
        return self.finite, self.taken, self.failure

    def take(self, number: int) -> Figures:
        """Take step `number` (from 0) of the epoch; whether it was finite, `check` tells."""
        seed_step(self.config.runtime.seed, self.epoch, number)
        self._first = self.epoch == 1 and number == 0
        rows, start = self.plan.rows[number], self.plan.starts[number]
        cells = slice(start, start + rows * self.packing.length)
        with self._on_stream():
            sequence, position = self._inputs_of(rows)
            sequence.copy_(self.plan.sequence[cells])
            position.copy_(self.plan.position[cells])
            self.rate.copy_(self.rates[number])
            self._run(rows)
            return self._figures[rows].copy()

    def check(self) -> None:
        """Wait for the device, and see that every step was finite.

        Raises:
            TrainingError: a loss or gradient was not finite; weights, their average and the
                optimiser are those before that step.
        """
        if self.stream is not None:
            self.stream.synchronize()
        if not self.finite:
            *terms, norm = self.failure.tolist()
            raise refusal(terms, norm, self.epoch, int(self.taken))

    def forget(self) -> None:
        """Drop what was recorded: steps are to perform other operations from now on."""
        self._recorded.clear()
        self._figures.clear()
        self._met.clear()
        # a pool of memory dies with its last graph
        self._record = None if self.recorder is None else self.recorder()

    def close(self) -> None:
        """Leave the optimiser as one that takes steps by itself."""
        self._recorded.clear()
        self.step.optimizer.zero_grad(set_to_none=True)
        for group in self.step.optimizer.param_groups:
            group["capturable"] = False
        if hasattr(self.step.optimizer, "found_inf"):
            del self.step.optimizer.found_inf

    def _run(self, rows: int) -> None:
        if rows in self._recorded:
            self._recorded[rows]()
        elif self._record is None or self._met[rows] < WARM_UP:
            self._met[rows] += 1
            self._advance(rows)
        else:
            self._recorded[rows] = self._record(partial(self._advance, rows))
            self._recorded[rows]()

    def _advance(self, rows: int) -> None:
        """Take one step; reads and writes only tensors that stay where they are."""
        batch = packed_batch(self.columns, *self._inputs[rows], self.packing.length)
        gradient = self.step.gradient(batch, self.weights, self.moving)
        finite = self.finite * gradient.size.isfinite()
        found = torch.cat([gradient.losses.terms(), gradient.norm[None]])
        self.failure.copy_(torch.where(self.finite > finite, found, self.failure))
        self.step.update(first=self._first, finite=finite)
        for kept, value in _pairs(self.moving, gradient.moving):
            kept.copy_(torch.where(finite > 0, value, kept))
        self.taken += finite.long()
        self.finite.copy_(finite)
        self._figures[rows] = Figures.of(gradient.losses, gradient.output, batch)

    def _set_weights(self, weights: EpochWeights) -> None:
        """Keep the epoch's weights as tensors, so that a recording holds for other values too."""
        structure = structure_of(weights) if self.config.outputs() else ()
        if structure != self._structure:
            self._structure = structure
            self.forget()
        known = {f.name: getattr(weights, f.name) for f in fields(weights)}
        # numbers that are not 0 stay numbers whatever they are, so they may be tensors
        known = {n: v for n, v in known.items() if type(v) in (int, float) and v}
        for name, value in known.items():
            self._scalars.setdefault(name, torch.zeros_like(self.rate)).fill_(value)
        kept: dict[str, Any] = {name: self._scalars[name] for name in known}
        self.weights = replace(weights, **kept)

    def _inputs_of(self, rows: int) -> tuple[Tensor, Tensor]:
        if rows not in self._inputs:
            cells = rows * self.packing.length
            like = (self.plan.sequence, self.plan.position)
            first, second = (values.new_empty(cells) for values in like)
            self._inputs[rows] = (first, second)
        return self._inputs[rows]

    def _prepare_optimizer(self) -> None:
        optimizer = self.step.optimizer
        set_learning_rate(optimizer, self.rate)
        if self.step.device.type == "cuda":
            for group in optimizer.param_groups:
                group["capturable"] = True
            # its first steps are not recorded, and that is meant
            optimizer._warned_capturable_if_run_uncaptured = True

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self.stream is None:
            yield
        else:
            with torch.cuda.stream(self.stream):
                yield


def _tensors(weights: BatchWeights) -> tuple[Tensor, ...]:
    return tuple(getattr(weights, f.name) for f in fields(weights))


def _pairs(kept: BatchWeights, new: BatchWeights) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(_tensors(kept), _tensors(new), strict=True)


def structure_of(weights: EpochWeights) -> tuple[Any, ...]:
    """Return what of the weights decides which operations a step performs.

    Of a number that is only whether it is 0; of anything else, all of it. Whatever field the
    weights come to have, a recording made under other ones is not used again.
    """
    values = ((f.name, getattr(weights, f.name)) for f in fields(weights))
    return tuple((n, (bool(v),) if type(v) in (int, float) else v) for n, v in values)
