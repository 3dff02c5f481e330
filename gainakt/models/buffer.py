"""Memory that grows: what a student's state keeps of every answer."""

from __future__ import annotations

from torch import Tensor

FIRST_ROOM = 16


class Buffer:
    """Rows (n, *shape) to which others are appended; room doubles when it runs out.

    A student of few answers then takes little memory, and an answer costs the same on average.

    Args:
        like: a tensor of the same format, on the same device.
        shape: of a row.
    """

    def __init__(self, like: Tensor, *shape: int) -> None:
        self._memory = like.new_empty(0, *shape)
        self._count = 0

    def append(self, rows: Tensor) -> None:
        """Take in rows (m, *shape)."""
        end = self._count + len(rows)
        if end > len(self._memory):
            room = max(FIRST_ROOM, end, 2 * len(self._memory))
            grown = self._memory.new_empty(room, *self._memory.shape[1:])
            grown[: self._count] = self._memory[: self._count]
            self._memory = grown
        self._memory[self._count : end] = rows
        self._count = end

    @property
    def rows(self) -> Tensor:
        """All rows (n, *shape), sharing memory."""
        return self._memory[: self._count]

    def copy(self) -> Buffer:
        """Return one that grows on its own."""
        copied = Buffer(self._memory, *self._memory.shape[1:])
        copied.append(self.rows)
        return copied
