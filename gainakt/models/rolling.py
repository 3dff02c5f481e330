"""One student of any length of history, read as an evaluation reads it."""

from __future__ import annotations

import copy

from torch import Tensor

from gainakt.data.rows import Rows
from gainakt.data.sequences import context_start
from gainakt.models.interface import KnowledgeTracer, StudentState


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
        # the rows that a window can still need, a few at a time
        self._recent: list[Rows] = []
        self._state: StudentState = model.begin()

    def extend(self, rows: Rows) -> None:
        """Take in the rows of any number of answers."""
        if not len(rows):
            return
        self.count += len(rows)
        self._recent.append(rows)
        start = context_start(self.count, self.seq_len, self.stride)
        if start == self._start:
            self._state.extend(rows)
            return
        self._start = start
        joined = Rows.join(self._recent)
        # what no later window starts with is forgotten
        self._recent = [joined.take(slice(max(len(joined) - self.seq_len, 0), None))]
        self._state = self.model.begin()
        self._state.extend(joined.take(slice(len(joined) - (self.count - start), None)))

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `asked` were asked next."""
        return self._state.logits(asked)

    def mastery(self, time: int = 0) -> Tensor | None:
        """Return the mastery (K,) of every skill at a time, or None where the model has none."""
        return self._state.mastery(time)

    def recent(self) -> Rows | None:
        """Return the rows that later predictions can still depend on, None before the first."""
        return Rows.join(self._recent) if self._recent else None

    def __copy__(self) -> RollingState:
        copied = RollingState(self.model, self.seq_len, self.stride)
        copied.count, copied._start = self.count, self._start
        copied._recent = list(self._recent)
        copied._state = copy.copy(self._state)
        return copied
