"""One optimiser step: its mathematics, once for every way in which steps are carried out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from gainakt.config import Config, Training
from gainakt.data.batches import Batch
from gainakt.errors import TrainingError
from gainakt.machine import precision
from gainakt.models.interface import KnowledgeTracer, ModelOutput
from gainakt.objectives.schedule import EpochWeights
from gainakt.objectives.total import TERMS, BatchWeights, Losses, total_loss


@dataclass(frozen=True, eq=False)
class Gradient:
    """What one batch asks for: the gradient itself is in the parameters, clipped.

    `norm` is that of the gradient before it was clipped; `moving` holds if the step is taken.
    """

    output: ModelOutput
    losses: Losses
    moving: BatchWeights
    norm: Tensor

    @property
    def size(self) -> Tensor:
        """A scalar that is finite if loss and gradient are."""
        return self.losses.total.detach() + self.norm


class Step:
    """A model with its optimiser and the moving average of its weights.

    `read` is what reads a batch in training: the model, or a compiled version of it.
    """

    def __init__(self, model: KnowledgeTracer, config: Config, device: torch.device) -> None:
        self.model = model
        self.config = config
        self.device = device
        self.read: Callable[[Batch], ModelOutput] = model
        self.optimizer = _optimizer(model, config.training)
        averages = config.training.weight_average > 0
        self.average = AveragedModel(model, device) if averages else None

    def gradient(self, batch: Batch, weights: EpochWeights, moving: BatchWeights) -> Gradient:
        """Compute the gradient of a batch's loss, clipped; nothing has moved yet.

        Raises:
            TrainingError: torch cannot repeat an operation to the last bit on this device.
        """
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with precision(self.config.number_format, self.device):
                output = self.read(batch)
            losses, moving = total_loss(output, batch, self.config, weights, moving)
            losses.total.backward()
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            raise TrainingError(
                f"runtime.deterministic = true, but on {self.device} torch cannot: "
                f"{str(error).splitlines()[0]} Set deterministic to false"
            ) from None
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.training.gradient_clip
        )
        return Gradient(output, losses, moving, norm)

    def keep(self) -> Callable[[], None]:
        """Return what puts model, optimiser and average back to how they are now.

        Used around steps that may fail half-way, before they are carried out in another way.
        """
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if self.average is not None:
            tensors += [*self.average.parameters(), *self.average.buffers()]
        values = [tensor.detach().clone() for tensor in tensors]
        known = {
            parameter: {
                name: value.clone() if isinstance(value, Tensor) else value
                for name, value in state.items()
            }
            for parameter, state in self.optimizer.state.items()
        }

        @torch.no_grad()
        def restore() -> None:
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
            for parameter, state in list(self.optimizer.state.items()):
                if parameter not in known:
                    del self.optimizer.state[parameter]
                    continue
                for name, value in known[parameter].items():
                    if isinstance(value, Tensor):  # in place: a recording holds the tensor
                        state[name].copy_(value)
                    else:
                        state[name] = value

        return restore

    def update(self, *, first: bool, finite: Tensor | None = None) -> None:
        """Move the weights along the gradient, and their average after them.

        Args:
            first: whether this is the run's first step, where the average starts.
            finite: scalar on the device, 1, or 0 where nothing may move.
        """
        if finite is not None:
            # what the fused optimisers look at on the device before they move anything
            self.optimizer.found_inf = 1 - finite  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.average is not None:
            self._move_average(self.average, first, finite)

    @torch.no_grad()
    def _move_average(self, average: AveragedModel, first: bool, finite: Tensor | None) -> None:
        # not `update_parameters`, which asks the device how many steps it has averaged
        mean: list[Tensor] = list(average.module.parameters())
        weights: list[Tensor] = list(self.model.parameters())
        training = self.config.training
        share: Any = 1 - training.weight_average
        if first:
            torch._foreach_copy_(mean, weights)
        else:
            if training.weight_average_warmup:
                share = average_share(average.n_averaged, share)
            if finite is not None:
                share = share * finite
            if isinstance(share, Tensor):
                share = [share] * len(mean)
            torch._foreach_lerp_(mean, weights, share)
        average.n_averaged += 1 if finite is None else finite.long()


def average_share(steps: Tensor, least: float) -> Tensor:
    """Return the share of the newest weights in their average after so many steps.

    1 - min(decay, (1 + n) / (10 + n)): weights of the first steps, which know nothing, leave the
    average of a short run too.

    Args:
        steps: n, a scalar on the weights' device.
        least: 1 - decay.
    """
    return (9 / (10 + steps)).clamp(min=least)


def refusal(terms: list[float], norm: float, epoch: int, step: int) -> TrainingError:
    """Return the error of a step that was not taken; `step` counts from 0."""
    named = ", ".join(f"{n} {v:g}" for n, v in zip(TERMS, terms, strict=True))
    return TrainingError(
        f"epoch {epoch}, step {step + 1}: loss or gradient is not finite ({named}; gradient "
        f"norm {norm:g}). Training stopped before the step, so the last checkpoint is "
        "good. Try a smaller learning_rate or gradient_clip, or use_amp = false"
    )


def _optimizer(model: KnowledgeTracer, config: Training) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (0.9, config.beta2),
        "fused": True,
    }
    # a learner without gradients leaves nothing to move, which torch would refuse
    parameters = list(model.parameters()) or [torch.nn.Parameter(torch.zeros(0))]
    if config.optimizer == "adamw":
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.dim() >= 2]},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups,
            weight_decay=config.weight_decay,
            **settings,
        )
    return torch.optim.Adam(parameters, weight_decay=config.weight_decay, **settings)


def learning_rate(step: int, total: int, config: Training) -> float:
    """Learning rate at `step` (from 0) of `total`."""
    return config.learning_rate * learning_rate_factor(step, total, config)


def learning_rate_factor(step: int, total: int, config: Training) -> float:
    """Factor on the learning rate at `step` (from 0) of `total`: warm-up, then the schedule."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.learning_rate_schedule == "constant":
        return warmup
    return warmup * 0.5 * (1 + math.cos(math.pi * step / max(total, 1)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor) -> None:
    """Let every parameter group take its next step at `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
