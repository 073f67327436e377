"""`steady-rows`: what a row computes does not depend on how many rows its pass has, not even one.

MatMulNBits gives a row the same bits in a pass of any size. The products of floats that are left, those inside
attention, do not: ONNX Runtime multiplies a single row with another kernel than several, which sums in
another order. Here they never see a single row: a pass of one token hands them its row twice and drops the second
result. So a decoder may step by one row and check several at once, and both agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from .graph import Graph, Node

__all__ = ["steady_rows"]

_LENGTHS = ("seqlens_k", "total_sequence_length")
_ROW_BY_ROW = ("SimplifiedLayerNormalization", "Split", "Reshape")
"""What stands between a projection and attention and works on each row by itself."""


def steady_rows(graph: Graph, config: Mapping[str, Any]) -> bool:
    """Pair single rows in front of attention; the cache then holds one position more.

    Runs behind quantisation: in a graph of floats every product would need it, and feeding two rows is cheaper.
    """
    attentions = list(graph.of_type("GroupQueryAttention"))
    if not attentions or any(graph.of_type("MatMul", "Gemm")):
        return False
    rows = _Rows(graph)
    for name in _LENGTHS:
        longer = graph.add("Add", [name, rows.extra], f"{name}.paired")
        for attention in attentions:
            graph.rewire(attention, name, longer)
    for attention in attentions:
        sources = {_projection(graph, value) for value in attention.input[:3] if value}
        rows.pair(sources, attention.output[0])
    return True


class _Rows:
    """Indices that double a single row and take one back, and leave several rows as they are."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        zero, one, two = (graph.store(f"rows.{number}", np.array(number)) for number in range(3))
        shape = graph.add("Shape", ["input_ids"], "rows.shape")
        count = graph.add("Gather", [shape, one], "rows.count", axis=0)
        paired = graph.add("Max", [count, two], "rows.paired")
        last = graph.add("Sub", [count, one], "rows.last")
        self._doubled = graph.add("Min", [graph.add("Range", [zero, paired, one], "rows.range"), last], "rows.doubled")
        self._single = graph.add("Range", [zero, count, one], "rows.single")
        added = graph.add("Sub", [paired, count], "rows.added")
        self.extra = graph.add("Cast", [added], "rows.extra", to=onnx.TensorProto.INT32)
        """How many rows are added: one or none, int32."""

    def pair(self, sources: set[str], result: str) -> None:
        """Double the `sources` for whoever reads them, and undo it behind `result`."""
        for source in sources:
            self._read_through(source, f"{source}.paired", self._doubled)
        self._read_through(result, f"{result}.taken", self._single)

    def _read_through(self, value: str, name: str, rows: str) -> None:
        users = self._graph.users(value)
        picked = self._graph.add("Gather", [value, rows], name, axis=1)
        for user in users:
            self._graph.rewire(user, value, picked)


def _projection(graph: Graph, value: str) -> str:
    """The value [batch, sequence, ...] that query, key or value were split from, where they were."""
    while (node := graph.made_by(value, *_ROW_BY_ROW)) is not None and _keeps_rows(graph, node):
        value = node.input[0]
    return value


def _keeps_rows(graph: Graph, node: Node) -> bool:
    if node.op_type != "Reshape":
        return True
    shape = graph.constant(node.input[1])
    return shape is not None and list(shape[:2]) == [0, 0]
