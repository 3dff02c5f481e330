"""What accumulates while an epoch runs, and what is reported of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gainakt.data.batches import Batch
from gainakt.evaluation.metrics import RunningAUC
from gainakt.evaluation.readout import probability_of
from gainakt.models.interface import ModelOutput
from gainakt.objectives.total import TERMS, Losses

# Batches between two transfers of predictions to the host, which a GPU has to wait for.
BATCHES_AT_A_TIME = 1000
WATCHED = ("mastery_correlation", "gain_correlation", "lag_correlations", "mastery_variance")
# Stands for the answer of a step that is not scored.
UNSCORED = -1


@dataclass(frozen=True, eq=False)
class Figures:
    """What is remembered of one optimiser step; all shapes are those of the batch.

    terms: (5,), in the order of TERMS. watched: by name. logits: (N,). answers: (N,) int8, the next
    answer, UNSCORED where there is none: to select would mean to wait for the device.
    """

    terms: Tensor
    watched: dict[str, Tensor]
    logits: Tensor
    answers: Tensor

    @classmethod
    def of(cls, losses: Losses, output: ModelOutput, batch: Batch) -> Figures:
        """Return the figures of a step."""
        watched = {name: getattr(losses, name) for name in WATCHED}
        answers = torch.where(batch.has_next, batch.next_response, UNSCORED)
        return cls(
            losses.terms(),
            {name: value for name, value in watched.items() if value is not None},
            output.logits.detach(),
            answers.to(torch.int8),
        )

    @classmethod
    def fitted(cls, loss: float, terms: int) -> Figures:
        """Return the figures of a learner that fits at once: its loss is the main term."""
        values = torch.tensor([loss] + [0.0] * (terms - 1))
        nothing = torch.zeros(0)
        return cls(values, {}, nothing, nothing.to(torch.int8))

    def copy(self) -> Figures:
        """Return figures that stay when the tensors of these are written to again."""
        watched = {name: value.clone() for name, value in self.watched.items()}
        return Figures(self.terms.clone(), watched, self.logits.clone(), self.answers.clone())


@dataclass(eq=False)
class EpochProgress:
    """Sums over the batches of the running epoch, kept on the model's device.

    terms: the epoch's summed loss terms, (5,), in the order of TERMS.
    watched: for each watched quantity one tensor a batch.
    logits, answers: of all steps that `auc` has not taken in yet, scored or not; see Figures.
    auc: of those before them, on the host. It is exact for up to 20 million steps an epoch; more
        would fill the memory, and every saved state with them.
    """

    steps: int = 0
    terms: Tensor | None = None
    watched: dict[str, list[Tensor]] = field(default_factory=dict)
    logits: list[Tensor] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)
    auc: RunningAUC = field(default_factory=RunningAUC)

    def add(self, figures: Figures) -> None:
        """Take in one optimiser step."""
        terms = figures.terms.double()
        self.terms = terms if self.terms is None else self.terms + terms
        self.steps += 1
        for name, value in figures.watched.items():
            self.watched.setdefault(name, []).append(value)
        self.logits.append(figures.logits)
        self.answers.append(figures.answers)
        if len(self.logits) == BATCHES_AT_A_TIME:
            self._take_in()

    def mean_loss(self) -> float:
        """Return the mean total loss so far."""
        return float(self.terms.sum()) / self.steps if self.terms is not None else float("nan")

    def mean_terms(self) -> dict[str, float]:
        """Return each term's mean over the epoch's batches."""
        assert self.terms is not None
        values = (self.terms / self.steps).tolist()
        return dict(zip(TERMS, values, strict=True))

    def shares(self) -> dict[str, float]:
        """Return each term's signed part of the epoch's total loss; they sum to 1."""
        terms = self.mean_terms()
        total = sum(terms.values())
        return {name: value / total for name, value in terms.items()}

    def train_auc(self) -> float | None:
        """AUC of the predictions made while training, dropout on; None where there were none."""
        self._take_in()
        value = self.auc.value()
        return None if math.isnan(value) else value

    def _take_in(self) -> None:
        if self.logits:
            answers = torch.cat(self.answers).cpu()
            scored = answers != UNSCORED
            logits = torch.cat(self.logits).float().cpu()
            self.auc.add(answers[scored].numpy(), probability_of(logits[scored].numpy()))
            self.logits, self.answers = [], []

    def summary(self) -> dict[str, Any]:
        """Return batch means of what was watched; variance with its extremes."""
        result: dict[str, Any] = {}
        for name, values in self.watched.items():
            stacked = torch.stack(values).double().cpu().numpy()
            mean = stacked.mean(axis=0)
            result[name] = mean.tolist() if np.ndim(mean) else float(mean)
            if name == "mastery_variance":
                result[name] = {
                    "min": float(stacked.min()),
                    "mean": float(mean),
                    "max": float(stacked.max()),
                }
        return result

    def state(self) -> dict[str, Any]:
        """Return everything as plain values and tensors, to save in mid-epoch."""
        self._take_in()
        return {
            "steps": self.steps,
            "terms": self.terms,
            "watched": {name: torch.stack(values) for name, values in self.watched.items()},
            "auc": {
                name: None if values is None else torch.from_numpy(values)
                for name, values in self.auc.state().items()
            },
        }

    @classmethod
    def restore(cls, state: dict[str, Any], device: torch.device) -> EpochProgress:
        """Rebuild from `state`."""
        progress = cls(
            steps=state["steps"],
            terms=None if state["terms"] is None else state["terms"].to(device),
            watched={name: list(v.to(device)) for name, v in state["watched"].items()},
        )
        kept = {name: None if v is None else v.numpy() for name, v in state["auc"].items()}
        if "logits" in kept:  # so the first version saved them
            logits = kept.pop("logits")
            kept["probabilities"] = None if logits is None else probability_of(logits)
        progress.auc.restore(kept)
        return progress
