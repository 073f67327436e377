"""Lets two uses of one matrix be two tensors over the same bytes of the weight file.

A head and an embedding that share a table are the two largest users of memory. ONNX Runtime rearranges the head into a
copy and lets go of the bytes it came from, unless something else names the same tensor: then a small model of a large
vocabulary holds its largest matrix twice. And where the embedding reads it in another shape, the Reshape is computed
when the graph is opened, into yet another copy. A second tensor with the same offset costs nothing: of its pages, only
those of the words that are read are ever in memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["separate_views"]

_PRODUCTS = frozenset({"MatMul", "MatMulNBits", "Gemm"})
_LEAST_BYTES = 1 << 20


def separate_views(path: Path) -> list[str]:
    """Rewrite the graph at `path`, whose weights are external, and return the names of the tensors that were added."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    added: list[Any] = []
    for tensor in list(graph.initializer):
        users = [node for node in graph.node if tensor.name in node.input]
        others = [node for node in users if node.op_type not in _PRODUCTS]
        if _external_bytes(tensor) < _LEAST_BYTES or not others or len(others) == len(users):
            continue
        for node in others:
            if node.op_type == "Reshape":
                added.append(_view(tensor, node.output[0], _reshaped(tensor, constants[node.input[1]])))
                graph.node.remove(node)
                _drop_unused(graph, node.input[1])
            else:
                view = _view(tensor, f"{tensor.name}.{node.op_type}", list(tensor.dims))
                node.input[list(node.input).index(tensor.name)] = view.name
                added.append(view)
    if added:
        graph.initializer.extend(added)
        onnx.save(model, path)
    return [tensor.name for tensor in added]


def _external_bytes(tensor: Any) -> int:
    return next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)


def _view(tensor: Any, name: str, dims: Sequence[int]) -> Any:
    view = copy.deepcopy(tensor)
    view.name = name
    del view.dims[:]
    view.dims.extend(dims)
    return view


def _reshaped(tensor: Any, shape: Any) -> list[int]:
    """What Reshape makes of the tensor's dimensions: 0 keeps one, -1 takes what is left."""
    from onnx import numpy_helper

    wanted = [int(size) for size in numpy_helper.to_array(shape)]
    dims = [tensor.dims[at] if size == 0 else size for at, size in enumerate(wanted)]
    if -1 in dims:
        dims[dims.index(-1)] = -math.prod(tensor.dims) // math.prod(dims)
    return dims


def _drop_unused(graph: Any, name: str) -> None:
    if not any(name in node.input for node in graph.node):
        for tensor in [tensor for tensor in graph.initializer if tensor.name == name]:
            graph.initializer.remove(tensor)
