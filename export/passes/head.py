"""Where the graph turns hidden states into logits."""

from __future__ import annotations

from .graph_editor import GraphEditor, Node

__all__ = ["LOGITS", "find_head"]

LOGITS = "logits"

_ELEMENTWISE = ("Mul", "Div", "Add", "Sub", "Tanh", "Cast", "Identity")


def find_head(graph: GraphEditor) -> Node | None:
    """The MatMul that makes the logits, before any element-wise node such as Gemma-2's soft-cap."""
    value = LOGITS
    while (node := graph.maker(value)) is not None:
        if node.op_type in ("MatMul", "MatMulNBits"):
            return node
        if node.op_type not in _ELEMENTWISE:
            return None
        computed = [name for name in node.input if not graph.is_constant(name)]
        if len(computed) != 1:
            return None
        value = computed[0]
    return None
