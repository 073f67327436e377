"""Layers that cost what a layer costs and change nothing: the same function at a higher price.

The residual stream of a decoder passes through each layer as x -> x + f(x). A copy of a layer whose f ends in zeros
leaves x what it was, to the last bit, and does all the work on the way: it reads weights of its own, and has a cache of
its own to attend to. So the answers stay those of the model, and so does how often a guess is accepted, while the price
of a step is chosen.

Weights of its own are weights of other bytes: ONNX Runtime keeps matrices of equal contents once, and would read those
of all copies from the processor's cache. So each copy has the rows of its matrices in another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from onnx import numpy_helper

from nudge_onnx.export.passes.fuse_skip_norms import fuse_skip_norms
from nudge_onnx.export.passes.graph_editor import Array, GraphEditor, bodies, reads, rename
from nudge_onnx.export.passes.join_branches import join_branches

CacheNames = Mapping[str, str]
"""Names of a layer's `past_key`, `past_value`, `present_key` and `present_value`, with `{layer}` in each."""

# What may stand between the last weights of a branch and the addition that joins it to the stream.
_PASSING = ("Add", "Cast", "Identity", "Reshape")


@dataclass(frozen=True)
class Layer:
    """One layer: its nodes, and the stream before it, in its middle and behind it."""

    nodes: tuple[onnx.NodeProto, ...]
    stream: tuple[str, ...]


def add_layers(model: onnx.ModelProto, count: int, cache: CacheNames) -> None:
    """Put `count` layers that change nothing before the first one; in the cache they come behind the last.

    `model` was exported without `join-branches`, which runs here once all layers are there. Raises `ValueError` for a
    graph in which no layers are found.
    """
    graph = model.graph
    fused = _separate_sums(model)
    layers = find_layers(graph, cache)
    entry = layers[0].stream[0]
    readers = [node for node in graph.node if entry in reads(node)]
    copier = _Copier(graph, cache, known=len(layers) + 1)
    end = entry
    for number in range(count):
        end = copier.copy(layers, number, end)
    # The first norm of the model stays a node of its own, whose last bits are not those of one with an addition.
    apart = f"{end}.stream"
    graph.node.append(onnx.helper.make_node("Identity", [end], [apart], name=apart))
    for node in readers:
        rename(node, {entry: apart})
    edited = GraphEditor(model)
    if fused:
        fuse_skip_norms(edited)
    edited.sweep()
    join_branches(edited)
    edited.sweep()


def _separate_sums(model: onnx.ModelProto) -> bool:
    """Write the additions to the stream as nodes of their own again: a layer begins and ends at one."""
    graph = GraphEditor(model)
    fused = list(graph.of_type("SkipSimplifiedLayerNormalization"))
    for node in fused:
        one, other, weight = node.input
        normed, _, _, summed = node.output
        graph.remove(node)
        graph.add("Add", [one, other], summed)
        epsilon = graph.attribute(node, "epsilon")
        graph.add("SimplifiedLayerNormalization", [summed, weight], normed, axis=-1, epsilon=epsilon)
    graph.sweep()
    return bool(fused)


def find_layers(graph: onnx.GraphProto, cache: CacheNames) -> list[Layer]:
    """All layers but the last, whose end nothing marks."""
    streams, nodes = _streams(graph)
    place = {name: number for number, node in enumerate(nodes) for name in node.output}
    edges: list[str] = []
    for layer in range(len(nodes)):
        past = cache["past_key"].format(layer=layer)
        attention = next((i for i, node in enumerate(nodes) if past in reads(node)), None)
        if attention is None:
            break
        edges.append([name for name in streams if place.get(name, -1) < attention][-1])
    if len(set(edges)) < 2 or len(set(edges)) < len(edges):
        raise ValueError("no layers with a residual stream between them were found in this graph")
    layers = []
    for start, end in pairwise(edges):
        within = streams[streams.index(start) : streams.index(end) + 1]
        layers.append(Layer(tuple(nodes[place.get(start, -1) + 1 : place[end] + 1]), tuple(within)))
    return layers


