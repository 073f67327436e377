"""`fuse-norms`: the seven nodes of an RMS norm become one SimplifiedLayerNormalization."""

from __future__ import annotations

from .graph_editor import GraphEditor, Node

__all__ = ["fuse_norms"]


def fuse_norms(graph: GraphEditor) -> bool:
    """Fuse weight * x / sqrt(mean(x^2) + epsilon) wherever it stands, q/k norms included."""
    changed = False
    for power in list(graph.of_type("Pow")):
        changed |= _fuse(graph, power)
    return changed


def _fuse(graph: GraphEditor, power: Node) -> bool:
    if graph.scalar(power.input[1]) != 2:
        return False
    x = power.input[0]
    mean = _next(graph, power, "ReduceMean")
    if mean is None or not _last_axis(graph, mean):
        return False
    add = _next(graph, mean, "Add")
    root = _next(graph, add, "Sqrt") if add is not None else None
    inverse = _next(graph, root, "Div", "Reciprocal") if root is not None else None
    if add is None or inverse is None:
        return False
    if inverse.op_type == "Div" and graph.scalar(inverse.input[0]) != 1:
        return False
    epsilon = next((number for name in add.input if (number := graph.scalar(name)) is not None), None)
    scaled = _next(graph, inverse, "Mul")
    if epsilon is None or scaled is None or x not in scaled.input:
        return False
    after = _next(graph, scaled, "Cast") or scaled  # back to the model's own type: nothing to do in fp32
    weighted = _next(graph, after, "Mul")
    weight = next((name for name in weighted.input if graph.dims(name) is not None), None) if weighted else None
    if weighted is None or weight is None or len(graph.dims(weight) or ()) != 1:
        return False
    graph.remove(weighted)
    graph.add(
        "SimplifiedLayerNormalization",
        [graph.uncast(x), weight],
        weighted.output[0],
        axis=-1,
        epsilon=epsilon,
        stash_type=1,
    )
    return True


def _next(graph: GraphEditor, node: Node, *kinds: str) -> Node | None:
    user = graph.only_user(node.output[0])
    return user if user is not None and user.op_type in kinds else None


def _last_axis(graph: GraphEditor, mean: Node) -> bool:
    axes = graph.constant(mean.input[1]) if len(mean.input) > 1 else graph.attribute(mean, "axes")
    return axes is not None and [int(axis) for axis in axes] == [-1] and graph.attribute(mean, "keepdims", 1) == 1
