"""`separate-heads`: a projection that gives each head its query, key and value side by side becomes three.

GPT-NeoX lays its weights so. With the columns put in another order, the queries of all heads come from one matrix, and
so do keys and values, which is how every other architecture has them and what later passes know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .evaluate import run_part
from .graph_editor import Array, GraphEditor, Node

__all__ = ["separate_heads"]

_PROBE_TOKENS = 2


def separate_heads(graph: GraphEditor, config: Mapping[str, Any]) -> bool:
    """Rewrite each such projection; the values of its three parts keep their names."""
    heads = int(config.get("num_attention_heads") or 0)
    changed = False
    for transpose in list(graph.of_type("Transpose")):
        changed |= heads > 0 and _separate(graph, transpose, heads)
    return changed


def _separate(graph: GraphEditor, transpose: Node, heads: int) -> bool:
    split = graph.made_by(transpose.input[0], "Reshape")
    parts = [node for node in graph.users(transpose.output[0]) if node.op_type == "Slice"]
    if split is None or len(parts) != 3:
        return False
    bias, product = _biased(graph, split.input[0])
    weight = graph.dims(product.input[1]) if product is not None else None
    if product is None or weight is None or weight[1] % (3 * heads):
        return False
    order = _order(graph, product.input[0], split.input[0], [part.output[0] for part in parts], weight, heads)
    if order is None:
        return False
    matrix = _by_part(np.asarray(graph.held(product.input[1])), heads)
    offsets = _by_part(np.asarray(graph.held(bias)), heads) if bias is not None else None
    name, head_size = product.output[0], weight[1] // (3 * heads)
    shape = graph.store(f"heads.{heads}.{head_size}", np.array([0, 0, heads, head_size]))
    for part, place in zip(parts, order, strict=True):
        value, kind = part.output[0], ("query", "key", "value")[place]
        graph.remove(part)
        made = graph.add(
            "MatMul", [product.input[0], graph.store(f"{name}.{kind}.weight", matrix[place])], f"{name}.{kind}"
        )
        if offsets is not None:
            made = graph.add("Add", [made, graph.store(f"{name}.{kind}.bias", offsets[place])], f"{made}.biased")
        made = graph.add("Reshape", [made, shape], f"{name}.{kind}.heads")
        graph.add("Transpose", [made], value, perm=[0, 2, 1, 3])
    return True


def _biased(graph: GraphEditor, value: str) -> tuple[str | None, Node | None]:
    """The bias that is added in front of a value, if any, and the product behind it."""
    added = graph.made_by(value, "Add")
    if added is None:
        return None, graph.made_by(value, "MatMul")
    first, second = added.input
    bias, product = (first, second) if first in graph.initializers else (second, first)
    return (bias, graph.made_by(product, "MatMul")) if graph.dims(bias) is not None else (None, None)


def _order(
    graph: GraphEditor, hidden: str, joined: str, parts: list[str], weight: tuple[int, ...], heads: int
) -> list[int] | None:
    """Which third of each head every part is, found out by running what is between; `None` where one is no third."""
    columns = weight[1]
    numbers = np.arange(_PROBE_TOKENS * columns, dtype=np.float32).reshape(1, _PROBE_TOKENS, columns)
    feeds = {hidden: np.zeros((1, _PROBE_TOKENS, weight[0]), np.float32), joined: numbers}
    thirds = [third.reshape(1, _PROBE_TOKENS, heads, -1).transpose(0, 2, 1, 3) for third in _by_part(numbers, heads)]
    found = []
    for part in parts:
        value = run_part(graph, part, feeds)
        found += [place for place, third in enumerate(thirds) if value is not None and np.array_equal(value, third)]
    return found if sorted(found) == [0, 1, 2] else None


def _by_part(array: Array, heads: int) -> list[Array]:
    """Columns of heads * (query, key, value) as three arrays of the columns of all heads."""
    apart = array.reshape(*array.shape[:-1], heads, 3, -1)
    return [apart[..., part, :].reshape(*array.shape[:-1], -1) for part in range(3)]
