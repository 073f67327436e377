"""`prompt-attention`: many rows at once are read with attention over floats, and then rounded into the cache.

The kernel for a cache of eight bits takes each row by itself, which is what a step wants; over the hundreds of rows of
a prompt ONNX Runtime's product of float matrices is several times as fast, and the new keys and values are read before
they are rounded. Both are in the graph, and each pass takes one of them: the branches of an If write into the cache
where it lies. Their last bits differ, so the number of rows is a part of what the graph computes (`PROMPT_ROWS`).
"""

from __future__ import annotations

import numpy as np
import onnx

from .branches import Branch, branch_of, moved, rows_of_pass
from .graph_editor import GraphEditor, Node
from .group_query_attention import CACHE, LENGTHS, SCALES, TABLES
from .int8_cache import LEVELS

__all__ = ["MANY", "PROMPT_ROWS", "prompt_attention"]

PROMPT_ROWS = 128
"""The least rows of a pass that is read as a prompt. With fewer, rounding and copying the cache costs what it saves."""

MANY = "prompt.many"
"""The value that says whether a pass has so many rows."""

_QUANTISED = ("k_quant_type", "v_quant_type", "kv_cache_bit_width")


def prompt_attention(graph: GraphEditor) -> bool:
    """Put every attention with a cache of int8 beside one over floats, for passes of `PROMPT_ROWS` or more."""
    attentions = [node for node in graph.of_type("GroupQueryAttention") if graph.attribute(node, "kv_cache_bit_width")]
    if not attentions:
        return False
    rows = rows_of_pass(graph)
    fewer = graph.store("prompt.fewer", np.array(PROMPT_ROWS - 1))
    condition = graph.add("Greater", [rows, fewer], MANY)
    for node in attentions:
        graph.remove(node)
        graph.add(
            "If",
            [condition],
            list(node.output),
            then_branch=_Floats(graph, node, rows).body(),
            else_branch=moved(node, "codes"),
        )
    return True


class _Floats:
    """Builds the branch that reads an attention's cache as floats, and writes the new rows into it as codes."""

    def __init__(self, graph: GraphEditor, attention: Node, rows: str) -> None:
        self._graph = graph
        self._attention = attention
        self._rows = rows
        self._heads = int(graph.attribute(attention, "kv_num_heads"))
        self._branch = Branch(graph, attention.output[0], "prompt")

    def body(self) -> onnx.GraphProto:
        node, branch = self._attention, self._branch
        total = branch.add("Cast", [node.input[LENGTHS][1]], "total", to=onnx.TensorProto.INT64)
        past = branch.add("Sub", [total, self._rows], "past")
        start = branch.add("Reshape", [past, branch.store("one", [1])], "start")
        sides = list(zip(("key", "value"), node.input[CACHE], node.input[SCALES], strict=True))
        cache = [self._restored(kind, codes, scale, start) for kind, codes, scale in sides]
        attributes = self._graph.attributes(node)
        for name in _QUANTISED:
            del attributes[name]
        rows, *presents = branch.attend(
            [*node.input[:3], *cache, *node.input[LENGTHS], *node.input[TABLES]],
            ["floats", "keys", "values"],
            **attributes,
        )
        places = branch.places(branch.range(past, total), self._heads)
        written = [
            self._written(kind, codes, scale, present, start, places)
            for (kind, codes, scale), present in zip(sides, presents, strict=True)
        ]
        return branch_of(branch.nodes, [rows, *written], "floats")

    def _restored(self, kind: str, codes: str, scale: str, length: str) -> str:
        """The first positions of a cache as floats."""
        branch = self._branch
        kept = branch.add("Slice", [codes, branch.store("start", [0]), length, self._axis()], f"{kind}.kept")
        floats = branch.add("Cast", [kept], f"{kind}.cast", to=onnx.TensorProto.FLOAT)
        return branch.add("Mul", [floats, self._scale(scale, "flat", 1)], f"{kind}.restored")

    def _written(self, kind: str, cache: str, scale: str, present: str, start: str, places: str) -> str:
        """The cache with codes of what is new in `present`."""
        branch = self._branch
        end = branch.store("end", [np.iinfo(np.int64).max])
        value = branch.add("Slice", [present, start, end, self._axis()], f"{kind}.new")
        value = branch.add("Mul", [value, self._scale(scale, "inverse", -1)], f"{kind}.scaled")
        value = branch.add("Round", [value], f"{kind}.rounded")
        low, high = (branch.store(f"level.{level}", np.float32(level)) for level in LEVELS)
        value = branch.add("Clip", [value, low, high], f"{kind}.clipped")
        value = branch.add("Cast", [value], f"{kind}.codes", to=onnx.TensorProto.INT8)
        return branch.add("ScatterND", [cache, places, value], f"{kind}.written")

    def _axis(self) -> str:
        return self._branch.store("axis", [2])

    def _scale(self, name: str, kind: str, power: int) -> str:
        scale = np.asarray(self._graph.held(name)) ** power
        return self._graph.store(f"{name}.{kind}", scale.reshape(1, self._heads, 1, -1))
