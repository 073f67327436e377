"""`smooth-quant`: the channels that a product reads are brought nearer to one size, and its matrix makes up for it.

MatMulNBits rounds what it reads to eight bits, block by block, and a few channels of a model are so much larger than
the rest that they take the levels from their neighbours. Whatever makes a channel can make it smaller at no cost if the
matrix behind multiplies it by more: the weights of a norm, or the projection of that factor of a gated feed-forward
layer which no activation bends. This is SmoothQuant (Xiao et al. 2022, arXiv:2211.10438), here by the root mean square
of a channel and without regard to the weights, whose own rounding to eight bits costs a fraction of this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..weights import LazyTensor, Tensor
from .graph_editor import GraphEditor, Node
from .int8_cache import Floats
from .last_rows import LOGITS_ROWS, before_rows

__all__ = ["smooth_quant", "smoothable"]

_STRENGTH = 0.5
"""1 would give all channels one size, 0 leave them alone. From 0.3 to 0.7 it makes little difference, at 1 the weights
suffer."""

_LEAST = 0.01
"""Of the mean size: a channel that is all but zero is not blown up further."""


_NORMS = {
    "SimplifiedLayerNormalization": (1, 2),
    "SkipSimplifiedLayerNormalization": (2, 3),
    "LayerNormalization": (1, 3),
}
"""Which inputs of a norm its output is proportional to: weights, and biases."""


class _Part(NamedTuple):
    """A stretch of the last axis of a constant: the weights that make the channels of a value, one or a column each."""

    name: str
    start: int
    stop: int


def smoothable(graph: GraphEditor) -> list[str]:
    """Names of the values [batch, sequence, hidden] whose channels can be scaled where they are made and read."""
    values = dict.fromkeys(before_rows(graph, node.input[0]) for node in graph.of_type("MatMul"))
    return [value for value in values if _fit(graph, _makers(graph, value), _readers(graph, value))]


def smooth_quant(graph: GraphEditor, sizes: Mapping[str, Floats]) -> bool:
    """Scale the channels of the `smoothable` values.

    `sizes` holds the root mean square of each of their channels, [hidden], as it was seen on a text.
    """
    values = [value for value in smoothable(graph) if value in sizes]
    for value in values:
        factors = _factors(sizes[value])
        for name, start, stop in _makers(graph, value):
            whole = np.ones(_dims(graph, name)[-1], np.float32)
            whole[start:stop] = factors
            graph.overwrite(name, _scaled(graph.held(name), whole, -1))
        for product in _readers(graph, value):
            matrix = product.input[1]
            graph.overwrite(matrix, _scaled(graph.held(matrix), np.reciprocal(factors), 0))
    return bool(values)


def _scaled(tensor: Tensor, factors: Floats, axis: int) -> Tensor:
    if isinstance(tensor, LazyTensor):
        return tensor.scaled(factors, axis)
    return tensor * (factors[:, None] if axis == 0 else factors)


def _factors(sizes: Floats) -> Floats:
    """What to multiply channels of these sizes with; of the factors, the geometric mean is 1."""
    if not sizes.any():
        return np.ones_like(sizes)
    exponents = -_STRENGTH * np.log(np.maximum(sizes, _LEAST * sizes.mean()))
    factors: Floats = np.exp(exponents - exponents.mean()).astype(np.float32)
    return factors


def _fit(graph: GraphEditor, makers: Sequence[_Part], readers: Sequence[Node]) -> bool:
    """Whether there are both, and each has a weight for each channel."""
    made = {part.stop - part.start for part in makers}
    read = {_dims(graph, product.input[1])[0] for product in readers}
    return len(made) == 1 and made == read


def _readers(graph: GraphEditor, value: str) -> list[Node]:
    """The products that read a value with a matrix of their own; none if anything else reads it."""
    found = []
    for user in graph.users(value):
        rows = user.op_type == "Gather" and LOGITS_ROWS in user.input
        product = graph.only_user(user.output[0]) if rows else user
        if product is None or product.op_type != "MatMul" or product.input[1] == value:
            return []
        matrix = product.input[1]
        # A tied head is read by the embedding too, and stays as it is.
        if len(_dims(graph, matrix)) != 2 or len(graph.users(matrix)) > 1:
            return []
        found.append(product)
    return [] if value in graph.outputs else found


def _makers(graph: GraphEditor, value: str) -> list[_Part]:
    """The constants that the channels of a value are proportional to, if nothing else reads them."""
    uncast = graph.uncast(value)
    node = graph.maker(uncast)
    if node is None or node.output[0] != uncast or (uncast != value and graph.only_user(uncast) is None):
        return []
    if node.op_type == "Mul":
        parts = [part for factor in node.input if (part := _projection(graph, factor)) is not None][:1]
    else:
        first, last = _NORMS.get(node.op_type, (0, 0))
        parts = [_whole(graph, name) for name in node.input[first:last] if name]
    return parts if all(name in graph.initializers and len(graph.users(name)) == 1 for name, *_ in parts) else []


def _projection(graph: GraphEditor, value: str) -> _Part | None:
    """The columns that make a value which is a product, or a piece of one, and is read once."""
    if graph.only_user(value) is None:
        return None
    split = graph.made_by(value, "Split")
    if split is None:
        product = graph.made_by(value, "MatMul")
        return _whole(graph, product.input[1]) if product is not None else None
    product = graph.made_by(split.input[0], "MatMul")
    sizes = graph.constant(split.input[1]) if len(split.input) > 1 else None
    if product is None or sizes is None or graph.only_user(product.output[0]) is None:
        return None
    ends = [0, *(int(end) for end in np.cumsum(sizes))]
    place = list(split.output).index(value)
    return _Part(product.input[1], ends[place], ends[place + 1])


def _whole(graph: GraphEditor, name: str) -> _Part:
    return _Part(name, 0, (_dims(graph, name) or (0,))[-1])


def _dims(graph: GraphEditor, name: str) -> tuple[int, ...]:
    """Shape of an initialiser; none of anything else."""
    return graph.dims(name) or ()
