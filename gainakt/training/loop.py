"""The training loop: one model, one optimiser, epochs of batches, and a state to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gainakt.config import Config, Training
from gainakt.data.batches import Batch, Sequences, training_batches
from gainakt.errors import TrainingError
from gainakt.evaluation import consistency
from gainakt.evaluation.metrics import RunningMetrics
from gainakt.evaluation.readout import Readout, read_in_parts
from gainakt.models import KnowledgeTracer
from gainakt.objectives.schedule import EpochWeights, ScheduleState, after_epoch, epoch_weights
from gainakt.objectives.total import TERMS, BatchWeights, total_loss
from gainakt.training.accelerate import precision, seed_step
from gainakt.training.progress import EpochProgress

# Seconds between two saved states within a long epoch.
SAVE_EVERY = 600.0


@dataclass
class History:
    """What the finished epochs left: a metrics row, a trajectory entry and timings each."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    trajectory: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best validation AUC, the earliest of equals."""
        return max(self.rows, key=lambda row: row["val_auc"], default=None)


class Recorder(Protocol):
    """What a run does with the news from the loop."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """An optimiser step was taken; called every `monitor_freq` steps."""

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        """An epoch ended; `improved` when it has the best validation AUC so far."""

    def on_state(self, trainer: Trainer) -> None:
        """The state should be saved now, in mid-epoch."""


class Trainer:
    """Trains one model; everything that a resumed run needs is in `state()`.

    Args:
        model: on `device`.
        config: the complete configuration.
        training: sequences to learn from.
        validation: sequences to choose by; never learnt from.
        device: where the model is.
        clock: seconds, for timings and for saves within an epoch.
    """

    def __init__(
        self,
        model: KnowledgeTracer,
        config: Config,
        training: Sequences,
        validation: Sequences,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.config = config
        self.training = training
        self.validation = validation
        self.device = device
        self.clock = clock
        self.epoch = 0  # finished epochs
        self.history = History()
        self.schedule = ScheduleState.start(config)
        self.moving = self._starting_weights()
        self.progress = EpochProgress()
        self.steps_per_epoch = math.ceil(len(training) / config.training.batch_size)
        self.optimizer = _optimizer(model, config.training)
        self.average = _average(model, config.training)
        self._checked = consistency.sample_students(
            validation, config.interpretability.max_semantic_students, config.runtime.seed
        )
        self._aligned = consistency.sample_by_length(
            validation, config.global_alignment.alignment_global_students, config.runtime.seed
        )

    @property
    def evaluated_model(self) -> KnowledgeTracer:
        """The model that is evaluated and saved: the moving average where there is one."""
        if self.average is None:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, KnowledgeTracer)
        return averaged

    @property
    def finished(self) -> bool:
        """Whether all epochs ran, or patience ran out."""
        best = self.history.best
        out_of_patience = (
            best is not None and self.epoch - best["epoch"] >= self.config.training.patience
        )
        return self.epoch >= self.config.training.epochs or out_of_patience

    def run(self, recorder: Recorder, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, or until `should_stop`; return whether the end was reached.

        Raises:
            TrainingError: a loss or gradient is not finite; the weights are those before the step.
        """
        saved = self.clock()
        while not self.finished:
            began = self.clock()
            epoch = self.epoch + 1
            weights = epoch_weights(self.config, self.schedule, epoch)
            self.model.train()
            batches = training_batches(
                self.training,
                self.config.training.batch_size,
                self.config.runtime.seed,
                epoch,
                self.progress.steps,
            )
            for batch in batches:
                self._step(batch.to(self.device), epoch, weights)
                if self.progress.steps % self.config.runtime.monitor_freq == 0:
                    loss = self.progress.mean_loss()
                    recorder.on_step(epoch, self.progress.steps, self.steps_per_epoch, loss)
                if should_stop():
                    return False
                if self.clock() - saved > SAVE_EVERY:
                    recorder.on_state(self)
                    saved = self.clock()
            self._end_epoch(recorder, weights, began)
            saved = self.clock()
        return True

    def _step(self, batch: Batch, epoch: int, weights: EpochWeights) -> None:
        step = self.progress.steps
        seed_step(self.config.runtime.seed, epoch, step)
        _set_learning_rate(
            self.optimizer,
            self.config.training,
            (epoch - 1) * self.steps_per_epoch + step,
            self.config.training.epochs * self.steps_per_epoch,
        )
        with precision(self.config, self.device):
            output = self.model(batch)
        losses, moving = total_loss(output, batch, self.config, weights, self.moving)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.training.gradient_clip
        )
        if not torch.isfinite(losses.total.detach() + norm):
            self._refuse(losses.terms(), norm, epoch, step)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.moving = moving
        self.progress.add(losses, output, batch)

    def _refuse(self, terms: Tensor, norm: Tensor, epoch: int, step: int) -> None:
        named = ", ".join(f"{n} {v:g}" for n, v in zip(TERMS, terms.tolist(), strict=True))
        raise TrainingError(
            f"epoch {epoch}, step {step + 1}: loss or gradient is not finite ({named}; gradient "
            f"norm {float(norm):g}). Training stopped before the step, so the last checkpoint is "
            "good. Try a smaller learning_rate or gradient_clip, or use_amp = false"
        )

    def _validate(self) -> tuple[dict[str, float], Readout, Readout]:
        """Read the validation students part by part.

        Returns:
            The metrics over all of them, and the readouts of the students that are checked for
            consistency and of those that are measured for alignment.
        """
        aligns = self.config.global_alignment
        parts = read_in_parts(
            self.evaluated_model,
            self.validation,
            self.device,
            residual_window=(
                aligns.alignment_residual_window if aligns.use_residual_alignment else None
            ),
            precision=precision(self.config, self.device),
        )
        metrics = RunningMetrics()
        checked, aligned = [], []
        for part in parts:
            scored = part.where(part.has_next)
            metrics.add(scored.next_answer, scored.logit, scored.probability)
            checked.append(_only(part, self._checked))
            aligned.append(_only(part, self._aligned))
        return metrics.values(), Readout.join(checked), Readout.join(aligned)

    def _end_epoch(self, recorder: Recorder, weights: EpochWeights, began: float) -> None:
        epoch = self.epoch + 1
        metrics, checked, aligned = self._validate()
        alignment = None
        if self.config.global_alignment.enable_global_alignment_pass:
            alignment = consistency.global_alignment(aligned)
        row = self._row(epoch, metrics, checked)
        shares = self.progress.shares()
        before = self.history.best
        self.schedule, events = after_epoch(
            self.config,
            self.schedule,
            epoch,
            shares["alignment"],
            alignment.mastery_correlation if alignment else None,
        )
        before_epoch, now = self._sparsity_before_epoch(), float(self.moving.sparsity)
        if now != before_epoch:
            change = {"parameter": "sparsity_weight", "from": before_epoch, "to": now}
            events.append({"epoch": epoch, "event": "variance_floor", **change})
        self.history.rows.append(row)
        self.history.trajectory.append(
            {
                "epoch": epoch,
                "warmup_scale": weights.performance_scale,
                "effective_alignment_weight": weights.alignment,
                "batch": self.progress.summary(),
                "global": asdict(alignment) if alignment else None,
                "peak": self.schedule.peak,
                "retention": self.progress.mean_terms()["retention"],
                "consistency_weight": self.schedule.consistency_weight,
                "sparsity_weight": now,
                "events": events,
            }
        )
        self.history.seconds.append(self.clock() - began)
        self.progress = EpochProgress()
        self.epoch = epoch
        recorder.on_epoch(self, before is None or row["val_auc"] > before["val_auc"])

    def _sparsity_before_epoch(self) -> float:
        # read from the history, not remembered, so that a run resumed in mid-epoch knows it too
        if self.history.trajectory:
            return float(self.history.trajectory[-1]["sparsity_weight"])
        return float(self._starting_weights().sparsity)

    def _starting_weights(self) -> BatchWeights:
        return BatchWeights.start(self.config.interpretability.sparsity_loss_weight, self.device)

    def _row(self, epoch: int, metrics: dict[str, float], checked: Readout) -> dict[str, Any]:
        check = consistency.consistency_check(checked)
        shares = self.progress.shares()
        return {
            "epoch": epoch,
            "train_loss": self.progress.mean_loss(),
            "train_auc": self.progress.train_auc(),
            "val_loss": metrics["log_loss"],
            "val_auc": metrics["auc"],
            "val_accuracy": metrics["accuracy"],
            "monotonicity_violation_rate": check.monotonicity_violation_rate,
            "negative_gain_rate": check.negative_gain_rate,
            "bounds_violation_rate": check.bounds_violation_rate,
            "mastery_correlation": check.mastery_correlation,
            "gain_correlation": check.gain_correlation,
            **{f"{name}_loss_share": shares[name] for name in TERMS},
            **{f"{name}_loss": value for name, value in self.progress.mean_terms().items()},
        }

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as plain values and tensors."""
        return {
            "epoch": self.epoch,
            "history": asdict(self.history),
            "schedule": asdict(self.schedule),
            "moving": {
                "sparsity": float(self.moving.sparsity),
                "low_variance_batches": int(self.moving.low_variance_batches),
            },
            "progress": self.progress.state(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; the run goes on as if it had never stopped."""
        self.epoch = state["epoch"]
        self.history = History(**state["history"])
        self.schedule = ScheduleState(**state["schedule"])
        self.moving = BatchWeights.start(**state["moving"], device=self.device)
        self.progress = EpochProgress.restore(state["progress"], self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def _only(readout: Readout, sequences: np.ndarray) -> Readout:
    return readout.where(np.isin(readout.sequence, sequences))


def _optimizer(model: KnowledgeTracer, config: Training) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (0.9, config.beta2),
        "fused": True,
    }
    if config.optimizer == "adamw":
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.dim() >= 2]},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups,
            weight_decay=config.weight_decay,
            **settings,
        )
    return torch.optim.Adam(model.parameters(), weight_decay=config.weight_decay, **settings)


def _average(model: KnowledgeTracer, config: Training) -> AveragedModel | None:
    if not config.weight_average:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.weight_average))


def learning_rate_factor(step: int, total: int, config: Training) -> float:
    """Factor on the learning rate at `step` (from 0) of `total`: warm-up, then the schedule."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.learning_rate_schedule == "constant":
        return warmup
    return warmup * 0.5 * (1 + math.cos(math.pi * step / max(total, 1)))


def _set_learning_rate(
    optimizer: torch.optim.Optimizer, config: Training, step: int, total: int
) -> None:
    rate = config.learning_rate * learning_rate_factor(step, total, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
