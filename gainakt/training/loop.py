"""The training loop: one model, one optimiser, epochs of batches, and a state to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from gainakt.config import Config
from gainakt.data.sequences import Sequences
from gainakt.errors import TrainingError
from gainakt.evaluation import consistency
from gainakt.evaluation.metrics import RunningMetrics
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.readout import Readout
from gainakt.models import KnowledgeTracer
from gainakt.objectives.schedule import EpochWeights, ScheduleState, after_epoch, epoch_weights
from gainakt.objectives.total import TERMS, BatchWeights
from gainakt.training.progress import EpochProgress
from gainakt.training.step import Step
from gainakt.training.steps import Steps, choose_steps

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

    `say` is told in a line when steps have to be carried out in another way than `backend` says.
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
        self.progress = EpochProgress()
        self.say: Callable[[str], None] = lambda line: None
        self.step = Step(model, config, device)
        self.steps = self._choose_steps(self._starting_weights())
        self._checked = consistency.sample_students(
            validation, config.interpretability.max_semantic_students, config.runtime.seed
        )
        self._aligned = consistency.sample_by_length(
            validation, config.global_alignment.alignment_global_students, config.runtime.seed
        )

    @property
    def evaluated_model(self) -> KnowledgeTracer:
        """The model that is evaluated and saved: the moving average where there is one."""
        if self.step.average is None:
            return self.model
        averaged = self.step.average.module
        assert isinstance(averaged, KnowledgeTracer)
        return averaged

    @property
    def backend(self) -> str:
        """How optimiser steps are carried out, in a line."""
        way = self.steps.backend
        if self.step.read is not self.model:
            way += ", compiled"
        return way + (f", {self.config.training.mixed_precision}" * self.config.runtime.use_amp)

    @property
    def steps_per_epoch(self) -> int:
        """How many optimiser steps an epoch has."""
        return self.steps.per_epoch

    @property
    def epochs(self) -> int:
        """How many epochs there are to be, at most."""
        return 1 if self.steps.once else self.config.training.epochs

    @property
    def finished(self) -> bool:
        """Whether all epochs ran, or patience ran out."""
        best = self.history.best
        out_of_patience = (
            best is not None and self.epoch - best["epoch"] >= self.config.training.patience
        )
        return self.epoch >= self.epochs or out_of_patience

    def run(self, recorder: Recorder, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, or until `should_stop`; return whether the end was reached.

        Raises:
            TrainingError: a loss or gradient is not finite; the weights are those before the step.
        """
        saved = self.clock()
        while not self.finished:
            began = self.clock()
            weights = epoch_weights(self.config, self.schedule, self.epoch + 1)
            self.model.train()
            self.steps.begin(self.epoch + 1, self.progress.steps, weights)
            while self.progress.steps < self.steps_per_epoch:
                self.progress.add(self.steps.take(self.progress.steps))
                if self.progress.steps % self.config.runtime.monitor_freq == 0:
                    self.steps.settle()
                    done, loss = self.progress.steps, self.progress.mean_loss()
                    recorder.on_step(self.epoch + 1, done, self.steps_per_epoch, loss)
                if should_stop():
                    self.steps.settle()
                    return False
                if self.clock() - saved > SAVE_EVERY:
                    self.steps.settle()
                    recorder.on_state(self)
                    saved = self.clock()
            self.steps.settle()
            self._end_epoch(recorder, weights, began)
            saved = self.clock()
        return True

    def _choose_steps(self, adaptive: BatchWeights) -> Steps:
        return choose_steps(self.step, self.training, adaptive, lambda line: self.say(line))

    def _validate(self) -> tuple[dict[str, float], Readout, Readout]:
        """Read the validation students part by part.

        Returns:
            The metrics over all of them, and the readouts of the students that are checked for
            consistency and of those that are measured for alignment.
        """
        aligns = self.config.global_alignment
        window = aligns.alignment_residual_window if aligns.use_residual_alignment else None
        predictor = Predictor.of(self.evaluated_model, self.config, self.device)
        parts = predictor.parts(self.validation, residual_window=window)
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
        self._refuse_broken_weights(epoch)
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
        before_epoch, now = self._sparsity_before_epoch(), float(self.steps.adaptive.sparsity)
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

    def _refuse_broken_weights(self, epoch: int) -> None:
        """Refuse weights that the last steps of an epoch broke, before they are saved as anything.

        A finite gradient can still move a weight to infinity.
        """
        broken = [n for n, w in self.evaluated_model.state_dict().items() if not w.isfinite().all()]
        if broken:
            raise TrainingError(
                f"epoch {epoch}: {len(broken)} weights are not finite any more, the first is "
                f"{broken[0]}. Training stopped before they were saved, so the last checkpoint is "
                "good. Try a smaller learning_rate or gradient_clip, or use_amp = false"
            )

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
                "sparsity": float(self.steps.adaptive.sparsity),
                "low_variance_batches": int(self.steps.adaptive.low_variance_batches),
            },
            "progress": self.progress.state(),
            "model": self.model.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "average": None if self.step.average is None else self.step.average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; the run goes on as if it had never stopped."""
        self.epoch = state["epoch"]
        self.history = History(**state["history"])
        self.schedule = ScheduleState(**state["schedule"])
        self.progress = EpochProgress.restore(state["progress"], self.device)
        self.model.load_state_dict(state["model"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        for group in self.step.optimizer.param_groups:
            group["capturable"] = False  # where it is to be recorded, it is made so
        if self.step.average is not None:
            self.step.average.load_state_dict(state["average"])
        # what was recorded holds the optimiser's former tensors
        self.steps = self._choose_steps(BatchWeights.start(**state["moving"], device=self.device))


def _only(readout: Readout, sequences: np.ndarray) -> Readout:
    return readout.where(np.isin(readout.sequence, sequences))
