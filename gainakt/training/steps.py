"""How the optimiser steps of an epoch are taken: one protocol, whatever carries them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gainakt.data.batches import Batch, training_batches
from gainakt.data.sequences import Sequences
from gainakt.machine import seed_step
from gainakt.models.interface import FittedTracer
from gainakt.objectives.schedule import EpochWeights
from gainakt.objectives.total import TERMS, BatchWeights
from gainakt.training.backend import describe, first_line, packed_steps, why_plain
from gainakt.training.captured import PackedSteps
from gainakt.training.progress import Figures
from gainakt.training.step import Step, learning_rate, refusal, set_learning_rate

# What torch, a driver or a compiler raises where it cannot do what was asked; anything else is a
# mistake in this program and is not to be hidden.
CANNOT = (RuntimeError, OSError, MemoryError)


class Steps(Protocol):
    """Takes the steps of epochs, in order; each exactly once."""

    @property
    def adaptive(self) -> BatchWeights:
        """The weights that move from batch to batch."""

    @property
    def per_epoch(self) -> int:
        """How many steps an epoch has."""

    @property
    def once(self) -> bool:
        """Whether one epoch is all there is to learn."""

    @property
    def backend(self) -> str:
        """How steps are carried out, in a line."""

    def begin(self, epoch: int, first_step: int, weights: EpochWeights) -> None:
        """Get ready for an epoch (from 1), from `first_step` (from 0) on."""

    def take(self, number: int) -> Figures:
        """Take step `number` (from 0) of the epoch.

        Raises:
            TrainingError: a loss or gradient is not finite; the weights are those before the step.
        """

    def settle(self) -> None:
        """Wait until all steps are known to be finite.

        Raises:
            TrainingError: see `take`.
        """


class PlainSteps:
    """Steps one operation at a time.

    Args:
        step: the model and its optimiser.
        training: what is learnt.
        adaptive: where the weights that move from batch to batch start.
        why: why steps are not taken in another way.
    """

    once = False

    def __init__(self, step: Step, training: Sequences, adaptive: BatchWeights, why: str) -> None:
        self.step = step
        self.training = training
        self.adaptive = adaptive
        self.backend = f"plain, {why}"
        self.per_epoch = -(-len(training) // step.config.training.batch_size)
        self._batches: Iterator[Batch] = iter(())

    def begin(self, epoch: int, first_step: int, weights: EpochWeights) -> None:
        """Get ready for an epoch."""
        self.epoch, self.weights = epoch, weights
        training, seed = self.step.config.training, self.step.config.runtime.seed
        self._batches = training_batches(
            self.training, training.batch_size, seed, epoch, first_step
        )

    def take(self, number: int) -> Figures:
        """Take the next step."""
        step, config = self.step, self.step.config
        batch = next(self._batches).to(step.device)
        before = (self.epoch - 1) * self.per_epoch + number
        total = config.training.epochs * self.per_epoch
        seed_step(config.runtime.seed, self.epoch, number)
        set_learning_rate(step.optimizer, learning_rate(before, total, config.training))
        gradient = step.gradient(batch, self.weights, self.adaptive)
        if not gradient.size.isfinite():
            terms = gradient.losses.terms().tolist()
            raise refusal(terms, float(gradient.norm), self.epoch, number)
        step.update(first=before == 0)
        self.adaptive = gradient.moving
        return Figures.of(gradient.losses, gradient.output, batch)

    def settle(self) -> None:
        """Every step is known to be finite as soon as it is taken."""


class GraphedSteps:
    """Steps over packed rows as CUDA graphs, and plain ones from where those cannot be had on.

    Args:
        step: the model and its optimiser, on a GPU.
        training: what is learnt.
        adaptive: where the weights that move from batch to batch start.
        say: told in a line when steps have to be carried out in another way.
        packed: what takes them, made for the step's device by default.
    """

    once = False

    def __init__(
        self,
        step: Step,
        training: Sequences,
        adaptive: BatchWeights,
        say: Callable[[str], None],
        packed: PackedSteps | None = None,
    ) -> None:
        self.step = step
        self.training = training
        self.say = say
        self.packed = packed
        self.plain: PlainSteps | None = None
        self._start = adaptive
        if packed is not None:
            return
        try:
            self.packed = packed_steps(step, step.config, training, say)
        except CANNOT as error:
            self._use_plain(f"since {first_line(error)}", adaptive)

    @property
    def adaptive(self) -> BatchWeights:
        """The weights that move from batch to batch."""
        if self.plain is not None:
            return self.plain.adaptive
        assert self.packed is not None
        return self.packed.moving if self.packed.begun else self._start

    @property
    def per_epoch(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self.training) // self.step.config.training.batch_size)

    @property
    def backend(self) -> str:
        """How steps are carried out, in a line."""
        return describe(self.packed) if self.plain is None else self.plain.backend

    def begin(self, epoch: int, first_step: int, weights: EpochWeights) -> None:
        """Get ready for an epoch."""
        self.epoch, self.weights = epoch, weights
        adaptive = self.adaptive
        if self.packed is not None:
            try:
                self.packed.begin(epoch, first_step, weights, adaptive)
                return
            except CANNOT as error:
                self._step_down(error, first_step, adaptive)
        if self.packed is None:
            assert self.plain is not None
            self.plain.begin(epoch, first_step, weights)

    def take(self, number: int) -> Figures:
        """Take the next step; one that fails half-way is undone and taken in another way."""
        while self.packed is not None:
            undo = self.packed.keep(number)
            try:
                return self.packed.take(number)
            except CANNOT as error:
                if undo is None:  # a recorded step cannot be undone: whether it moved is not known
                    raise
                self.packed.check()
                undo()
                self._step_down(error, number, self.packed.moving)
        assert self.plain is not None
        return self.plain.take(number)

    def settle(self) -> None:
        """Wait for the device."""
        if self.packed is not None:
            self.packed.check()

    def _step_down(self, error: Exception, number: int, adaptive: BatchWeights) -> None:
        """Carry steps out in a simpler way from `number` on; nothing of that step has moved."""
        assert self.packed is not None
        reason = f"epoch {self.epoch}, step {number + 1}: {first_line(error)}"
        if self.step.read is not self.step.model:
            self.step.read = self.step.model
            self.packed.forget()
            self.say(f"step: not compiled from here on ({reason})")
            return
        self.packed.close()
        self.packed = None
        self._use_plain(f"since {reason}", adaptive.copy())
        assert self.plain is not None
        self.plain.begin(self.epoch, number, self.weights)

    def _use_plain(self, why: str, adaptive: BatchWeights) -> None:
        self.plain = PlainSteps(self.step, self.training, adaptive, why)
        self.say(f"step: {self.plain.backend}")


class FittedSteps:
    """One step, in which a learner without gradients fits all of its training data.

    Args:
        model: what is fitted.
        training: what is learnt.
        adaptive: stays as it is.
    """

    per_epoch = 1
    once = True
    backend = "fitted at once, without gradients"

    def __init__(self, model: FittedTracer, training: Sequences, adaptive: BatchWeights) -> None:
        self.model = model
        self.training = training
        self.adaptive = adaptive

    def begin(self, epoch: int, first_step: int, weights: EpochWeights) -> None:
        """Nothing has to be got ready."""

    def take(self, number: int) -> Figures:
        """Fit."""
        return Figures.fitted(self.model.fit(self.training), len(TERMS))

    def settle(self) -> None:
        """What is fitted is finite."""


def choose_steps(
    step: Step, training: Sequences, adaptive: BatchWeights, say: Callable[[str], None]
) -> Steps:
    """Return what takes the steps of a run.

    Args:
        step: the model and its optimiser.
        training: what is learnt.
        adaptive: where the weights that move from batch to batch start.
        say: told in a line when steps have to be carried out in another way than planned.
    """
    if isinstance(step.model, FittedTracer):
        return FittedSteps(step.model, training, adaptive)
    why = why_plain(step.model, step.config, step.device)
    if why is not None:
        return PlainSteps(step, training, adaptive, why)
    return GraphedSteps(step, training, adaptive, say)