def _streams(graph: onnx.GraphProto) -> tuple[list[str], list[onnx.NodeProto]]:
    """The tensors that all of the computation behind the embedding passes through, and its nodes in order."""
    embedded = next(node for node in graph.node if node.op_type.startswith("Gather") and "input_ids" in node.input)
    reached = {embedded.output[0]}
    nodes = []
    for node in graph.node:
        if reached.intersection(reads(node)):
            reached.update(node.output)
            nodes.append(node)
    waiting = Counter(name for node in nodes for name in set(reads(node)) if name in reached)
    streams, alive = [embedded.output[0]], {embedded.output[0]}
    for node in nodes:
        for name in reached.intersection(reads(node)):
            waiting[name] -= 1
            if not waiting[name]:
                alive.discard(name)
        alive.update(name for name in node.output if waiting[name])
        if len(alive) == 1:
            streams.append(next(iter(alive)))
    return list(dict.fromkeys(streams)), nodes


class _Copier:
    """Copies layers of one graph into it."""

    def __init__(self, graph: onnx.GraphProto, cache: CacheNames, known: int) -> None:
        self._graph = graph
        self._cache = cache
        self._known = known
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node for name in set(reads(node)))
        self._values = {value.name: value for value in [*graph.input, *graph.output]}

    def copy(self, layers: list[Layer], number: int, entry: str) -> str:
        """Add a copy that reads the stream `entry`; returns the stream behind it."""
        source = number % len(layers)
        layer = layers[source]
        names = {layer.stream[0]: entry, **self._cache_names(source, self._known + number)}
        mark = f"extra.{number}."
        for node in layer.nodes:
            names.update((name, mark + name) for name in _made(node) if name and name not in names)
        own = [name for name, uses in self._used_by(layer.nodes).items() if uses == self._uses[name]]
        silent = _last_weights(layer, self._weights)
        for name in own:
            values = numpy_helper.to_array(self._weights[name])
            values = np.zeros_like(values) if name in silent else turned(values, number // len(layers) + 1)
            names[name] = mark + name
            self._graph.initializer.append(numpy_helper.from_array(values, names[name]))
        if not silent or not silent <= set(own):
            raise ValueError("a layer's branches do not end in weights of its own")
        for node in layer.nodes:
            copy = self._graph.node.add()
            copy.CopyFrom(node)
            copy.name = mark + node.name
            rename(copy, names)
        return names[layer.stream[-1]]

    def _used_by(self, nodes: Iterable[onnx.NodeProto]) -> Counter[str]:
        return Counter(name for node in nodes for name in set(reads(node)) if name in self._weights)

    def _cache_names(self, source: int, target: int) -> dict[str, str]:
        """The cache tensors of the copy, which are added to the graph's inputs and outputs."""
        names = {}
        for key, pattern in self._cache.items():
            old, new = pattern.format(layer=source), pattern.format(layer=target)
            value = (self._graph.input if key.startswith("past") else self._graph.output).add()
            value.CopyFrom(self._values[old])
            names[old] = value.name = new
        return names


def _made(node: onnx.NodeProto) -> Iterator[str]:
    """What a node makes, and what the nodes of its branches make."""
    yield from node.output
    yield from (name for body in bodies(node) for inner in body.node for name in _made(inner))


def turned(weights: Array, places: int) -> Array:
    """A matrix with its first rows moved behind its last ones; what is no matrix stays as it is."""
    return np.roll(weights, places, axis=0) if weights.ndim > 1 else weights


def _last_weights(layer: Layer, weights: Mapping[str, onnx.TensorProto]) -> set[str]:
    """The float weights that each branch of a layer goes through last: zeros there make the branch zero."""
    makers = {name: node for node in layer.nodes for name in node.output}
    found: set[str] = set()
    for before, after in pairwise(layer.stream):
        branches = [name for name in makers[after].input if _without_casts(name, makers) != before]
        open_names = list(branches)
        while open_names:
            name = open_names.pop()
            node = makers.get(name)
            if node is None:
                continue
            floats = {i for i in node.input if i in weights and weights[i].data_type in _FLOATS}
            found |= floats
            if not floats and node.op_type in _PASSING:
                open_names += node.input
            elif not floats:
                raise ValueError(f"{node.op_type} stands between a layer's last weights and the residual stream")
    return found


_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _without_casts(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    while name in makers and makers[name].op_type in ("Cast", "Identity"):
        name = makers[name].input[0]
    return name
