"""Branches of an If around an attention, and what the passes that build them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .graph_editor import CONTRIB, Array, GraphEditor, Node

__all__ = ["Branch", "branch_of", "moved", "rows_of_pass"]

_ATTENTION = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.INT8)


def rows_of_pass(graph: GraphEditor) -> str:
    """Name of the int64 scalar that says how many tokens a pass reads; its nodes are added once."""
    made = "pass.rows"
    if graph.maker(made) is None:
        shape = graph.add("Shape", ["input_ids"], "pass.shape")
        graph.add("Gather", [shape, graph.store("pass.second", np.array(1))], made, axis=0)
    return made


def moved(node: Node, suffix: str) -> onnx.GraphProto:
    """A branch that is a copy of `node`, which makes an attention's three outputs."""
    copy = Node()
    copy.CopyFrom(node)
    del copy.output[:]
    copy.output.extend(f"{name}.{suffix}" for name in node.output)
    return branch_of([copy], copy.output, suffix)


def branch_of(
    nodes: Iterable[Node], outputs: Sequence[str], name: str, kinds: Sequence[int] = _ATTENTION
) -> onnx.GraphProto:
    """A branch with outputs of these ONNX element types: by default an attention's rows, and key and value as codes."""
    values = [helper.make_tensor_value_info(*pair, None) for pair in zip(outputs, kinds, strict=True)]
    return helper.make_graph(nodes, name, [], values)


class Branch:
    """Collects the nodes of a branch. Values are named after the attention's first output, or after `name`."""

    def __init__(self, graph: GraphEditor, name: str, constants: str) -> None:
        self.nodes: list[Node] = []
        """What was added, in order."""
        self._graph = graph
        self._name = name
        self._constants = constants

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node of one output and return that output."""
        made = f"{self._name}.{name}"
        self.nodes.append(helper.make_node(kind, inputs, [made], name=made, **attributes))
        return made

    def attend(self, inputs: Sequence[str], names: Sequence[str], **attributes: Any) -> list[str]:
        """Add a GroupQueryAttention and return its three outputs."""
        made = [f"{self._name}.{name}" for name in names]
        self.nodes.append(helper.make_node("GroupQueryAttention", inputs, made, domain=CONTRIB, **attributes))
        return made

    def store(self, name: str, values: Any) -> str:
        """Name of a constant that all branches of a pass share."""
        array: Array = np.asarray(values)
        return self._graph.store(f"{self._constants}.{name}", array)

    def range(self, first: str, end: str) -> str:
        """The positions from `first` up to `end`, int64 [rows]."""
        return self.add("Range", [first, end, self.store("step", 1)], "range")

    def places(self, positions: str, heads: int) -> str:
        """Where these positions of all heads lie in the cache of one text: indices [1, heads, rows, 3]."""
        column = self.add("Reshape", [positions, self.store("column", [1, 1, -1, 1])], "column")
        last = self.add("Mul", [column, self.store("last", [0, 0, 1])], "rows")
        corners = np.array([[0, head, 0] for head in range(heads)]).reshape(1, heads, 1, 3)
        return self.add("Add", [last, self.store(f"heads.{heads}", corners)], "places")
