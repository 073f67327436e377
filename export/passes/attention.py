"""Recognises attention as Optimum writes it, by following edges from each Softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .graph_editor import GraphEditor, Node

__all__ = ["Attention", "Rotary", "find_attention"]


@dataclass(frozen=True)
class Rotary:
    """x * cos + turned(x) * sin: the value before it and the values that hold its cosines and sines."""

    before: str
    cos: str
    sin: str
    interleaved: bool
    """Whether a pair that turns is two neighbouring columns, and not one of each half of a head."""


@dataclass(frozen=True)
class Attention:
    """One layer's attention. Values are [batch, heads, sequence, head_size]."""

    layer: int
    query: str
    key: str
    value: str
    rotary: tuple[Rotary, Rotary] | None
    """Of query and key."""
    mask: str
    """What is added to the scores."""
    scale: float
    softcap: float
    output: str
    """[batch, sequence, heads * head_size], after the heads were put side by side."""
    appends: tuple[Node, Node]
    """The Concat nodes that put new keys and values after the past ones."""


def find_attention(graph: GraphEditor, head_size: int) -> list[Attention]:
    """Every attention that is recognised, sorted by layer."""
    found = (_match(graph, node, head_size) for node in graph.of_type("Softmax"))
    return sorted((attention for attention in found if attention is not None), key=lambda a: a.layer)


def _match(graph: GraphEditor, softmax: Node, head_size: int) -> Attention | None:
    masked = graph.made_by(softmax.input[0], "Add")
    output = _output(graph, softmax)
    if masked is None or output is None:
        return None
    combined, joined = output
    first, second = masked.input
    mask, (inside, factor, softcap) = second, _scores(graph, first, head_size)
    if inside is None:
        mask, (inside, factor, softcap) = first, _scores(graph, second, head_size)
    if inside is None:
        return None
    query, query_factor = _unscale(graph, inside.input[0], head_size)
    query = graph.uncast(query)
    present_key, key_factor = _repeated(graph, inside.input[1], head_size)
    present_value, _ = _repeated(graph, combined.input[1], head_size)
    parts = present_key.split(".")
    if len(parts) != 3 or parts[0] != "present" or present_value != f"present.{parts[1]}.value":
        return None
    appends = graph.made_by(present_key, "Concat"), graph.made_by(present_value, "Concat")
    if appends[0] is None or appends[1] is None:
        return None
    key = graph.uncast(appends[0].input[1])
    rotary = _rotary(graph, query), _rotary(graph, key)
    if (rotary[0] is None) != (rotary[1] is None):
        return None
    both = (rotary[0], rotary[1]) if rotary[0] is not None and rotary[1] is not None else None
    return Attention(
        layer=int(parts[1]),
        query=graph.uncast(both[0].before) if both else query,
        key=graph.uncast(both[1].before) if both else key,
        value=appends[1].input[1],
        rotary=both,
        mask=mask,
        scale=factor * query_factor * key_factor,
        softcap=softcap,
        output=joined,
        appends=(appends[0], appends[1]),
    )


def _scores(graph: GraphEditor, value: str, head_size: int) -> tuple[Node | None, float, float]:
    """The MatMul behind the scores, their factor, and the soft-cap (0 for none)."""
    value, factor = _unscale(graph, value, head_size)
    tanh = graph.made_by(value, "Tanh")
    softcap = 0.0
    if tanh is not None:
        softcap = factor
        value, inner = _unscale(graph, tanh.input[0], head_size)
        factor = inner * softcap
    return graph.made_by(value, "MatMul"), factor, softcap


def _unscale(graph: GraphEditor, value: str, head_size: int) -> tuple[str, float]:
    factor = 1.0
    while (node := graph.made_by(value, "Mul", "Div")) is not None:
        first, second = (_number(graph, name, head_size) for name in node.input)
        if second is not None:
            value, factor = node.input[0], factor * (second if node.op_type == "Mul" else 1 / second)
        elif first is not None and node.op_type == "Mul":
            value, factor = node.input[1], factor * first
        else:
            break
    return value, factor


