"""Passes that a CUDA graph replays: other numbers each time, in the same shapes and the same memory.

A replay looks at no binding: it works on the addresses and shapes of the run that was recorded. So ids, mask and
results of such a pass have places of their own on the device. The mask is as wide as `InPlaceCache.capacity_for`
says, with zeros behind the text: kernels choose by its width, so that is a matter of the position alone, and not of
what the cache held before.

ONNX Runtime makes the run that it records three times over. In a cache in place that writes the same numbers to the
same positions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..sessions.cuda_graphs import CudaGraphs
from ..sessions.graph_io import input_shapes
from ..sessions.model_session import ModelSession
from ..sessions.providers import onnxruntime
from .cache import InPlaceCache
from .outputs import Rows, output_shapes, summaries

__all__ = ["CapturedPasses"]

_MOST_IDS = 8  # longer passes keep a GPU busy by themselves, and every number of ids takes memory of its own


class CapturedPasses:
    """The short passes of one decoder, each made when it is first needed."""

    def __init__(self, model: ModelSession, cuda_graphs: CudaGraphs, cache: InPlaceCache) -> None:
        self._made: dict[tuple[int, int, int, bool], CapturedPass] = {}
        self._capacity = 0
        self._of = model, cuda_graphs, cache

    def of(self, new: int, width: int, rows: int, *, head: bool) -> CapturedPass | None:
        """The pass over `new` ids, with so wide a mask, that returns `rows` rows of logits or head.

        `None` if there are too many ids.
        """
        if new > _MOST_IDS:
            return None
        key = (new, width, rows, head)
        capacity = self._of[2].capacity
        if capacity != self._capacity:
            # The cache grew, so it has other memory now.
            self._made.clear()
            self._capacity = capacity
        if key not in self._made:
            self._made[key] = CapturedPass(*self._of, new, width, rows, head=head)
        return self._made[key]

    @property
    def nbytes(self) -> int:
        """Bytes of what the passes read and write besides the cache, on the device."""
        return sum(made.nbytes for made in list(self._made.values()))


class CapturedPass:
    """A pass of one shape, bound once."""

    def __init__(
        self,
        model: ModelSession,
        cuda_graphs: CudaGraphs,
        cache: InPlaceCache,
        new: int,
        width: int,
        rows: int,
        *,
        head: bool,
    ) -> None:
        self._model = model
        self._options = cuda_graphs.fresh()
        self.binding = model.session.io_binding()
        ortvalue, place = onnxruntime().OrtValue, (model.device, model.device_id)
        cache.bind(self.binding)
        self._inputs: dict[str, tuple[npt.NDArray[np.int64], Any]] = {}
        for name, shape in input_shapes(model.record, new, width, rows).items():
            value = ortvalue.ortvalue_from_numpy(np.zeros(shape, np.int64), *place)
            self.binding.bind_ortvalue_input(name, value)
            self._inputs[name] = np.zeros(shape, np.int64), value
        self.nbytes = sum(host.nbytes for host, _ in self._inputs.values())
        """Bytes of its inputs and outputs on the device."""
        self._outputs = []
        for name, shape, kind in output_shapes(model.record, rows, head=head):
            self.nbytes += math.prod(shape) * np.dtype(kind).itemsize
            value = ortvalue.ortvalue_from_shape_and_type(shape, kind, *place)
            self.binding.bind_ortvalue_output(name, value)
            self._outputs.append(value)

    def run(self, past: int, ids: list[int], rows: range) -> None:
        """Read `ids` behind `past` positions, for the rows of those that `rows` names."""
        io = self._model.record.io
        total = past + len(ids)
        self._write(io.input_ids, ids)
        if io.attention_mask:
            self._write(io.attention_mask, np.arange(self._inputs[io.attention_mask][0].size) < total)
        if io.position_ids:
            self._write(io.position_ids, range(past, total))
        if io.logits_rows:
            self._write(io.logits_rows, rows)
        self._model.run(self.binding, self._options)

    def take(self, first: int, last: int) -> Rows:
        """The rows from `first` up to `last`, copied from the device."""
        found = [value.numpy()[0, first:last] for value in self._outputs]
        return found[0] if len(found) == 1 else summaries(found)

    def _write(self, name: str, numbers: Any) -> None:
        host, value = self._inputs[name]
        host.reshape(-1)[:] = numbers
        value.update_inplace(host)
