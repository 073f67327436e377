"""`int8-cache`: keys and values are kept in eight bits, a quarter of the memory that a step behind a long text reads.

GroupQueryAttention rounds them as it writes them, and multiplies each row with the codes by itself. So on a CPU a row
has the same bits in a pass of any size, which its products of floats have not: a single row takes another kernel there
than several.

Each channel of a head has one scale, by its largest value on a text and a little more: to cut values off harms much
more than to round them more coarsely. Rotary embedding turns pairs of channels into each other, and what a channel of a
key may reach at some position is the length of its pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from .graph_editor import CONTRIB, GraphEditor
from .group_query_attention import CACHE, POSITIONS, SCALES, table_shape

__all__ = ["LEVELS", "Floats", "Turned", "cached_values", "int8_cache", "reach"]

LEVELS = (-128, 127)
"""The smallest and the largest code."""

_HEADROOM = 1.1

Floats = npt.NDArray[np.float32]


class Turned(NamedTuple):
    """What rotary embedding does to the channels of a head."""

    pairs: int = 0
    """How many pairs of its leading channels are turned into each other."""
    interleaved: bool = False
    """Whether a pair is two neighbours, and not one of the first half of these channels and one of the second."""


def cached_values(graph: GraphEditor) -> dict[str, Turned]:
    """The outputs [batch, heads, positions, head_size] that hold keys and values, and how each was turned."""
    found: dict[str, Turned] = {}
    for node in graph.of_type("GroupQueryAttention"):
        key, value = node.output[1:3]
        tables = table_shape(graph, node)
        interleaved = bool(graph.attribute(node, "rotary_interleaved", 0))
        found |= {key: Turned(tables[1], interleaved) if tables else Turned(), value: Turned()}
    return found


def reach(values: Floats, turned: Turned) -> Floats:
    """How far from zero each channel may get, [heads, head_size], by `values` [heads, positions, head_size]."""
    sizes = np.abs(values)
    first, second = slice(turned.pairs), slice(turned.pairs, 2 * turned.pairs)
    if turned.interleaved:
        first, second = slice(0, 2 * turned.pairs, 2), slice(1, 2 * turned.pairs, 2)
    sizes[..., first] = sizes[..., second] = np.hypot(sizes[..., first], sizes[..., second])
    peaks: Floats = sizes.max(axis=1)
    return peaks


def int8_cache(graph: GraphEditor, peaks: Mapping[str, Floats]) -> bool:
    """Give every attention a cache of int8.

    `peaks` holds for each of the `cached_values` the largest `reach` that was seen, [heads, head_size].
    """
    attentions = list(graph.of_type("GroupQueryAttention"))
    if not attentions or not peaks or any(any(node.input[POSITIONS:]) for node in attentions):
        return False
    for node in attentions:
        key, value = node.output[1:3]
        scales = [graph.store(f"{name}.scale", _scales(peaks[name])) for name in (key, value)]
        inputs = [*node.input, *[""] * (SCALES.start - len(node.input)), *scales]
        graph.remove(node)
        graph.add(
            "GroupQueryAttention",
            inputs,
            list(node.output),
            domain=CONTRIB,
            **graph.attributes(node),
            k_quant_type="PER_CHANNEL",
            v_quant_type="PER_CHANNEL",
            kv_cache_bit_width=8,
        )
        for name in (*node.input[CACHE], key, value):
            graph.retype(name, onnx.TensorProto.INT8)
    return True


def _scales(peaks: Floats) -> Floats:
    """One scale a channel, in one row; a channel that was always zero stays so with any."""
    return np.where(peaks > 0, _HEADROOM * peaks / LEVELS[1], 1).astype(np.float32).reshape(-1)
