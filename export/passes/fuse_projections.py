"""`fuse-qkv` and `fuse-gate-up`: projections of the same hidden state become one matrix.

One larger product reads its input once and starts one parallel region instead of two or three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..weights import join
from .graph_editor import GraphEditor, Node

__all__ = ["fuse_gate_up", "fuse_qkv"]


def fuse_qkv(graph: GraphEditor) -> bool:
    """Join the projections of query, key and value in front of each GroupQueryAttention.

    Where nothing stands between, the operator takes the joined value as it is; otherwise it is split again.
    """
    changed = False
    for attention in list(graph.of_type("GroupQueryAttention")):
        if not attention.input[1]:
            continue
        direct = _projections(graph, attention.input[:3])
        behind = direct or _projections(graph, [_behind_norm(graph, name) for name in attention.input[:3]])
        if behind is None or len({node.output[0] for node in behind}) != 3:
            continue
        joined = _join(graph, behind, f"{attention.name or attention.output[0]}.qkv", split=direct is None)
        if direct is not None:
            _pack(graph, attention, joined)
        changed = True
    return changed


def fuse_gate_up(graph: GraphEditor) -> bool:
    """Join the two projections of a gated feed-forward layer."""
    joined: set[str] = set()
    for gate in list(graph.of_type("MatMul")):
        hidden, weight = gate.input
        dims = graph.dims(weight)
        if dims is None or hidden in joined:
            continue
        pair = [node for node in graph.users(hidden) if node.op_type == "MatMul" and graph.dims(node.input[1]) == dims]
        if len(pair) == 2 and _multiplied(graph, pair):
            _join(graph, pair, f"{pair[0].output[0]}.gate_up", split=True)
            joined.add(hidden)
    return bool(joined)


def _projections(graph: GraphEditor, values: Sequence[str]) -> list[Node] | None:
    """The three MatMul (with a bias added or not) that make some values, if they read the same hidden state."""
    found = []
    for value in values:
        node = graph.made_by(value, "MatMul")
        if node is None or graph.dims(node.input[1]) is None or graph.only_user(value) is None:
            return None
        found.append(node)
    return found if len({node.input[0] for node in found}) == 1 else None


def _behind_norm(graph: GraphEditor, value: str) -> str:
    """What a bias or a q/k norm was applied to."""
    while (node := graph.made_by(value, "Reshape", "SimplifiedLayerNormalization", "Add", "Cast")) is not None:
        computed = [name for name in node.input if not graph.is_constant(name)]
        if len(computed) != 1:
            break
        value = computed[0]
    return value


def _join(graph: GraphEditor, nodes: Sequence[Node], name: str, *, split: bool) -> str:
    weights = [graph.held(node.input[1]) for node in nodes]
    outputs = [node.output[0] for node in nodes]
    hidden = nodes[0].input[0]
    for node in nodes:
        graph.remove(node)
    joined = graph.add("MatMul", [hidden, graph.store(f"{name}.weight", join(weights, 1))], name)
    for node in nodes:
        if not graph.users(node.input[1]):
            graph.drop(node.input[1])
    if split:
        sizes = graph.store(f"{name}.sizes", np.array([weight.shape[1] for weight in weights]))
        graph.add("Split", [joined, sizes], outputs, axis=-1)
    return joined


def _pack(graph: GraphEditor, attention: Node, joined: str) -> None:
    """GroupQueryAttention reads query, key and value side by side from its first input when the next two are absent."""
    attributes = list(attention.attribute)
    inputs, outputs = [joined, "", "", *attention.input[3:]], list(attention.output)
    graph.remove(attention)
    made = graph.maker(graph.add(attention.op_type, inputs, outputs, domain=attention.domain))
    assert made is not None
    made.attribute.extend(attributes)


def _multiplied(graph: GraphEditor, pair: Sequence[Node]) -> bool:
    """Whether the products meet again: activation(gate) * up."""
    seen = [_elementwise(graph, node.output[0]) for node in pair]
    return bool(seen[0] & seen[1])


def _elementwise(graph: GraphEditor, value: str) -> set[int]:
    """Identities of the Mul nodes that a value reaches through element-wise nodes."""
    reached: set[int] = set()
    todo, seen = [value], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in graph.users(name):
            if node.op_type in ("Mul", "Sigmoid", "Tanh", "Add", "Pow", "Div", "Gelu", "FastGelu", "Erf", "Relu"):
                if node.op_type == "Mul":
                    reached.add(id(node))
                todo.extend(node.output)
    return reached
