"""`prompt-attention`: many rows at once are read with attention over floats, and then rounded into the cache.

The kernel for a cache of eight bits takes each row by itself, which is what a step wants; over the hundreds of rows of
a prompt ONNX Runtime's product of float matrices is several times as fast, and the new keys and values are read before
they are rounded. Both are in the graph, and each pass takes one of them: the branches of an If write into the cache
where it lies. Their last bits differ, so the number of rows is a part of what the graph computes (`PROMPT_ROWS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .graph import CONTRIB, Graph, Node
from .int8_cache import LEVELS

__all__ = ["PROMPT_ROWS", "prompt_attention"]

PROMPT_ROWS = 128
"""The least rows of a pass that is read as a prompt. With fewer, rounding and copying the cache costs what it saves."""

_CACHE, _LENGTHS, _TABLES, _SCALES = slice(3, 5), slice(5, 7), slice(7, 9), slice(12, 14)
_QUANTISED = ("k_quant_type", "v_quant_type", "kv_cache_bit_width")


def prompt_attention(graph: Graph, config: Mapping[str, Any]) -> bool:
    """Put every attention with a cache of int8 beside one over floats, for passes of `PROMPT_ROWS` or more."""
    attentions = [node for node in graph.of_type("GroupQueryAttention") if graph.attribute(node, "kv_cache_bit_width")]
    if not attentions:
        return False
    shape = graph.add("Shape", ["input_ids"], "prompt.shape")
    rows = graph.add("Gather", [shape, graph.store("prompt.second", np.array(1))], "prompt.rows", axis=0)
    fewer = graph.store("prompt.fewer", np.array(PROMPT_ROWS - 1))
    condition = graph.add("Greater", [rows, fewer], "prompt.many")
    for node in attentions:
        graph.remove(node)
        graph.add(
            "If",
            [condition],
            list(node.output),
            then_branch=_Floats(graph, node, rows).body(),
            else_branch=_over_codes(node),
        )
    return True


def _over_codes(node: Node) -> onnx.GraphProto:
    copy = Node()
    copy.CopyFrom(node)
    del copy.output[:]
    copy.output.extend(f"{name}.codes" for name in node.output)
    return _body("over_codes", [copy], list(copy.output))


class _Floats:
    """Builds the branch that reads an attention's cache as floats, and writes the new rows into it as codes."""

    def __init__(self, graph: Graph, attention: Node, rows: str) -> None:
        self._graph = graph
        self._attention = attention
        self._rows = rows
        self._name = attention.output[0]
        self._heads = int(graph.attribute(attention, "kv_num_heads"))
        self._nodes: list[Node] = []

    def body(self) -> onnx.GraphProto:
        node = self._attention
        total = self._add("Cast", [node.input[_LENGTHS][1]], "total", to=onnx.TensorProto.INT64)
        past = self._add("Sub", [total, self._rows], "past")
        start = self._add("Reshape", [past, self._store("one", np.array([1]))], "start")
        sides = list(zip(("key", "value"), node.input[_CACHE], node.input[_SCALES], strict=True))
        cache = [self._restored(kind, codes, scale, start) for kind, codes, scale in sides]
        attributes = self._graph.attributes(node)
        for name in _QUANTISED:
            del attributes[name]
        outputs = [f"{self._name}.{kind}" for kind in ("floats", "keys", "values")]
        self._nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [*node.input[:3], *cache, *node.input[_LENGTHS], *node.input[_TABLES]],
                outputs,
                domain=CONTRIB,
                **attributes,
            )
        )
        places = self._places(past, total)
        written = [
            self._written(kind, codes, scale, present, start, places)
            for (kind, codes, scale), present in zip(sides, outputs[1:], strict=True)
        ]
        return _body("over_floats", self._nodes, [outputs[0], *written])

    def _restored(self, kind: str, codes: str, scale: str, length: str) -> str:
        """The first positions of a cache as floats."""
        kept = self._add("Slice", [codes, self._store("start", np.array([0])), length, self._axis()], f"{kind}.kept")
        floats = self._add("Cast", [kept], f"{kind}.cast", to=onnx.TensorProto.FLOAT)
        return self._add("Mul", [floats, self._scale(scale, "flat", 1)], f"{kind}.restored")

    def _written(self, kind: str, cache: str, scale: str, present: str, start: str, places: str) -> str:
        """The cache with codes of what is new in `present`."""
        end = self._store("end", np.array([np.iinfo(np.int64).max]))
        value = self._add("Slice", [present, start, end, self._axis()], f"{kind}.new")
        value = self._add("Mul", [value, self._scale(scale, "inverse", -1)], f"{kind}.scaled")
        value = self._add("Round", [value], f"{kind}.rounded")
        low, high = (self._store(f"level.{level}", np.array(level, np.float32)) for level in LEVELS)
        value = self._add("Clip", [value, low, high], f"{kind}.clipped")
        value = self._add("Cast", [value], f"{kind}.codes", to=onnx.TensorProto.INT8)
        return self._add("ScatterND", [cache, places, value], f"{kind}.written")

    def _places(self, past: str, total: str) -> str:
        """Where the new rows of a cache of one text lie: its indices [1, heads, rows, 3]."""
        positions = self._add("Range", [past, total, self._store("step", np.array(1))], "range")
        column = self._add("Reshape", [positions, self._store("column", np.array([1, 1, -1, 1]))], "column")
        last = self._add("Mul", [column, self._store("last", np.array([0, 0, 1]))], "positions")
        heads = np.array([[0, head, 0] for head in range(self._heads)]).reshape(1, self._heads, 1, 3)
        return self._add("Add", [last, self._store(f"heads.{self._heads}", heads)], "places")

    def _axis(self) -> str:
        return self._store("axis", np.array([2]))

    def _scale(self, name: str, kind: str, power: int) -> str:
        held = self._graph.constant(name)
        assert held is not None  # the pass before stored it
        return self._graph.store(f"{name}.{kind}", (held**power).reshape(1, self._heads, 1, -1))

    def _store(self, name: str, array: Any) -> str:
        return self._graph.store(f"prompt.{name}", array)

    def _add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        made = f"{self._name}.{name}"
        self._nodes.append(helper.make_node(kind, inputs, [made], name=made, **attributes))
        return made


def _body(name: str, nodes: list[Node], outputs: list[str]) -> onnx.GraphProto:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.INT8)
    values = [helper.make_tensor_value_info(*pair, None) for pair in zip(outputs, kinds, strict=True)]
    return helper.make_graph(nodes, name, [], values)
