"""`fold-tied-head`: a head that is the transposed embedding becomes a plain matrix.

Optimum writes the head of a tied model as MatMul(x, Transpose(embedding)). Quantisers only look at MatMul with an
initialiser, so the largest matrix of a small model would stay fp32; and ONNX Runtime stores the transposed copy anyway.
"""

from __future__ import annotations

from .graph_editor import GraphEditor
from .head import find_head

__all__ = ["fold_tied_head"]


def fold_tied_head(graph: GraphEditor) -> bool:
    """Give the head an initialiser [hidden, vocabulary] of its own."""
    head = find_head(graph)
    if head is None or head.op_type != "MatMul":
        return False
    transpose = graph.made_by(head.input[1], "Transpose")
    if transpose is None or list(graph.attribute(transpose, "perm", [1, 0])) != [1, 0]:
        return False
    table = graph.held(transpose.input[0]) if transpose.input[0] in graph.initializers else None
    if table is None:
        return False
    graph.rewire(head, head.input[1], graph.store("lm_head.weight.transposed", table.T))
    return True
