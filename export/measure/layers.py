"""Parts of a graph, cut where each layer's keys and values are made, run one after the other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper

from ..passes.graph_editor import CONTRIB, GraphEditor, Node

__all__ = ["Values", "part_of", "stages"]

Values = dict[str, npt.NDArray[Any]]
"""Values of a graph by name."""

_PRESENT = re.compile(r"present\.(\d+)\.(?:key|value)")


def stages(graph: GraphEditor, values: Collection[str], fed: Collection[str]) -> Iterator[list[Node]]:
    """The nodes that some values need, besides those that are `fed`, layer by layer; in the order of a graph."""
    layers: dict[int, list[str]] = defaultdict(list)
    for name in graph.outputs:
        if match := _PRESENT.fullmatch(name):
            layers[int(match[1])].append(name)
    done: set[int] = set()
    for wanted in [*(layers[layer] for layer in sorted(layers)), sorted(values)]:
        nodes = [node for node in graph.ancestors(wanted, stop=dict.fromkeys(fed)) if id(node) not in done]
        done.update(map(id, nodes))
        if nodes:
            yield nodes


def part_of(
    graph: GraphEditor,
    nodes: Collection[Node],
    inputs: Mapping[str, npt.NDArray[Any]],
    outputs: Collection[str],
    initializers: Collection[onnx.TensorProto],
) -> onnx.ModelProto:
    """A model of some nodes; of the `inputs` types and numbers of axes are taken."""
    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in inputs.items()
    ]
    made = [onnx.ValueInfoProto(name=name) for name in outputs]
    part = helper.make_graph(list(nodes), "part", described, made, initializer=list(initializers))
    domains = {entry.domain: entry for entry in [helper.make_opsetid(CONTRIB, 1), *graph.model.opset_import]}
    return helper.make_model(part, opset_imports=list(domains.values()), ir_version=graph.model.ir_version)
