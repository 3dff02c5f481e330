"""A hash over what a table says, not over how Parquet happens to store it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa


class ContentHash:
    """SHA-256 over the values of a table, independent of encoding, row groups and chunking.

    Each column has its own running digest (strings: one over the lengths, one over the bytes), so
    that rows can arrive in any number of pieces. ``columns`` maps the names of the columns to their
    types, in the order in which they count.
    """

    def __init__(self, columns: Mapping[str, pa.DataType]) -> None:
        self._columns = dict(columns)
        self._parts = {name: (hashlib.sha256(), hashlib.sha256()) for name in columns}

    def update(self, table: pa.Table | pa.RecordBatch) -> None:
        """Add the rows of a table that has at least the columns of this hash, without nulls."""
        for name, (lengths, values) in self._parts.items():
            column = table.column(name)
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            for chunk in chunks:
                if pa.types.is_string(chunk.type):
                    _hash_strings(chunk, lengths, values)
                else:
                    array = np.asarray(chunk)
                    values.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)

    def hexdigest(self) -> str:
        """The digest of everything added so far, as 64 hexadecimal digits."""
        total = hashlib.sha256()
        for name, parts in self._parts.items():
            total.update(f"{name}:{self._columns[name]}\n".encode())
            for part in parts:
                total.update(part.digest())
        return total.hexdigest()


def _hash_strings(chunk: pa.StringArray, lengths: Any, values: Any) -> None:
    if len(chunk) == 0:
        return
    _, offset_buffer, data = chunk.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    lengths.update(np.diff(offsets).astype("<u4"))
    if data is not None:
        values.update(memoryview(data)[offsets[0] : offsets[-1]])
