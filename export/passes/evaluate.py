"""What part of a graph computes, found out by running it: cheaper to trust than a guess from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from .graph_editor import Array, GraphEditor

__all__ = ["evaluate", "run_part"]


def evaluate(graph: GraphEditor, value: str, tokens: int, past: int = 0) -> Array | None:
    """A value of the graph for `tokens` tokens behind `past` positions, whose keys and values are zero.

    Meant for what depends on lengths and positions alone, such as masks and rotary tables: token ids and embeddings are
    zero. `None` if it cannot be computed so.
    """
    embedded = {
        node.output[0]: dims[1]
        for node in graph.of_type("Gather")
        if (dims := graph.dims(node.input[0])) is not None and len(dims) == 2
    }
    read = {name for node in graph.ancestors([value], stop=embedded) for name in node.input}
    feeds: dict[str, Array] = {
        proto.name: _feed(proto, tokens, past) for proto in graph.proto.input if proto.name in read
    }
    feeds |= {name: np.zeros((1, tokens, width), np.float32) for name, width in embedded.items() if name in read}
    return run_part(graph, value, feeds)


def run_part(graph: GraphEditor, value: str, feeds: Mapping[str, Array]) -> Array | None:
    """A value of the graph computed from other values of it; `None` if they do not suffice."""
    nodes = graph.ancestors([value], stop=feeds)
    read = {name for node in nodes for name in node.input}
    part = helper.make_graph(
        nodes,
        "part",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
            if name in read
        ],
        [onnx.ValueInfoProto(name=value)],
        initializer=[graph.whole(name) for name in graph.initializers if name in read],
    )
    model = helper.make_model(part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        result: Any = session.run([value], {name: array for name, array in feeds.items() if name in read})[0]
    except (
        Exception
    ):  # onnxruntime's exceptions share no base; whatever the obstacle, the pass leaves the graph as it is
        return None
    array: Array = np.asarray(result)
    return array


def _feed(proto: onnx.ValueInfoProto, tokens: int, past: int) -> Array:
    dims = proto.type.tensor_type.shape.dim
    if proto.name == "position_ids":
        return np.arange(past, past + tokens, dtype=np.int64)[None]
    if proto.name == "attention_mask":
        return np.ones((1, past + tokens), np.int64)
    if proto.name.startswith("past_key_values."):
        return np.zeros((1, dims[1].dim_value, past, dims[3].dim_value), np.float32)
    return np.zeros((1, tokens), np.int64)
