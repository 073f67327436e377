"""`shared-embedding`: a tied embedding reads its rows out of the head's matrix.

Folding the head gives a tied model its largest matrix twice. Here the embedding gathers columns of the head instead, so
that one table is stored, and quantising the head quantises both (`export.quantise` makes it a GatherBlockQuantized).
"""

from __future__ import annotations

from ..weights import equal
from .graph_editor import GraphEditor, Node
from .head import find_head

__all__ = ["SharedEmbedding", "find_shared_embedding", "shared_embedding"]

SharedEmbedding = tuple[Node, Node]
"""The Gather [hidden, batch, sequence] of columns and the Transpose [batch, sequence, hidden] behind it."""

_HIDDEN_LAST = [1, 2, 0]


def shared_embedding(graph: GraphEditor) -> bool:
    """Let the embedding read the head, if both hold the same numbers."""
    head, embedding = find_head(graph), _embedding(graph)
    if head is None or embedding is None:
        return False
    table, ids = embedding.input
    matrix = head.input[1]
    rows, columns = graph.dims(table), graph.dims(matrix)
    if rows is None or columns is None or rows != columns[::-1]:
        return False
    if not equal(graph.held(table), graph.held(matrix).T):
        return False
    graph.remove(embedding)
    gathered = graph.add("Gather", [matrix, ids], "embedding.columns", axis=1)
    graph.add("Transpose", [gathered], embedding.output[0], perm=_HIDDEN_LAST)
    return True


def find_shared_embedding(graph: GraphEditor, matrix: str) -> SharedEmbedding | None:
    """The nodes that the pass wrote, for the head's matrix of this name."""
    for gather in graph.users(matrix):
        if gather.op_type == "Gather" and graph.attribute(gather, "axis", 0) == 1:
            transpose = graph.only_user(gather.output[0])
            if transpose is not None and list(graph.attribute(transpose, "perm", [])) == _HIDDEN_LAST:
                return gather, transpose
    return None


def _embedding(graph: GraphEditor) -> Node | None:
    for node in graph.of_type("Gather"):
        if graph.root(node.input[1]) == "input_ids":
            return node
    return None
