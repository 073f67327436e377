"""The matrices of a layer that four bits hurt most."""

from __future__ import annotations

from ..passes.graph_editor import GraphEditor, Node

__all__ = ["sensitive_products"]

_PRODUCTS = ("MatMul", "Gemm")


def sensitive_products(graph: GraphEditor) -> list[Node]:
    """The products that make queries, keys and values, and those that lead back out of a feed-forward layer.

    The former stand before attention, the latter behind an activation or the product with a gate. Where attention is
    not one operator, they are not found.
    """
    found = [
        _product_behind(graph, value)
        for attention in graph.of_type("GroupQueryAttention")
        for value in attention.input[:3]
        if value
    ]
    return [node for node in found if node is not None] + [
        node for node in graph.of_type(*_PRODUCTS) if _behind_activation(graph, node.input[0])
    ]


def _product_behind(graph: GraphEditor, value: str) -> Node | None:
    """The product that a value is computed from, by operators with one computed input each."""
    while (node := graph.maker(graph.root(value))) is not None:
        if node.op_type in _PRODUCTS:
            return node
        computed = [name for name in node.input if name and not graph.is_constant(name)]
        if len(computed) != 1:
            return None
        value = computed[0]
    return None


def _behind_activation(graph: GraphEditor, value: str) -> bool:
    node = graph.made_by(graph.root(value), "Mul", "FastGelu", "Gelu")
    if node is None:
        return False
    # A norm ends in a Mul too, but with its weights.
    return node.op_type != "Mul" or not any(graph.is_constant(name) for name in node.input)
