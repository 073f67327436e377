"""Weights in fewer bits: fp16, or weight-only int8 and int4 in blocks of 32."""

from __future__ import annotations

import numpy as np
import onnx

from .passes.graph import CONTRIB, Graph, Node
from .passes.head import find_head
from .passes.shared_embedding import SharedEmbedding, find_shared_embedding
from .quantise_blocks import BLOCK, quantise_rows, regrid

__all__ = ["PRECISIONS", "quantise"]

PRECISIONS = ("fp32", "fp16", "int8", "int4")

_INT8_KERNEL = 4
"""`accuracy_level` of MatMulNBits: activations in eight bits, which is where the speed on a CPU comes from."""


def quantise(
    model: onnx.ModelProto,
    precision: str,
    *,
    head_bits: int = 8,
    symmetric: bool = False,
    accuracy_level: int = _INT8_KERNEL,
) -> onnx.ModelProto:
    """Bring a rewritten graph to a precision; `model` is edited in place and returned.

    `int8` and `int4` turn every MatMul or Gemm with a constant matrix into MatMulNBits; under `int4` the head keeps
    `head_bits`: it is where four bits hurt a small model most. Four-bit weights that were in blocks of sixteen levels
    before (a GGUF file's Q4_0, Q4_1, Q4_K) stay in them exactly; others get zero points unless `symmetric`, which
    is a twentieth faster and clearly worse. Eight-bit blocks are always symmetric. Raises `ValueError` for an unknown
    precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=["logits"], disable_shape_infer=True)
        return converted
    if precision == "fp32":
        return model
    graph = Graph(model)
    bits = 8 if precision == "int8" else 4
    head = find_head(graph)
    for node in list(graph.of_type("MatMul", "Gemm")):
        _quantise_matmul(graph, node, max(bits, head_bits) if node is head else bits, symmetric, accuracy_level)
    graph.sweep()
    return model


_PLAIN_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
"""Attributes of a Gemm that is a MatMul with a bias, as GPT-2's layers are."""


def _quantise_matmul(graph: Graph, node: Node, bits: int, symmetric: bool, accuracy_level: int) -> None:
    hidden, weight, *bias = node.input
    if any(graph.attribute(node, name, default) != default for name, default in _PLAIN_GEMM.items()):
        return
    dims = graph.dims(weight)
    if dims is None or len(dims) != 2:
        return
    matrix = graph.constant(weight)
    assert matrix is not None  # dims found the initialiser
    if matrix.dtype != np.float32:
        return
    embedding = find_shared_embedding(graph, weight)
    rows = np.ascontiguousarray(matrix.T)
    # Offsets need whole blocks of a [batch, sequence, hidden] value, and the embedding's operator has none.
    may_offset = bits == 4 and node.op_type == "MatMul" and dims[0] % BLOCK == 0 and embedding is None
    blocks = (regrid(rows) if may_offset else None) or quantise_rows(rows, bits, symmetric=symmetric or bits == 8)
    output = node.output[0]
    product = output if blocks.offsets is None else f"{output}.product"
    inputs = [
        hidden,
        graph.store(f"{weight}.codes", blocks.codes),
        graph.store(f"{weight}.scales", blocks.scales),
    ]
    if blocks.zero_points is not None or bias:
        zeros = blocks.zero_points
        inputs.append("" if zeros is None else graph.store(f"{weight}.zero_points", zeros))
    if bias:
        inputs += ["", *bias]
    graph.remove(node)
    graph.add(
        "MatMulNBits",
        inputs,
        product,
        domain=CONTRIB,
        K=dims[0],
        N=dims[1],
        bits=bits,
        block_size=BLOCK,
        accuracy_level=accuracy_level,
    )
    if blocks.offsets is not None:
        _add_offsets(graph, hidden, product, graph.store(f"{weight}.offsets", blocks.offsets.T), output)
    if embedding is not None and dims[0] % BLOCK == 0:  # a padded block would lengthen the embedding's rows
        _quantise_embedding(graph, embedding, inputs, bits)
    if not graph.users(weight):
        graph.drop(weight)


def _add_offsets(graph: Graph, hidden: str, product: str, offsets: str, output: str) -> None:
    """What a block's offset contributes is the offset times the sum of the block's inputs: a product 32 times smaller.

    MatMulNBits takes float zero points as well, and is then more than 30 times slower than both products together.
    """
    sums = f"{hidden}.block_sums"
    if graph.maker(sums) is None:
        blocks = graph.add(
            "Reshape", [hidden, graph.store("blocks.shape", np.array([0, 0, -1, BLOCK]))], f"{hidden}.blocks"
        )
        graph.add("ReduceSum", [blocks, graph.store("blocks.axis", np.array([-1]))], sums, keepdims=0)
    graph.add("Add", [product, graph.add("MatMul", [sums, offsets], f"{output}.offset")], output)


def _quantise_embedding(graph: Graph, embedding: SharedEmbedding, head_inputs: list[str], bits: int) -> None:
    gather, transpose = embedding
    _, codes, scales, *zeros = head_inputs
    for node in embedding:
        graph.remove(node)
    # The head's codes are [rows, blocks, bytes]; this operator wants a row in one piece.
    shape = graph.store("embedding.shape", np.array([graph.initializers[codes].dims[0], -1]))
    rows = graph.add("Reshape", [codes, shape], "embedding.codes")
    graph.add(
        "GatherBlockQuantized",
        [rows, gather.input[1], scales, *zeros[:1]],
        transpose.output[0],
        domain=CONTRIB,
        bits=bits,
        block_size=BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )
