"""Reads from a graph itself what a runtime must know: names of inputs and outputs, and the shape of the cache."""

from __future__ import annotations

import math
import re

import onnx

from nudge_onnx.bundle import Cache, GraphIO
from nudge_onnx.errors import ExportError

from ..passes.uncertainty_head import ENTROPY, LOG_SUM_EXP, TOP1_ID, TOP1_PROBABILITY, TOP2_LOGIT

__all__ = ["cache_shape", "float_weights", "graph_io", "vocabulary_size"]

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.INT8: "int8"}
_KNOWN = {"input_ids", "attention_mask", "position_ids"}


def graph_io(model: onnx.ModelProto, logits_rows: str | None = None) -> GraphIO:
    """Names of the graph's inputs and outputs; `logits_rows` is the input that a pass may have added.

    Raises `ExportError` for an input that a runtime would not know how to fill.
    """
    names = {value.name for value in model.graph.input}
    strange = {name for name in names if not _PAST.fullmatch(name)} - _KNOWN - {logits_rows}
    if strange or "input_ids" not in names:
        raise ExportError(f"the exported graph is no plain decoder: its inputs are {', '.join(sorted(names))}")
    outputs = {value.name for value in model.graph.output}

    def output(name: str) -> str | None:
        return name if name in outputs else None

    return GraphIO(
        attention_mask="attention_mask" if "attention_mask" in names else None,
        position_ids="position_ids" if "position_ids" in names else None,
        logits_rows=logits_rows,
        top1_id=output(TOP1_ID),
        top1_probability=output(TOP1_PROBABILITY),
        log_sum_exp=output(LOG_SUM_EXP),
        top2_logit=output(TOP2_LOGIT),
        entropy=output(ENTROPY),
    )


def cache_shape(model: onnx.ModelProto, kind: str = "growing") -> Cache:
    """Layers, heads, head size and type of the KV cache.

    Raises `ExportError` unless every layer has key and value `[batch, kv_heads, positions, head_size]` of one shape.
    """
    shapes: dict[tuple[int, str], tuple[int, int, str]] = {}
    for value in model.graph.input:
        match = _PAST.fullmatch(value.name)
        if match is not None:
            dims = value.type.tensor_type.shape.dim
            dtype = _DTYPES.get(value.type.tensor_type.elem_type, "another type")
            sizes = (dims[1].dim_value, dims[3].dim_value) if len(dims) == 4 else (0, 0)
            shapes[int(match[1]), match[2]] = (*sizes, dtype)
    layers = 1 + max((layer for layer, _ in shapes), default=-1)
    distinct = set(shapes.values())
    if len(shapes) != 2 * layers or len(distinct) != 1 or 0 in next(iter(distinct)):
        raise ExportError("the exported graph's KV cache is not the same for every layer; nudge-onnx cannot run it")
    kv_heads, head_size, dtype = distinct.pop()
    return Cache(layers=layers, kv_heads=kv_heads, head_size=head_size, dtype=dtype, kind=kind)


def vocabulary_size(model: onnx.ModelProto, configured: int) -> int:
    """Last dimension of the logits, or `configured` where the graph leaves it open."""
    for value in model.graph.output:
        if value.name == "logits" and (dims := value.type.tensor_type.shape.dim):
            return int(dims[-1].dim_value) or configured
    return configured


def float_weights(model: onnx.ModelProto) -> int:
    """How many weights of matrices and tables are floats: those that quantisation has left as they were."""
    matrices = {
        name for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Gather") for name in node.input
    }
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name in matrices and tensor.data_type in _FLOATS and len(tensor.dims) > 1
    )
