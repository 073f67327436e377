"""Writes a graph, and the weights that are not yet in the file beside it."""

from __future__ import annotations

import math

import onnx
from onnx import helper, numpy_helper

from ..passes.graph_editor import GraphEditor, LazyModel, external

__all__ = ["DATA", "save"]

DATA = "model.onnx.data"
"""The file of weights beside `model.onnx`, which can be memory-mapped and has no limit of 2 GB."""

_INLINE_LIMIT = 1 << 20
"""Graphs with no more bytes of weights hold them themselves."""

_LEAST = 1 << 10
"""Bytes of a tensor that is worth a place in the file."""


def save(model: LazyModel) -> tuple[str, ...]:
    """Write `model.onnx` beside the model's data file, which is closed; returns the files beside it."""
    data = model.data
    assert data is not None  # the caller opened it
    # A trace without weights lists them behind the rest. The bundle is the same, to the byte, whatever way it was made.
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    graph = GraphEditor(model)
    inline = sum(map(_nbytes, model.graph.initializer)) <= _INLINE_LIMIT
    for tensor in model.graph.initializer:
        if inline:
            tensor.CopyFrom(graph.whole(tensor.name))
        elif tensor.name in model.lazy:
            lazy = model.lazy[tensor.name]
            tensor.CopyFrom(external(tensor.name, lazy, *data.append(lazy), DATA))
        elif tensor.data_location != onnx.TensorProto.EXTERNAL and _nbytes(tensor) >= _LEAST:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(external(tensor.name, array, *data.append(array), DATA))
    model.lazy.clear()
    data.close()
    if inline:
        data.path.unlink()
    onnx.save(model.proto, data.path.with_name("model.onnx"))
    return () if inline else (DATA,)


def _nbytes(tensor: onnx.TensorProto) -> int:
    size: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims)) * size
