"""`separate-experts`: a product of all experts at once becomes one for each, whose matrix can be quantised.

gpt-oss keeps the matrices of its experts in one array, and its graph multiplies them in one batch. Quantised products
take one matrix.
"""

from __future__ import annotations

import numpy as np

from .graph_editor import GraphEditor, Node

__all__ = ["separate_experts"]


def separate_experts(graph: GraphEditor) -> bool:
    """Rewrite each product with a weight `[experts, inputs, outputs]`."""
    batched = [
        node for node in graph.of_type("MatMul") if (dims := graph.dims(node.input[1])) is not None and len(dims) == 3
    ]
    for node in batched:
        _separate(graph, node)
    return bool(batched)


def _separate(graph: GraphEditor, node: Node) -> None:
    hidden, weight = node.input
    output, name = node.output[0], node.name or node.output[0]
    matrices = np.asarray(graph.held(weight))
    experts = len(matrices)
    graph.remove(node)
    if not graph.users(weight):
        graph.drop(weight)
    # What all experts read may be there once.
    all_of_them = graph.store(f"experts.{experts}", np.array([experts, 1, 1]))
    expanded = graph.add("Expand", [hidden, all_of_them], f"{name}.read")
    parts = [f"{name}.{expert}.read" for expert in range(experts)]
    graph.add("Split", [expanded, graph.store(f"experts.{experts}.sizes", np.ones(experts, np.int64))], parts, axis=0)
    made = [
        graph.add("MatMul", [part, graph.store(f"{name}.{expert}.weight", matrix)], f"{name}.{expert}")
        for expert, (part, matrix) in enumerate(zip(parts, matrices, strict=True))
    ]
    graph.add("Concat", made, output, axis=0)
