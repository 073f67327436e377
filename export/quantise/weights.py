"""Weights in fewer bits: fp16, or weight-only int8 and int4 in blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import onnx

from nudge_onnx.choices import Precision
from nudge_onnx.errors import ExportError

from ..passes.graph_editor import CONTRIB, GraphEditor, Model, Node, in_memory
from ..passes.head import find_head
from ..passes.last_rows import before_rows
from ..passes.shared_embedding import SharedEmbedding, find_shared_embedding
from ..support.journal import NOWHERE, Journal
from ..support.progress import Report, unheard
from ..weights import Tensor
from .blocks import BLOCK, Blocks, Floats, quantise_rows
from .embedding import add_lookup, four_bits_of_table, quantise_table
from .four_bits import all_four_bits, four_bits
from .offsets import block_sums, widen
from .regrid import rounded_before
from .sensitive import sensitive_products

__all__ = ["quantise", "to_calibrate"]

_INT8_KERNEL = 4
"""`accuracy_level` of MatMulNBits: activations in eight bits, which is where the speed on a CPU comes from."""

_LONG = 64
"""Weights in a block of `int8`: a step takes 0.87 of the time with blocks of 32, and its weights 0.9 of the memory."""


def quantise(
    model: Model,
    precision: Precision,
    *,
    head_bits: int = 8,
    accuracy_level: int = _INT8_KERNEL,
    inputs: Iterable[Mapping[str, Floats]] = (),
    report: Report = unheard,
    journal: Journal = NOWHERE,
) -> Model:
    """Bring a rewritten graph to a precision; `model` is edited in place and returned.

    `int8` and `int4` turn every MatMul or Gemm with a constant matrix into MatMulNBits. Blocks are of 32 weights, those
    of `int8` of 64 where inputs can be cut so. Under `int4` the head keeps `head_bits`: it is where four bits hurt a
    small model most. Weights that were in blocks before are not rounded to four bits a second time: those in blocks of
    sixteen levels (a GGUF file's Q4_0, Q4_1, Q4_K) stay in them, those of more levels get eight bits. Of the others,
    `sensitive_products` get eight bits too, and the rest is rounded by what it does to `inputs`: for each of the
    values that `to_calibrate` names, [tokens, hidden] as they occur; without them, weight by weight. Several mappings
    are taken one after the other, and their matrices with them, so that not all need be in memory. A matrix that
    `journal` remembers is not rounded again. Under `int4-all`
    every matrix gets four bits so, the head too. An embedding with a table of its own gets eight bits; four under
    `int4` where it was in blocks of sixteen levels before, and under `int4-all`.
    """
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        return convert_float_to_float16(in_memory(model), keep_io_types=["logits"], disable_shape_infer=True)
    if precision == "fp32":
        return model
    graph = GraphEditor(model)
    head = find_head(graph)
    sensitive = {id(node) for node in sensitive_products(graph)}
    products = _products(graph)
    for done, (node, seen) in enumerate(_in_turn(graph, products, inputs)):
        report(done, len(products))
        weight = node.input[1]
        matrix = graph.held(weight)
        if (kept := journal.get(weight)) is not None:
            _replace(graph, node, Blocks.restored(kept), len(matrix), accuracy_level)
            continue
        if seen is not None and not len(seen):
            raise ExportError(f"what was kept of an export that did not end lacks {weight}; choose another --work")
        if precision == "int4-all":
            blocks = all_four_bits(matrix, seen)
        elif precision == "int8":
            blocks = _eight_bits(matrix.T)
        elif node is head and head_bits == 8:
            blocks = quantise_rows(matrix.T, 8)
        else:
            blocks = four_bits(matrix, seen, sensitive=id(node) in sensitive)
        # Offsets need whole blocks of an input, and neither a Gemm nor the embedding's operator has room for them.
        embedded = find_shared_embedding(graph, weight) is not None
        if blocks.offsets is not None and (node.op_type == "Gemm" or embedded or len(matrix) % BLOCK):
            blocks = quantise_rows(matrix.T, 8)
        journal.put(weight, blocks.kept())
        _replace(graph, node, blocks, len(matrix), accuracy_level)
    quantise_table(graph, _OF_TABLE[precision])
    graph.sweep()
    return model


def _eight_bits(rows: Tensor) -> Blocks:
    return quantise_rows(rows, 8, size=_LONG if rows.shape[1] % _LONG == 0 else BLOCK)


_OF_TABLE: Mapping[str, Callable[[Tensor], Blocks]] = {
    "int8": _eight_bits,
    "int4": four_bits_of_table,
    "int4-all": partial(quantise_rows, bits=4, symmetric=False),
}


def _in_turn(
    graph: GraphEditor, products: Sequence[Node], inputs: Iterable[Mapping[str, Floats]]
) -> Iterator[tuple[Node, Floats | None]]:
    """Each product with what it reads, as soon as that is known; those of which it is not come last."""
    waiting: dict[str, list[Node]] = defaultdict(list)
    for node in products:
        waiting[before_rows(graph, node.input[0])].append(node)
    for seen in inputs:
        for name in [name for name in waiting if name in seen]:
            yield from ((node, seen[name]) for node in waiting.pop(name))
    for nodes in waiting.values():
        yield from ((node, None) for node in nodes)


def to_calibrate(model: Model, precision: Precision) -> list[str]:
    """Names of the values whose matrices are rounded to four bits.

    Under `int4`, those that were in blocks before need no text.
    """
    graph = GraphEditor(model)
    if precision == "int4-all":
        return sorted({before_rows(graph, node.input[0]) for node in _products(graph)})
    if precision != "int4":
        return []
    spared = {id(node) for node in (find_head(graph), *sensitive_products(graph))}
    asked = [node for node in _products(graph) if id(node) not in spared]
    return sorted(
        {before_rows(graph, node.input[0]) for node in asked if not rounded_before(graph.held(node.input[1]).T)}
    )


_PLAIN_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
"""Attributes of a Gemm that is a MatMul with a bias, as GPT-2's layers are."""


def _products(graph: GraphEditor) -> list[Node]:
    """Every MatMul or Gemm with a constant matrix of floats that MatMulNBits can do."""
    return [
        node
        for node in graph.of_type("MatMul", "Gemm")
        if len(graph.dims(node.input[1]) or ()) == 2
        and graph.initializers[node.input[1]].data_type == onnx.TensorProto.FLOAT
        and all(graph.attribute(node, name, default) == default for name, default in _PLAIN_GEMM.items())
    ]


def _replace(graph: GraphEditor, node: Node, blocks: Blocks, columns: int, accuracy_level: int) -> None:
    """Put the blocks of a matrix with so many columns [N, K] in the place of its product."""
    hidden, weight, *bias = node.input
    embedding = find_shared_embedding(graph, weight)
    if blocks.offsets is not None:
        hidden = _with_block_sums(graph, hidden, columns, accuracy_level)
        blocks = widen(blocks)
        columns = blocks.scales.shape[1] * blocks.size
    graph.remove(node)
    product = _add_product(graph, hidden, weight, blocks, node.output[0], columns, accuracy_level, bias)
    if embedding is not None and columns % blocks.size == 0:  # a padded block would lengthen the embedding's rows
        _quantise_embedding(graph, embedding, product, blocks)
    if not graph.users(weight):
        graph.drop(weight)


def _add_product(
    graph: GraphEditor,
    hidden: str,
    weight: str,
    blocks: Blocks,
    output: str,
    columns: int,
    accuracy_level: int,
    bias: Sequence[str] = (),
) -> list[str]:
    """Add a MatMulNBits and return its inputs."""
    inputs = [
        hidden,
        graph.store_finished(f"{weight}.codes", blocks.codes),
        graph.store_finished(f"{weight}.scales", blocks.scales),
    ]
    if blocks.zero_points is not None:
        inputs.append(graph.store_finished(f"{weight}.zero_points", blocks.zero_points))
    if bias:
        inputs += [*[""] * (5 - len(inputs)), *bias]
    graph.add(
        "MatMulNBits",
        inputs,
        output,
        domain=CONTRIB,
        K=columns,
        N=len(blocks.codes),
        bits=blocks.bits,
        block_size=blocks.size,
        accuracy_level=accuracy_level,
    )
    return inputs


def _with_block_sums(graph: GraphEditor, hidden: str, columns: int, accuracy_level: int) -> str:
    """`hidden` [..., K] with the sums of its blocks behind it, [..., K + W]."""
    wide = f"{hidden}.with_sums"
    if graph.maker(wide) is None:
        sums = f"{hidden}.sums"
        _add_product(graph, hidden, f"block_sums.{columns}", block_sums(columns), sums, columns, accuracy_level)
        graph.add("Concat", [hidden, sums], wide, axis=-1)
    return wide


def _quantise_embedding(graph: GraphEditor, embedding: SharedEmbedding, head_inputs: list[str], blocks: Blocks) -> None:
    gather, transpose = embedding
    _, codes, scales, *zeros = head_inputs
    for node in embedding:
        graph.remove(node)
    # The head's codes are [rows, blocks, bytes]; this operator wants a row in one piece.
    shape = graph.store("embedding.shape", np.array([graph.initializers[codes].dims[0], -1]))
    rows = graph.add("Reshape", [codes, shape], "embedding.codes")
    add_lookup(graph, [rows, gather.input[1], scales, *zeros[:1]], transpose.output[0], blocks)
