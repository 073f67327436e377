"""`join-branches`: attentions that choose how to read a prompt choose together, with the layers between them.

To enter a branch costs about 14 microseconds behind a pass over weights, when nothing of it is in the processor's
caches: for the 30 layers of SmolLM2 7 % of a step. So several layers stand in one If: in one branch as a prompt is
read, in the other as steps are made. ONNX Runtime (1.28 or newer) packs a weight once however many products of a
session read it; in branches of branches it does not, so Ifs of a sliding window stay around their attention.

The groups are a few layers long and not the whole model: weights as they lie in the file are let go of when the last
product that reads them is packed, so that a load holds those of one group besides what is packed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import onnx

from .branches import branch_of
from .graph_editor import GraphEditor, Node, bodies, reads, rename
from .prompt_attention import MANY

__all__ = ["join_branches"]

_LAYERS = 6


def join_branches(graph: GraphEditor) -> bool:
    """Join the Ifs of `prompt-attention`, if there are several, group by group."""
    order = graph.ancestors(graph.outputs)
    attentions = [node for node in order if node.op_type == "If" and MANY in _conditions(node)]
    if len(attentions) < 2:
        return False
    count = -(-len(attentions) // _LAYERS)
    for number in range(count):
        _join(graph, attentions[len(attentions) * number // count : len(attentions) * (number + 1) // count])
    return True


def _conditions(node: Node) -> list[str]:
    """What an If and those inside it ask for."""
    inside = (inner for body in bodies(node) for inner in body.node if inner.op_type == "If")
    return [node.input[0], *chain.from_iterable(map(_conditions, inside))]


def _join(graph: GraphEditor, attentions: Sequence[Node]) -> None:
    region = _between(graph, attentions)
    inside = {id(node) for node in region}
    outputs = [
        name
        for node in region
        for name in node.output
        if name in graph.outputs or any(id(user) not in inside for user in graph.users(name))
    ]
    types = {value.name: int(value.type.tensor_type.elem_type) for value in graph.proto.output}
    kinds = [types.get(name, onnx.TensorProto.FLOAT) for name in outputs]
    # No prompt is read over the ends of the cache, so whatever else is asked for, the answer is no.
    others = {name for node in attentions for name in _conditions(node)}
    prompt = {**dict.fromkeys(others, False), MANY: True}
    for node in region:
        graph.remove(node)
    graph.add(
        "If",
        [MANY],
        outputs,
        then_branch=_branch(region, outputs, kinds, "prompt", prompt),
        else_branch=_branch(region, outputs, kinds, "steps", {MANY: False}),
    )


def _between(graph: GraphEditor, attentions: Sequence[Node]) -> list[Node]:
    """Some Ifs and all that leads from one to another, sorted."""
    wanted = {id(node) for node in attentions}
    region: list[Node] = []
    made: set[str] = set()
    ends = [name for attention in attentions for name in attention.output]
    for node in graph.ancestors(ends):
        if id(node) in wanted or any(name in made for name in reads(node)):
            region.append(node)
            made.update(name for name in node.output if name)
    return region


def _branch(
    region: Sequence[Node], outputs: Sequence[str], kinds: Sequence[int], name: str, known: Mapping[str, bool]
) -> onnx.GraphProto:
    """All of a region, with the way chosen wherever the answer is known."""
    nodes = [inner for node in region for inner in _chosen(node, known)]
    names = {made: f"{made}.{name}" for node in nodes for made in node.output if made}
    for node in nodes:
        rename(node, names)
        node.name = node.output[0]
    return branch_of(nodes, [names[output] for output in outputs], name, kinds)


def _chosen(node: Node, known: Mapping[str, bool]) -> list[Node]:
    """Copies of a node, or of what an If stands for whose condition is known."""
    copy = Node()
    copy.CopyFrom(node)
    if node.op_type != "If":
        return [copy]
    for body in bodies(copy):
        nodes = [inner for outer in body.node for inner in _chosen(outer, known)]
        del body.node[:]
        body.node.extend(nodes)
    if node.input[0] not in known:
        return [copy]
    wanted = "then_branch" if known[node.input[0]] else "else_branch"
    body = next(attribute.g for attribute in copy.attribute if attribute.name == wanted)
    names = {value.name: name for value, name in zip(body.output, node.output, strict=True)}
    for inner in body.node:
        rename(inner, names)
    return list(body.node)
