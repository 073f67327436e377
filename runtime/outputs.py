"""What a pass gives back for its rows: whole logits, or the three numbers of the uncertainty head."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nudge_onnx.bundle import GraphIO

from .session import Graph

__all__ = ["HeadOutputs", "LogitsOutputs", "Outputs", "Rows", "Summary", "has_head", "joined"]


class Summary(NamedTuple):
    """What the uncertainty head says of one row of logits."""

    argmax: int
    top1: float
    """The largest probability; not finite where the logits are broken."""
    log_sum_exp: float


Rows: TypeAlias = "npt.NDArray[np.float32] | list[Summary]"
"""Raw logits float32 `[rows, vocabulary]`, or what the uncertainty head makes of each row."""


class Outputs(Protocol):
    """Buffers for the rows of a pass, bound to a binding of their own."""

    binding: Any

    def bind(self, rows: int) -> None:
        """Bind room for so many rows."""

    def take(self, first: int, last: int) -> Rows:
        """The rows from `first` up to `last` of the pass that ran; logits are a view that the next pass overwrites."""


class LogitsOutputs:
    """All logits, in one buffer that is kept from pass to pass."""

    def __init__(self, graph: Graph) -> None:
        self.binding: Any = graph.session.io_binding()
        self._name = graph.record.io.logits
        self._buffer: npt.NDArray[np.float32] = np.empty((1, 0, graph.record.vocabulary_size), np.float32)
        self._rows = 0

    def bind(self, rows: int) -> None:
        """Bind the buffer, grown if it must be."""
        if rows == self._rows:
            return
        if self._buffer.shape[1] < rows:
            self._buffer = np.empty((1, rows, self._buffer.shape[2]), np.float32)
        _bind(self.binding, self._name, self._buffer[:, :rows])
        self._rows = rows

    def take(self, first: int, last: int) -> Rows:
        """A view of the buffer."""
        return self._buffer[0, first:last]


class HeadOutputs:
    """Arg-max, its probability and log-sum-exp: a few bytes a row, and the logits stay where they were computed."""

    def __init__(self, graph: Graph) -> None:
        self.binding: Any = graph.session.io_binding()
        self._names = _head(graph.record.io)
        self._rows = 0
        # A view gives a few numbers faster than an array does.
        self._views = [memoryview(b"")] * 3

    def bind(self, rows: int) -> None:
        """Bind buffers, fresh ones for another number of rows than before."""
        if rows == self._rows:
            return
        self._rows = rows
        buffers = [np.empty((1, rows), kind) for kind in (np.int64, np.float32, np.float32)]
        for name, buffer in zip(self._names, buffers, strict=True):
            _bind(self.binding, name, buffer)
        self._views = [buffer[0].data for buffer in buffers]

    def take(self, first: int, last: int) -> Rows:
        """Summaries, which stay valid."""
        ids, top1, log_sums = self._views
        return [Summary(ids[row], top1[row], log_sums[row]) for row in range(first, last)]


def joined(parts: list[Rows]) -> Rows:
    """The rows of several passes, all of one kind."""
    summaries = [row for part in parts if isinstance(part, list) for row in part]
    return summaries or np.concatenate([part for part in parts if not isinstance(part, list)])


def has_head(io: GraphIO) -> bool:
    """Whether a graph has an uncertainty head."""
    return None not in (io.top1_id, io.top1_probability, io.log_sum_exp)


def _head(io: GraphIO) -> list[str]:
    return [name for name in (io.top1_id, io.top1_probability, io.log_sum_exp) if name is not None]


def _bind(binding: Any, name: str, array: npt.NDArray[Any]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
