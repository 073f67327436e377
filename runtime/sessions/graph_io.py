"""Whether a graph has the inputs and outputs that the manifest says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nudge_onnx.bundle import ModelRecord
from nudge_onnx.errors import BundleError

__all__ = ["check_graph", "input_shapes"]

_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "int8": "tensor(int8)"}
_IDS = "tensor(int64)"

Tensor = tuple[str, tuple[int | None, ...]]
"""Type and dimensions; `None` is a dimension of any size."""


def check_graph(session: Any, record: ModelRecord) -> None:
    """Raise `BundleError` for the first input or output that `session` lacks, has too many, or has otherwise."""
    inputs, outputs = dict(_inputs(record)), dict(_outputs(record))
    found = {tensor.name: tensor for tensor in session.get_inputs()}
    for reason in (
        *_differences("input", inputs, found),
        *(f"wants the input {name}, which its manifest does not name" for name in found if name not in inputs),
        *_differences("output", outputs, {tensor.name: tensor for tensor in session.get_outputs()}),
    ):
        raise BundleError(f"{record.graph} {reason}; export it again")


def _differences(what: str, wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> Iterator[str]:
    for name, (kind, shape) in wanted.items():
        tensor = found.get(name)
        if tensor is None:
            yield f"lacks the {what} {name} that its manifest names"
        elif tensor.type != kind:
            yield f"has {tensor.type} as {what} {name}, and its manifest says {kind}"
        elif not _fits(tensor.shape, shape):
            yield f"has the {what} {name} of shape {_shown(tensor.shape)}, and its manifest says {_shown(shape)}"


def _fits(found: Sequence[Any], wanted: Sequence[int | None]) -> bool:
    """Whether two shapes may be one; what a graph leaves open is a text or `None`."""
    pairs = zip(found, wanted, strict=False)
    same = all(not isinstance(size, int) or other is None or size == other for size, other in pairs)
    return same and len(found) == len(wanted)


def _shown(shape: Sequence[Any]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _inputs(record: ModelRecord) -> Iterator[tuple[str, Tensor]]:
    io = record.io
    for name, rank in ((io.input_ids, 2), (io.attention_mask, 2), (io.position_ids, 2), (io.logits_rows, 1)):
        if name is not None:
            yield name, (_IDS, (None,) * rank)
    yield from _cache(record, io.past_key, io.past_value)


def _outputs(record: ModelRecord) -> Iterator[tuple[str, Tensor]]:
    io = record.io
    yield io.logits, ("tensor(float)", (None, None, record.vocabulary_size))
    floats = (io.top1_probability, io.log_sum_exp, io.top2_logit, io.entropy)
    for name, kind in ((io.top1_id, _IDS), *((name, _TYPES["float32"]) for name in floats)):
        if name is not None:
            yield name, (kind, (None, None))
    yield from _cache(record, io.present_key, io.present_value)


def _cache(record: ModelRecord, *patterns: str) -> Iterator[tuple[str, Tensor]]:
    cache = record.cache
    for layer in range(cache.layers):
        for pattern in patterns:
            name = pattern.replace("{layer}", str(layer))
            yield name, (_TYPES[cache.dtype], (None, cache.kv_heads, None, cache.head_size))


def input_shapes(record: ModelRecord, new: int, total: int, rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of what a pass over `new` ids reads besides the cache, with a mask `total` wide, for `rows` rows."""
    io = record.io
    shapes: dict[str | None, tuple[int, ...]] = {
        io.input_ids: (1, new),
        io.attention_mask: (1, total),
        io.position_ids: (1, new),
        io.logits_rows: (rows,),
    }
    return {name: shape for name, shape in shapes.items() if name is not None}
