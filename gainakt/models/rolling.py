"""One student of any length of history, read as an evaluation reads it."""

from __future__ import annotations

from collections import deque

import numpy as np
from torch import Tensor

from gainakt.arrays import IntArray
from gainakt.data.sequences import context_start
from gainakt.models.interface import KnowledgeTracer


class RollingState:
    """A student's state that goes on beyond the longest sequence that the model reads.

    The model sees what `gainakt.data.sequences.window_sequences` shows it. When a window is full,
    the state begins anew from the `seq_len - stride` answers that the next one starts with: once
    in `stride` answers.
    """

    def __init__(self, model: KnowledgeTracer, seq_len: int, stride: int) -> None:
        self.model = model
        self.seq_len = seq_len
        self.stride = stride
        self.count = 0
        self._start = 0
        # the answers that a window can still need
        self._recent: deque[tuple[int, int]] = deque(maxlen=seq_len)
        self._state = model.begin(seq_len)

    def extend(self, skills: IntArray, responses: IntArray) -> None:
        """Take in answers (n,) at once."""
        self.count += len(skills)
        self._recent.extend(zip(skills.tolist(), responses.tolist(), strict=True))
        self._begin_window()

    def observe(self, skill: int, response: int) -> None:
        """Take in one answer, 0 or 1, to a question on `skill`."""
        self.count += 1
        self._recent.append((skill, response))
        if context_start(self.count, self.seq_len, self.stride) == self._start:
            self._state.observe(skill, response)
        else:
            self._begin_window()

    def logits(self, skills: list[int]) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `skills` were asked next."""
        return self._state.logits(skills)

    def mastery(self) -> Tensor | None:
        """Return the mastery (K,) of every skill, or None where the model has none."""
        return self._state.mastery()

    def _begin_window(self) -> None:
        self._start = context_start(self.count, self.seq_len, self.stride)
        steps = list(self._recent)[self._start - self.count :]
        past = np.array(steps, dtype=np.int64)
        self._state = self.model.begin(self.seq_len)
        self._state.extend(past[:, 0], past[:, 1])
