"""`group-query-attention`: each layer's attention becomes one operator with its KV cache in place.

Optimum's attention copies the whole past at every step (Concat), repeats it for every query head and builds a mask.
ONNX Runtime's GroupQueryAttention writes new keys and values behind the past ones in the same buffer, turns (rotary)
query and key itself, and knows sliding windows and soft-capping.

Rotary tables and windows are read out of the graph by running that part of it, so every scaling of positions that the
exporter knows is right here too. What is not exactly a causal mask, or a table that depends on the length, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .attention import Attention, find_attention
from .evaluate import evaluate
from .graph_editor import CONTRIB, Array, GraphEditor, Node

__all__ = [
    "CACHE",
    "CONTEXT_LIMIT",
    "LENGTHS",
    "POSITIONS",
    "SCALES",
    "TABLES",
    "context_rows",
    "group_query_attention",
    "table_shape",
]

CACHE, LENGTHS, TABLES, POSITIONS, SCALES = slice(3, 5), slice(5, 7), slice(7, 9), 9, slice(12, 14)
"""Where the operator takes past key and value, positions before and in all, cosines and sines, the positions of the
new rows, and the scales of a cache of codes."""

CONTEXT_LIMIT = 32_768
"""Most positions that a rotary table holds unless more are asked for. A table costs 4 * head_size bytes a position and
kind of layer: 64 MiB for 131,072 positions of Llama 2 7B, and as much for a very small model with such heads."""

_MASK_ROWS = 16

_TABLE_COLUMNS = 8
"""The operator only takes tables whose width is a multiple of this."""


def table_shape(graph: GraphEditor, attention: Node) -> tuple[int, ...] | None:
    """Positions and columns of the rotary tables of a GroupQueryAttention; `None` if it has none."""
    return graph.dims(attention.input[TABLES][0]) if graph.attribute(attention, "do_rotary", 0) else None


def context_rows(config: Mapping[str, Any], context: int = CONTEXT_LIMIT) -> int:
    """Positions that the rewritten graph can tell apart: `context`, or the model's own if those are fewer."""
    return min(int(config.get("max_position_embeddings") or config.get("n_positions") or context), context)


