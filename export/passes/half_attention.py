"""`half-attention`: attention computes in halves, in a graph that computes in floats elsewhere.

On CUDA GroupQueryAttention has no other kernels, and what stands around it may need the range of floats: the residual
stream of Gemma 3 overflows in halves, its queries, keys and values do not. Keys and values are cached in halves, too.
"""

from __future__ import annotations

import numpy as np
import onnx

from .graph_editor import CONTRIB, GraphEditor
from .group_query_attention import CACHE, LENGTHS, TABLES

__all__ = ["half_attention"]

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def half_attention(graph: GraphEditor) -> bool:
    """Put casts around every attention with a cache of floats."""
    types = {value.name: value.type.tensor_type.elem_type for value in graph.proto.input}
    attentions = [node for node in graph.of_type("GroupQueryAttention") if types.get(node.input[CACHE][0]) == _FLOAT]
    for node in attentions:
        name, *present = node.output
        sides = [
            value and graph.add("Cast", [value], f"{name}.{at}.half", to=_HALF)
            for at, value in enumerate(node.input[: CACHE.start])
        ]
        tables = [
            value and graph.store(f"{value}.half", np.asarray(graph.held(value)).astype(np.float16))
            for value in node.input[TABLES]
        ]
        graph.remove(node)
        graph.add(
            "GroupQueryAttention",
            [*sides, *node.input[CACHE], *node.input[LENGTHS], *tables],
            [f"{name}.half", *present],
            domain=CONTRIB,
            **graph.attributes(node),
        )
        graph.add("Cast", [f"{name}.half"], name, to=_FLOAT)
        for value in (*node.input[CACHE], *present):
            graph.retype(value, _HALF)
    return bool(attentions)
