"""`fuse-gelu`: the tanh approximation of GELU, eight nodes over the widest value of a layer, becomes one."""

from __future__ import annotations

import numpy as np

from .evaluate import run_part
from .graph_editor import CONTRIB, Array, GraphEditor, Node

__all__ = ["fuse_gelu"]


def fuse_gelu(graph: GraphEditor) -> bool:
    """Replace what computes a GELU around a Tanh, in whatever order its products are written."""
    changed = False
    for tanh in list(graph.of_type("Tanh")):
        source = _source(graph, tanh.input[0])
        for output in _outputs(graph, tanh) if source is not None else ():
            if source is not None and _is_gelu(graph, source, output):
                made = graph.maker(output)
                assert made is not None  # `_outputs` came by it
                graph.remove(made)
                graph.add("FastGelu", [source], output, domain=CONTRIB)
                changed = True
                break
    return changed


def _source(graph: GraphEditor, value: str) -> str | None:
    """The one value that a polynomial is computed from."""
    leaves, todo = set(), [value]
    while todo:
        name = todo.pop()
        node = graph.made_by(name, "Mul", "Add", "Pow")
        if graph.scalar(name) is not None:
            continue
        # The polynomial scales; what has no constant factor and is not a power of itself is where it starts.
        if node is None or (node.op_type != "Pow" and not _polynomial(graph, node)):
            leaves.add(name)
        else:
            todo.extend(node.input)
    return leaves.pop() if len(leaves) == 1 else None


def _polynomial(graph: GraphEditor, node: Node) -> bool:
    first, second = node.input
    if node.op_type == "Mul" and (
        first == second or graph.scalar(first) is not None or graph.scalar(second) is not None
    ):
        return True
    # x + c x^3, or x * x^2: one operand is computed from the other.
    for value, other in ((first, second), (second, first)):
        maker = graph.made_by(other, "Mul", "Pow")
        if maker is not None and (value in maker.input or _source(graph, other) == value):
            return True
    return False


def _outputs(graph: GraphEditor, tanh: Node) -> list[str]:
    """Values in which a GELU around this Tanh could end: after 1 + tanh, times x, times one half."""
    found: list[str] = []
    user = graph.only_user(tanh.output[0])
    while user is not None and user.op_type in ("Add", "Mul") and len(found) < 3:
        found.append(user.output[0])
        user = graph.only_user(user.output[0])
    return found[1:]


def _is_gelu(graph: GraphEditor, source: str, output: str) -> bool:
    x: Array = np.linspace(-6, 6, 97, dtype=np.float32).reshape(1, 1, -1)
    computed = run_part(graph, output, {source: x})
    cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return computed is not None and np.allclose(computed, 0.5 * x * (1 + np.tanh(cubic)), atol=1e-5)