def _number(graph: GraphEditor, value: str, head_size: int) -> float | None:
    """A scalar that is constant, or computed from the head size as GPT-2's scale is."""
    known = graph.scalar(value)
    node = graph.maker(value)
    if known is not None or node is None:
        return known
    if node.op_type == "Slice" and graph.made_by(node.input[0], "Shape") is not None:
        return float(head_size) if graph.scalar(node.input[1]) in (-1, 3) else None
    if node.op_type not in ("Cast", "Sqrt", "Div", "Mul"):
        return None
    numbers = [_number(graph, name, head_size) for name in node.input]
    operands = [number for number in numbers if number is not None]
    if len(operands) != len(numbers):
        return None
    if node.op_type == "Sqrt":
        return math.sqrt(operands[0])
    if node.op_type == "Cast":
        return operands[0]
    return operands[0] * operands[1] if node.op_type == "Mul" else operands[0] / operands[1]


def _repeated(graph: GraphEditor, value: str, head_size: int) -> tuple[str, float]:
    """Behind scaling, transposing, and the repetition of each KV head for its group of query heads."""
    factor = 1.0
    while True:
        value, more = _unscale(graph, value, head_size)
        factor *= more
        node = graph.made_by(value, "Transpose", "Reshape", "Expand", "Unsqueeze")
        if node is None:
            return value, factor
        value = node.input[0]


def _output(graph: GraphEditor, softmax: Node) -> tuple[Node, str] | None:
    """The MatMul of weights and values, and the value in which the heads are joined."""
    value = softmax.output[0]
    for _ in range(4):  # IsNaN and Where guard rows that are masked whole; a Cast may stand between
        users = [node for node in graph.users(value) if node.op_type != "IsNaN"]
        if len(users) != 1:
            return None
        if users[0].op_type == "MatMul":
            transpose = graph.only_user(users[0].output[0])
            if transpose is None or list(graph.attribute(transpose, "perm", [])) != [0, 2, 1, 3]:
                return None
            joined = [node for node in graph.users(transpose.output[0]) if node.op_type == "Reshape"]
            return (users[0], joined[0].output[0]) if len(joined) == 1 else None
        if users[0].op_type not in ("Where", "Cast"):
            return None
        value = users[0].output[0]
    return None


def _rotary(graph: GraphEditor, value: str) -> Rotary | None:
    partial = graph.made_by(value, "Concat")
    turned = graph.made_by(partial.input[0] if partial is not None else value, "Add")
    if turned is None:
        return None
    products = [graph.made_by(name, "Mul") for name in turned.input]
    if products[0] is None or products[1] is None:
        return None
    straight, crossed = products[0], products[1]
    before = straight.input[0]
    halves, pairs = _turns_halves(graph, crossed.input[0], before), _turns_pairs(graph, crossed.input[0], before)
    if not halves and not pairs:
        return None
    if partial is not None:  # only the first columns of a head turn, the others are put behind them unchanged
        turning, rest = graph.made_by(before, "Slice"), graph.made_by(partial.input[1], "Slice")
        if turning is None or rest is None or turning.input[0] != rest.input[0]:
            return None
        before = turning.input[0]
    return Rotary(before, straight.input[1], crossed.input[1], pairs)


def _turns_halves(graph: GraphEditor, value: str, before: str) -> bool:
    """Whether a value is (-second half, first half) of `before`."""
    halves = graph.made_by(value, "Concat")
    negated = graph.made_by(halves.input[0], "Neg") if halves is not None else None
    low = graph.made_by(halves.input[1], "Slice") if halves is not None else None
    high = graph.made_by(negated.input[0], "Slice") if negated is not None else None
    return low is not None and high is not None and low.input[0] == before and high.input[0] == before


def _turns_pairs(graph: GraphEditor, value: str, before: str) -> bool:
    """Whether a value is (-odd columns, even columns) of `before`, interleaved."""
    flat = graph.made_by(value, "Reshape")
    stacked = graph.made_by(flat.input[0], "Concat") if flat is not None else None
    sides = [graph.made_by(name, "Unsqueeze") for name in stacked.input] if stacked is not None else []
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        return False
    negated = graph.made_by(sides[0].input[0], "Neg")
    odd = graph.made_by(negated.input[0], "Slice") if negated is not None else None
    even = graph.made_by(sides[1].input[0], "Slice")
    if odd is None or even is None or odd.input[0] != before or even.input[0] != before:
        return False
    bounds = [[graph.scalar(name) for name in (node.input[1], node.input[4])] for node in (odd, even)]
    return bounds == [[1, 2], [0, 2]]
