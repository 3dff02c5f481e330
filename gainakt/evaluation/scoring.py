"""Predictions of every answer of many students, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch

from gainakt.arrays import IntArray
from gainakt.data.batches import evaluation_batches
from gainakt.data.interactions import Dataset
from gainakt.data.sequences import window_sequences
from gainakt.models.interface import KnowledgeTracer

# Answers of students that are read together: some hundred megabytes at most, whatever there is.
ANSWERS_AT_ONCE = 1 << 17


@torch.inference_mode()
def predict_answers(
    model: KnowledgeTracer,
    dataset: Dataset,
    seq_len: int,
    stride: int,
    device: torch.device,
    precision: AbstractContextManager[object] | None = None,
    answers_at_once: int = ANSWERS_AT_ONCE,
) -> npt.NDArray[np.float64]:
    """Return the log-odds (N,) of a right answer for each row of a data set, by the window rule.

    They are what an evaluation computes. nan stands where none is made: for a student's first
    answer, and for skills of a question after its first.

    Args:
        model: on `device`, dropout off.
        dataset: coded with the model's skills.
        seq_len, stride: see `gainakt.data.sequences.context_start`.
        device: where to compute.
        precision: autocast context of the dense layers.
        answers_at_once: students are read in groups of about so many answers.
    """
    logits = np.full(len(dataset.rows), np.nan)
    with precision or nullcontext():
        for students in _groups(dataset.offsets, answers_at_once):
            windows = window_sequences(dataset, students, seq_len, stride)
            for batch in evaluation_batches(windows):
                answer = windows.starts[batch.sequence] + batch.position.numpy() + 1
                scored = batch.has_next.numpy()
                found = model(batch.to(device)).logits.double().cpu().numpy()
                logits[answer[scored]] = found[scored]
    return logits


def _groups(offsets: IntArray, answers: int) -> Iterator[IntArray]:
    """Consecutive students, together about so many answers, at least one student."""
    first = 0
    while first < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[first] + answers, side="right")) - 1
        end = max(end, first + 1)
        yield np.arange(first, end)
        first = end
