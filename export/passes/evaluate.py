"""What part of a graph computes, found out by running it: cheaper to trust than a guess from the configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from .graph import Array, Graph

__all__ = ["evaluate"]


def evaluate(graph: Graph, value: str, tokens: int) -> Array | None:
    """A value of the graph for `tokens` tokens at positions 0 .. tokens - 1 and an empty cache.

    Meant for what depends on lengths and positions alone, such as masks and rotary tables: token ids and embeddings are
    zero. `None` if it cannot be computed so.
    """
    embedded = {
        node.output[0]: dims[1]
        for node in graph.of_type("Gather")
        if (dims := graph.dims(node.input[0])) is not None and len(dims) == 2
    }
    nodes = graph.ancestors([value], stop=embedded)
    read = {name for node in nodes for name in node.input}
    feeds: dict[str, Array] = {}
    inputs: list[onnx.ValueInfoProto] = []
    for proto in graph.proto.input:
        if proto.name in read:
            inputs.append(proto)
            feeds[proto.name] = _feed(proto, tokens)
    for name, width in embedded.items():
        if name in read:
            inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
            feeds[name] = np.zeros((1, tokens, width), np.float32)
    part = helper.make_graph(
        nodes,
        "part",
        inputs,
        [onnx.ValueInfoProto(name=value)],
        initializer=[tensor for name, tensor in graph.initializers.items() if name in read],
    )
    model = helper.make_model(part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        result: Any = session.run([value], feeds)[0]
    except (
        Exception
    ):  # onnxruntime's exceptions share no base; whatever stands in the way, the pass then leaves the graph
        return None
    array: Array = np.asarray(result)
    return array


def _feed(proto: onnx.ValueInfoProto, tokens: int) -> Array:
    dims = proto.type.tensor_type.shape.dim
    if proto.name == "position_ids":
        return np.arange(tokens, dtype=np.int64)[None]
    if proto.name == "attention_mask":
        return np.ones((1, tokens), np.int64)
    if proto.name.startswith("past_key_values."):
        return np.zeros((1, dims[1].dim_value, 0, dims[3].dim_value), np.float32)
    return np.zeros((1, tokens), np.int64)
