"""What a pass gives back for its rows: whole logits, or the few numbers of the uncertainty head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nudge_onnx.bundle import GraphIO, ModelRecord

from ..sessions.model_session import ModelSession

__all__ = [
    "HeadOutputs",
    "Logits",
    "LogitsOutputs",
    "Outputs",
    "Rows",
    "Summary",
    "bind_output",
    "has_head",
    "has_wide_head",
    "joined",
    "output_shapes",
    "summaries",
]


class Summary(NamedTuple):
    """What the uncertainty head says of one row of logits."""

    argmax: int
    top1: float
    """The largest probability; not finite where the logits are broken."""
    log_sum_exp: float
    top2_logit: float = 0.0
    """The second largest logit; 0 where the head does not say (`has_wide_head`)."""
    entropy: float = 0.0
    """In nats; 0 where the head does not say."""


Logits: TypeAlias = "npt.NDArray[np.float32]"
"""Raw logits of one row or several, `[..., vocabulary]`."""

Rows: TypeAlias = "npt.NDArray[np.float32] | list[Summary]"
"""Raw logits float32 `[rows, vocabulary]`, or what the uncertainty head makes of each row."""


class Outputs(Protocol):
    """Buffers for the rows of a pass, bound to a binding of their own."""

    binding: Any

    def bind(self, rows: int) -> None:
        """Bind room for so many rows."""

    def take(self, first: int, last: int) -> Rows:
        """The rows from `first` up to `last` of the pass that ran; logits are a view that the next pass overwrites."""

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""


class LogitsOutputs:
    """All logits, in one buffer that is kept from pass to pass."""

    def __init__(self, model: ModelSession) -> None:
        self.binding: Any = model.session.io_binding()
        self._name = model.record.io.logits
        self._buffer: npt.NDArray[np.float32] = np.empty((1, 0, model.record.vocabulary_size), np.float32)
        self._rows: int | None = 0

    def bind(self, rows: int) -> None:
        """Bind the buffer, grown if it must be."""
        if rows == self._rows:
            return
        self._rows = None  # until they are bound: what is interrupted is bound anew
        if self._buffer.shape[1] < rows:
            self._buffer = np.empty((1, rows, self._buffer.shape[2]), np.float32)
        bind_output(self.binding, self._name, self._buffer[:, :rows])
        self._rows = rows

    def take(self, first: int, last: int) -> Rows:
        """A view of the buffer."""
        return self._buffer[0, first:last]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer at its largest."""
        return self._buffer.nbytes


class HeadOutputs:
    """What the head says: a few bytes a row, and the logits stay where they were computed."""

    def __init__(self, model: ModelSession) -> None:
        self.binding: Any = model.session.io_binding()
        self._record = model.record
        self._rows: int | None = 0
        # A view gives a few numbers faster than an array does.
        self._views: list[memoryview] = []

    def bind(self, rows: int) -> None:
        """Bind buffers, fresh ones for another number of rows than before."""
        if rows == self._rows:
            return
        self._rows = None
        views = []
        for name, shape, kind in output_shapes(self._record, rows, head=True):
            buffer = np.empty(shape, kind)
            bind_output(self.binding, name, buffer)
            views.append(buffer[0].data)
        self._views, self._rows = views, rows

    def take(self, first: int, last: int) -> Rows:
        """Summaries, which stay valid."""
        views = self._views
        return [Summary(*[view[row] for view in views]) for row in range(first, last)]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(view.nbytes for view in self._views)


def output_shapes(
    record: ModelRecord, rows: int, *, head: bool, texts: int = 1
) -> list[tuple[str, tuple[int, ...], Any]]:
    """Names, shapes and dtypes of what a pass returns for so many rows: its logits, or what the head says of them."""
    io = record.io
    if not head:
        return [(io.logits, (texts, rows, record.vocabulary_size), np.float32)]
    first, *others = _head(io)
    return [(first, (texts, rows), np.int64), *((name, (texts, rows), np.float32) for name in others)]


def summaries(outputs: Sequence[npt.NDArray[Any]]) -> Rows:
    """What arrays `[rows]`, one for each of the head's outputs, say of each row."""
    return [Summary(*row) for row in zip(*(output.tolist() for output in outputs), strict=True)]


def joined(parts: list[Rows]) -> Rows:
    """The rows of several passes, all of one kind."""
    summaries = [row for part in parts if isinstance(part, list) for row in part]
    return summaries or np.concatenate([part for part in parts if not isinstance(part, list)])


def has_head(io: GraphIO) -> bool:
    """Whether a graph has an uncertainty head."""
    return None not in (io.top1_id, io.top1_probability, io.log_sum_exp)


def has_wide_head(io: GraphIO) -> bool:
    """Whether the head also says the second largest logit and the entropy."""
    return has_head(io) and None not in (io.top2_logit, io.entropy)


def _head(io: GraphIO) -> list[str]:
    names = [io.top1_id, io.top1_probability, io.log_sum_exp]
    if has_wide_head(io):
        names += [io.top2_logit, io.entropy]
    return [name for name in names if name is not None]


def bind_output(binding: Any, name: str, array: npt.NDArray[Any]) -> None:
    """Have passes write an output to host memory, which the caller keeps."""
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
