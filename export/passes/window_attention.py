"""`window-attention`: far into a text, attention with a sliding window is given the part of the cache that it sees.

GroupQueryAttention multiplies a row with every key that is cached and only then forgets those that lie before its
window: behind 4,000 tokens, seven eighths of what a window of 512 costs are for nothing. So each such attention stands
in an If. Past `last_near` positions it reads a copy of the cache from shortly before the window on, and the new codes
are written into the cache where it lies.

The copy begins at a multiple of 128 positions, and what lies before the window counts as zero. Where the kernel adds up
values in blocks of so many, these hold the same positions as in the whole cache, and a row has the same bits on either
branch. Elsewhere it has not: the size of blocks depends on the processor. So the manifest names the windows, and a
decoder ends its passes where the branch or the copy's beginning changes (docs/bundle.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from .branches import Branch, branch_of, moved, rows_of_pass
from .graph_editor import GraphEditor, Node, bodies
from .group_query_attention import CACHE, LENGTHS, POSITIONS, table_shape

__all__ = ["last_near", "window_attention", "windows"]

_BLOCK = 128
_EDGE = ".edge"


def last_near(window: int) -> int:
    """Most positions, new ones included, that are read whole: up to here the copy costs about what it saves."""
    return 2 * window + _BLOCK


def window_attention(graph: GraphEditor) -> bool:
    """Put every attention over a cache of int8 with a sliding window beside one over the end of that cache."""
    found = [(node, inner) for node, inner in _attentions(graph) if _reaches_far(graph, inner)]
    shared: dict[int, _Ends] = {}
    for node, attention in found:
        window = int(graph.attribute(attention, "local_window_size"))
        if window not in shared:
            shared[window] = _ends(graph, attention, window, node)
        graph.remove(node)
        graph.add(
            "If",
            [shared[window].condition],
            list(node.output),
            then_branch=_end(graph, attention, shared[window]),
            else_branch=moved(node, "whole"),
        )
    return bool(found)


def windows(graph: GraphEditor) -> tuple[int, ...]:
    """Windows of the attentions of a graph that read the end of their cache behind `last_near` positions, ascending."""
    found = (graph.scalar(name) for name in graph.initializers if name.startswith("window.") and name.endswith(_EDGE))
    return tuple(sorted((int(edge) - _BLOCK) // 2 for edge in found if edge is not None))


def _attentions(graph: GraphEditor) -> Iterator[tuple[Node, Node]]:
    """Each node that makes an attention's outputs, with the attention over codes in it: itself, or one in a branch."""
    for node in graph.nodes:
        for inner in (node, *(inner for body in bodies(node) for inner in body.node)):
            if inner.op_type == "GroupQueryAttention" and graph.attribute(inner, "kv_cache_bit_width"):
                yield node, inner


def _reaches_far(graph: GraphEditor, attention: Node) -> bool:
    window = graph.attribute(attention, "local_window_size", -1)
    tables = table_shape(graph, attention)
    # Without tables the graph does not say how long a text may be.
    return window > 0 and tables is not None and tables[0] > last_near(window)


@dataclass(frozen=True)
class _Ends:
    """Names of what the attentions of one window share: whether a pass is far, and if so, where all things lie."""

    condition: str
    past: str
    """Positions in the cache, int64 [1]."""
    start: str
    """The first of them that is copied, int64 [1]."""
    kept: str
    """How many are, int64 [1]."""
    lengths: tuple[str, str]
    """What the attention is told: the last position of the copy and the new rows, int32 [1], and their number."""
    positions: str
    """Those of the new rows in the text, int64 [1, rows]."""
    places: str
    """Where they lie in the cache, int64 [1, heads, rows, 3]."""


_TYPES = [onnx.TensorProto.INT64] * 3 + [onnx.TensorProto.INT32] * 2 + [onnx.TensorProto.INT64] * 2


def _ends(graph: GraphEditor, attention: Node, window: int, node: Node) -> _Ends:
    """Add what is computed once a pass, and only in those that are far."""
    last, total = attention.input[LENGTHS]
    name = f"window.{window}"
    edge = graph.store(name + _EDGE, np.array(last_near(window), np.int32))
    condition = graph.add("Greater", [total, edge], f"{name}.beyond")
    if node.op_type == "If":  # rows so many that attention over floats takes them
        few = graph.add("Not", [node.input[0]], f"{name}.few")
        condition = graph.add("And", [condition, few], f"{name}.far")
    far = Branch(graph, f"{name}.end", "window")
    one, block = far.store("one", [1]), far.store("block", [_BLOCK])
    wide = far.add("Cast", [total], "wide", to=onnx.TensorProto.INT64)
    begin = far.add("Sub", [wide, rows_of_pass(graph)], "begin")
    past = far.add("Reshape", [begin, one], "past")
    seen = far.add("Sub", [past, far.store(f"before.{window}", [window - 1])], "seen")
    blocks = far.add("Div", [seen, block], "blocks")
    start = far.add("Mul", [blocks, block], "start")
    kept = far.add("Sub", [past, start], "kept")
    start32 = far.add("Cast", [start], "start32", to=onnx.TensorProto.INT32)
    lengths = [far.add("Sub", [value, start32], f"{kind}32") for kind, value in (("last", last), ("total", total))]
    heads = int(graph.attribute(attention, "kv_num_heads"))
    new = far.range(begin, wide)
    positions = far.add("Reshape", [new, far.store("row", [1, -1])], "positions")
    made = [past, start, kept, *lengths, positions, far.places(new, heads)]
    near = Branch(graph, f"{name}.none", "window")
    none = [near.add("Constant", [], f"{at}", value=_nothing(kind)) for at, kind in enumerate(_TYPES)]
    outputs = [f"{name}.{at}" for at in range(len(made))]
    graph.add(
        "If",
        [condition],
        outputs,
        then_branch=branch_of(far.nodes, made, "shared", _TYPES),
        else_branch=branch_of(near.nodes, none, "shared", _TYPES),
    )
    past, start, kept, last, total, positions, places = outputs
    return _Ends(condition, past, start, kept, (last, total), positions, places)


def _nothing(kind: int) -> onnx.TensorProto:
    return onnx.helper.make_tensor("nothing", kind, [0], [])


def _end(graph: GraphEditor, attention: Node, ends: _Ends) -> onnx.GraphProto:
    """The branch over the end of the cache."""
    branch = Branch(graph, attention.input[CACHE][0], "window")
    axis, rest = branch.store("axis", [2]), branch.store("rest", [np.iinfo(np.int64).max])
    sides = list(zip(("key", "value"), attention.input[CACHE], strict=True))
    copies = [branch.add("Slice", [codes, ends.start, ends.past, axis], f"{kind}.end") for kind, codes in sides]
    inputs = list(attention.input)
    inputs[CACHE], inputs[LENGTHS], inputs[POSITIONS] = copies, ends.lengths, ends.positions
    rows, *presents = branch.attend(inputs, ["rows", "keys", "values"], **graph.attributes(attention))
    written = []
    for (kind, codes), present in zip(sides, presents, strict=True):
        new = branch.add("Slice", [present, ends.kept, rest, axis], f"{kind}.new")
        written.append(branch.add("ScatterND", [codes, ends.places, new], f"{kind}.written"))
    return branch_of(branch.nodes, [rows, *written], "end")
