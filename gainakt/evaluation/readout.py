"""One pass of a model over sequences, from which every metric is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gainakt.data.batches import Batch, bounded_ranges, evaluation_batches
from gainakt.data.sequences import Sequences
from gainakt.models.interface import KnowledgeTracer
from gainakt.objectives.alignment import performance

# A fall of mastery by less than this is rounding.
FALL_TOLERANCE = 1e-6
# Steps that are read at a time where there may be more than fit: a readout takes 60 bytes a step.
PART_STEPS = 1 << 18


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
    next_mastery: npt.NDArray[np.float32]
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
    def probability(self) -> npt.NDArray[np.float32]:
        """Probability of a right next answer, (n,)."""
        return (1 / (1 + np.exp(-self.logit.astype(np.float64)))).astype(np.float32)


@torch.inference_mode()
def read_out(
    model: KnowledgeTracer,
    sequences: Sequences,
    device: torch.device,
    *,
    residual_window: int | None = None,
    on_request: bool = False,
    precision: AbstractContextManager[object] | None = None,
) -> Readout:
    """Run the model once over all sequences, dropout off.

    Args:
        model: on `device`; left in the mode it was in.
        sequences: what to read.
        device: where to compute.
        residual_window: window of the residual performance, None for the plain next answer.
        on_request: ask for the mastery of all skills where the output has none; K passes more.
        precision: autocast context of the dense layers.
    """
    was_training = model.training
    model.eval()
    parts: list[dict[str, Tensor]] = []
    with precision or nullcontext():
        for batch in evaluation_batches(sequences):
            batch = batch.to(device)
            columns = _columns(model, batch, residual_window, on_request)
            parts.append(columns | {"valid": batch.valid})
    model.train(was_training)
    # the device is waited for here alone: to leave padding out of a batch would wait each time
    joined = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    steps = np.flatnonzero(joined.pop("valid"))
    order = steps[np.lexsort((joined["position"][steps], joined["sequence"][steps]))]
    return Readout(**{name: column[order] for name, column in joined.items()})


def read_in_parts(
    model: KnowledgeTracer,
    sequences: Sequences,
    device: torch.device,
    *,
    residual_window: int | None = None,
    precision: AbstractContextManager[object] | None = None,
    steps: int = PART_STEPS,
) -> Iterator[Readout]:
    """Read sequences as `read_out` does, in parts of whole sequences, so that any number fits.

    Args:
        model, sequences, device, residual_window, precision: as for `read_out`.
        steps: the most in a part, unless one sequence alone has more.
    """
    for begin, end in bounded_ranges(sequences.lengths, steps):
        readout = read_out(
            model,
            sequences.take(np.arange(begin, end)),
            device,
            residual_window=residual_window,
            precision=precision,
        )
        yield replace(readout, sequence=readout.sequence + begin)


@torch.inference_mode()
def read_mastery(
    model: KnowledgeTracer,
    sequences: Sequences,
    device: torch.device,
    *,
    precision: AbstractContextManager[object] | None = None,
) -> npt.NDArray[np.float32] | None:
    """Return the mastery (n, K) of every skill after each of n steps, ordered as in a Readout.

    Args:
        model: on `device`; left in the mode it was in. None is returned where it has no mastery.
        sequences: what to read; for some models this costs K times as much as predicting.
        device: where to compute.
        precision: autocast context of the dense layers.
    """
    was_training = model.training
    model.eval()
    parts, sequence, position = [], [], []
    with precision or nullcontext():
        for batch in evaluation_batches(sequences):
            batch = batch.to(device)
            mastery = model.mastery(batch)
            if mastery is None:
                break
            parts.append(mastery[batch.valid].float().cpu().numpy())
            sequence.append(batch.sequence[batch.valid].cpu().numpy())
            position.append(batch.position[batch.valid].cpu().numpy())
    model.train(was_training)
    if not parts:
        return None
    order = np.lexsort((np.concatenate(position), np.concatenate(sequence)))
    ordered: npt.NDArray[np.float32] = np.concatenate(parts)[order]
    return ordered


def _columns(
    model: KnowledgeTracer, batch: Batch, residual_window: int | None, on_request: bool
) -> dict[str, Tensor]:
    output = model(batch)
    nothing = torch.full_like(output.logits, torch.nan)
    never = torch.zeros_like(batch.valid)
    mastery, gains = output.mastery, output.gains
    if mastery is None and on_request:
        mastery = model.mastery(batch)
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
