"""One pass of a model over sequences, from which every metric is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gainakt.data.batches import Batch
from gainakt.models.interface import KnowledgeTracer
from gainakt.objectives.alignment import performance

# A fall of mastery by less than this is rounding.
FALL_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Readout:
    """A model's reading of n steps, ordered by sequence and position; columns of length n.

    sequence: index into the sequences that were read; position: step in the sequence, from 0.
    has_next: whether the next answer exists and is scored; next_skill, next_answer: what it is.
    logit: log-odds of a right next answer.
    performance: the next answer, or its residual, as the alignment objective sees it.
    next_mastery: mastery of the skill asked next, before its answer; mean_mastery and mean_gain:
        over skills; nan where the model has none.
    falls, negative, outside: whether any skill's mastery falls to the next step, any gain is
        negative, any mastery leaves [0, 1].
    """

    sequence: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    has_next: npt.NDArray[np.bool_]
    next_skill: npt.NDArray[np.int64]
    next_answer: npt.NDArray[np.int64]
    logit: npt.NDArray[np.float32]
    performance: npt.NDArray[np.float32]
    next_mastery: npt.NDArray[np.floating]
    mean_mastery: npt.NDArray[np.float32]
    mean_gain: npt.NDArray[np.float32]
    falls: npt.NDArray[np.bool_]
    negative: npt.NDArray[np.bool_]
    outside: npt.NDArray[np.bool_]

    def where(self, mask: npt.NDArray[np.bool_]) -> Readout:
        """Return the steps where the (n,) mask holds."""
        return Readout(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Readout]) -> Readout:
        """Return the steps of several readouts, one after the other; at least one."""
        columns = [f.name for f in fields(cls)]
        return cls(**{c: np.concatenate([getattr(part, c) for part in parts]) for c in columns})

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """Probability of a right next answer, (n,): what is stored and what is scored."""
        return probability_of(self.logit)


def probability_of(logit: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the probability of each log-odds; further digits tell apart what logits tell apart."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logit.astype(np.float64))))


def columns_of(
    model: KnowledgeTracer, batch: Batch, residual_window: int | None, on_request: Tensor | None
) -> dict[str, Tensor]:
    """Return the columns of a Readout, (N,) each with padding, from one reading of a batch.

    Args:
        model: what reads.
        batch: N steps.
        residual_window, on_request: see `gainakt.evaluation.predictor.Predictor.read`.
    """
    output = model(batch)
    nothing = torch.full_like(output.logits, torch.nan)
    never = torch.zeros_like(batch.valid)
    mastery, gains = output.mastery, output.gains
    if mastery is None and on_request is not None:
        mastery = model.mastery(batch, on_request)
    falls = never.clone()
    if mastery is not None:
        drop = (mastery[:-1] - mastery[1:]).amax(dim=1) > FALL_TOLERANCE
        falls[:-1] = drop & batch.pairs(1)
    asked = model.mastery_asked(batch, output)
    return {
        "sequence": batch.sequence,
        "position": batch.position,
        "has_next": batch.has_next,
        "next_skill": batch.next_skill,
        "next_answer": batch.next_response,
        "logit": output.logits,
        "performance": performance(batch, residual_window),
        "next_mastery": nothing if asked is None else asked,
        "mean_mastery": nothing if mastery is None else mastery.mean(dim=1),
        "mean_gain": nothing if gains is None else gains.mean(dim=1),
        "falls": falls,
        "negative": never if gains is None else (gains < 0).any(dim=1),
        # written so that nan counts as outside
        "outside": never if mastery is None else ~((mastery >= 0) & (mastery <= 1)).all(dim=1),
    }