def group_query_attention(graph: GraphEditor, config: Mapping[str, Any], context: int = CONTEXT_LIMIT) -> bool:
    """Rewrite all layers for texts of `context` positions, or none if one of them is not recognised."""
    shape = _past_shape(graph)
    if shape is None:
        return False
    layers, kv_heads, head_size = shape
    attentions = find_attention(graph, head_size)
    if [attention.layer for attention in attentions] != list(range(layers)):
        return False
    windows = _Windows(graph, config, context_rows(config, context))
    tables = _Tables(graph, context_rows(config, context))
    plans = []
    for attention in attentions:
        window = windows.of(attention.mask)
        rotary = tables.of(attention)
        sides = [_flatten(graph, value) for value in (attention.query, attention.key, attention.value)]
        if window is None or rotary is None or any(side is None for side in sides):
            return False
        plans.append((attention, window, rotary))
    if not _closed(graph, attentions):
        return False
    heads = int(config.get("num_attention_heads") or config["n_head"])
    lengths = _lengths(graph)
    for attention, window, rotary in plans:
        _rewrite(graph, attention, heads, kv_heads, head_size, window, [*lengths, *tables.store(rotary)])
    for layer in range(layers):
        for kind in ("key", "value"):
            for name in (f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"):
                graph.reshape(name, ["batch_size", kv_heads, "capacity", head_size])
    return True


def _past_shape(graph: GraphEditor) -> tuple[int, int, int] | None:
    keys = [v for v in graph.proto.input if v.name.startswith("past_key_values.") and v.name.endswith(".key")]
    shapes = {tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in keys}
    if len(shapes) != 1 or "attention_mask" not in graph.inputs:
        return None
    _, kv_heads, _, head_size = shapes.pop()
    return len(keys), kv_heads, head_size


class _Windows:
    """Reads from a mask how far back its layer looks.

    A whole mask of a long window takes gigabytes. A few of its rows tell as much: those of a short text, those where
    the window begins to leave out what lies before it, and the last one that the context has room for.
    """

    def __init__(self, graph: GraphEditor, config: Mapping[str, Any], context: int) -> None:
        self._graph = graph
        self._context = context
        # A window that no text fills is none.
        self._edge = min(int(config.get("sliding_window") or _MASK_ROWS), self._context)
        self._known: dict[str, int | None] = {}

    def of(self, mask: str) -> int | None:
        """Positions that a token sees, itself included; -1 for all; `None` if the mask is of another kind."""
        key = self._shared(mask)
        if key not in self._known:
            self._known[key] = self._measure(mask)
        return self._known[key]

    def _shared(self, mask: str) -> str:
        """Layers cut their mask out of one that they share; the name of that one."""
        where = self._graph.made_by(mask, "Where")
        cut = self._graph.made_by(where.input[0] if where is not None else mask, "Slice")
        return cut.input[0] if cut is not None else mask

    def _measure(self, mask: str) -> int | None:
        last = self._edge + _MASK_ROWS // 2
        turn = self._visible(mask, min(_MASK_ROWS, last), max(0, last - _MASK_ROWS))
        if turn is None:
            return None
        window = int(turn[-1].sum())
        window = -1 if window == last else window
        parts = [turn, self._visible(mask, _MASK_ROWS, 0), self._visible(mask, 1, self._context - 1)]
        return window if all(part is not None and _looks_back(part, window) for part in parts) else None

    def _visible(self, mask: str, rows: int, past: int) -> npt.NDArray[np.bool_] | None:
        """Which positions each of `rows` tokens behind `past` others sees, [rows, past + rows]."""
        bias = evaluate(self._graph, mask, rows, past)
        if bias is None or bias.shape[-2:] != (rows, past + rows):
            return None
        visible: npt.NDArray[np.bool_] = bias.reshape(-1, rows, past + rows)[0] == 0
        return visible


def _looks_back(visible: npt.NDArray[np.bool_], window: int) -> bool:
    """Whether the last rows of a mask see `window` positions each, themselves included, or all with -1."""
    rows, total = visible.shape
    row, column = np.ogrid[total - rows : total, :total]
    seen = (column <= row) & ((column > row - window) | (window < 0))
    return bool(np.array_equal(visible, seen))


class _Tables:
    """Reads cosines and sines of all positions out of the graph."""

    def __init__(self, graph: GraphEditor, rows: int) -> None:
        self._graph = graph
        self._rows = rows
        self._tables: dict[str, Array] = {}
        self._keys: dict[str, str | None] = {}

    def of(self, attention: Attention) -> tuple[str, ...] | None:
        """Keys of the layer's two tables, none for a model without rotary; `None` if they are of another kind."""
        if attention.rotary is None:
            return ()
        query, key = attention.rotary
        names = self._shared(query.cos), self._shared(query.sin)
        if names != (self._shared(key.cos), self._shared(key.sin)) or query.interleaved != key.interleaved:
            return None
        keys = [self._key(name, query.interleaved) for name in names]
        found = tuple(key for key in keys if key is not None)
        return found if len(found) == len(keys) else None

    def store(self, keys: tuple[str, ...]) -> list[str]:
        """Names of the initialisers [rows, rotated columns / 2]."""
        return [self._graph.store(f"rotary.{sorted(self._tables).index(key)}", self._tables[key]) for key in keys]

    def _shared(self, value: str) -> str:
        unsqueeze = self._graph.made_by(value, "Unsqueeze")
        return unsqueeze.input[0] if unsqueeze is not None else value

    def _key(self, name: str, interleaved: bool) -> str | None:
        """One key for all values that hold the same table: some architectures make it in each layer."""
        if name not in self._keys:
            self._keys[name] = None
            table = self._measure(name, interleaved)
            if table is not None:
                key = next((key for key, known in self._tables.items() if np.array_equal(known, table)), name)
                self._keys[name] = key
                self._tables[key] = table
        return self._keys[name]

    def _measure(self, name: str, interleaved: bool) -> Array | None:
        few = min(16, self._rows)
        whole, start = (self._rows_of(name, tokens) for tokens in (self._rows, few))
        if whole is None or start is None:
            return None
        half = whole.shape[-1] // 2
        first, second = (whole[:, ::2], whole[:, 1::2]) if interleaved else (whole[:, :half], whole[:, half:])
        if not np.array_equal(first, second) or half % _TABLE_COLUMNS:
            return None
        # Dynamic and long scalings change the table with the length of the text: no fixed table holds them.
        return first if np.allclose(whole[:few], start, atol=1e-6) else None

    def _rows_of(self, name: str, tokens: int) -> Array | None:
        """A value for so many tokens, [tokens, rotated columns]; `None` if it is no table."""
        found = evaluate(self._graph, name, tokens)
        if (
            found is None
            or found.ndim not in (3, 4)
            or found.shape[-2] != tokens
            or found.size != tokens * found.shape[-1]
        ):
            return None
        return found.reshape(tokens, -1)


def _flatten(graph: GraphEditor, value: str) -> tuple[str, onnx.NodeProto | None] | None:
    """[batch, heads, sequence, head_size] back to before the heads were moved, and the norm in between, if any.

    The value is [batch, sequence, heads * head_size], or [batch, sequence, heads, head_size] behind a norm.
    """
    norm = graph.made_by(value, "SimplifiedLayerNormalization")
    moved = graph.made_by(norm.input[0] if norm is not None else value, "Transpose")
    if moved is None or list(graph.attribute(moved, "perm")) != [0, 2, 1, 3]:
        return None
    if norm is None:
        norm = graph.made_by(moved.input[0], "SimplifiedLayerNormalization")
        split = graph.made_by(norm.input[0] if norm is not None else moved.input[0], "Reshape")
    else:
        split = graph.made_by(moved.input[0], "Reshape")
    return (split.input[0], norm) if split is not None else None


def _closed(graph: GraphEditor, attentions: list[Attention]) -> bool:
    """Nothing outside attention may look at the past: its length is now a capacity."""
    made = [attention.output for attention in attentions]
    made += [append.output[0] for attention in attentions for append in attention.appends]
    sides = [_flatten(graph, side) for a in attentions for side in (a.query, a.key, a.value)]
    ends = ["logits", *(side[0] for side in sides if side is not None)]
    rest = graph.ancestors(ends, stop=dict.fromkeys(made))
    return not any(name in made[len(attentions) :] or name.startswith("past_") for node in rest for name in node.input)


def _lengths(graph: GraphEditor) -> list[str]:
    """The operator's two lengths from the attention mask: last valid key per text, and the mask's width."""
    counted = graph.add(
        "ReduceSum", ["attention_mask", graph.store("attention.axis", np.array([1]))], "attention.count", keepdims=0
    )
    last = graph.add("Sub", [counted, graph.store("attention.one", np.array([1]))], "attention.last")
    shape = graph.add("Shape", ["attention_mask"], "attention.shape")
    width = graph.add("Gather", [shape, graph.store("attention.second", np.array(1))], "attention.width", axis=0)
    int32 = onnx.TensorProto.INT32
    return [
        graph.add("Cast", [last], "seqlens_k", to=int32),
        graph.add("Cast", [width], "total_sequence_length", to=int32),
    ]


def _rewrite(
    graph: GraphEditor, found: Attention, heads: int, kv_heads: int, head_size: int, window: int, tail: list[str]
) -> None:
    name = f"attention.{found.layer}"
    query = _side(graph, found.query, f"{name}.query", heads, head_size)
    key = _side(graph, found.key, f"{name}.key", kv_heads, head_size)
    value = _side(graph, found.value, f"{name}.value", kv_heads, head_size)
    for append in found.appends:
        graph.remove(append)
    joined = graph.maker(found.output)
    assert joined is not None  # the Reshape that the match ends with
    graph.remove(joined)
    past = [f"past_key_values.{found.layer}.{kind}" for kind in ("key", "value")]
    graph.add(
        "GroupQueryAttention",
        [query, key, value, *past, *tail],
        [found.output, *(append.output[0] for append in found.appends)],
        domain=CONTRIB,
        num_heads=heads,
        kv_num_heads=kv_heads,
        scale=found.scale,
        softcap=found.softcap,
        local_window_size=window,
        do_rotary=int(found.rotary is not None),
        rotary_interleaved=int(found.rotary is not None and found.rotary[0].interleaved),
    )


def _side(graph: GraphEditor, value: str, name: str, heads: int, head_size: int) -> str:
    side = _flatten(graph, value)
    assert side is not None  # checked before anything was edited
    flat, norm = side
    if norm is None:
        return flat
    split = graph.add(
        "Reshape", [flat, graph.store(f"heads.{heads}", np.array([0, 0, heads, head_size]))], f"{name}.heads"
    )
    normed = graph.add("SimplifiedLayerNormalization", [split, norm.input[1]], f"{name}.normed")
    made = graph.maker(normed)
    assert made is not None
    made.attribute.extend(norm.attribute)
    return graph.add(
        "Reshape", [normed, graph.store(f"flat.{heads}", np.array([0, 0, heads * head_size]))], f"{name}.flat"
    )
