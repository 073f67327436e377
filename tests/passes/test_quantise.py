"""Weights in fewer bits: exact where the blocks are, small errors elsewhere, the same graph around them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from decoding import Decoder, whole_script
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from row_bits_here import ask, at_least, known, opened, same_however_it_is_fed

from nudge_onnx.export.passes import rewrite
from nudge_onnx.export.quantise.blocks import BLOCK, Blocks, quantise_rows, unpack
from nudge_onnx.export.quantise.offsets import block_sums, widen
from nudge_onnx.export.quantise.regrid import regrid, rounded_before
from nudge_onnx.export.quantise.weights import quantise
from nudge_onnx.export.recipes import PASSES, RECIPES


def restore(blocks: Blocks, columns: int) -> np.ndarray:
    codes = unpack(blocks.codes, blocks.bits)
    if blocks.zero_points is not None:
        zeros = unpack(blocks.zero_points, blocks.bits)[:, : codes.shape[1]]
    else:
        zeros = np.full(codes.shape[:2], 1 << (blocks.bits - 1))
    values = (codes.astype(np.float32) - zeros[..., None]) * blocks.scales[..., None]
    if blocks.offsets is not None:
        values = values + blocks.offsets[..., None]
    return values.reshape(len(values), -1)[:, :columns]


@given(
    st.integers(1, 5),
    st.integers(1, 150),
    st.sampled_from([4, 8]),
    st.sampled_from([32, 64]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_a_weight_is_off_by_at_most_a_step(rows, columns, bits, size, symmetric, seed):
    matrix = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    blocks = quantise_rows(matrix, bits, size=size, symmetric=symmetric)
    assert blocks.size == size
    padded = np.pad(matrix, ((0, 0), (0, -columns % size))).reshape(rows, -1, size)
    reach = np.abs(padded).max(-1) * (1 if symmetric else 2)
    # Half a step of rounding; the 4-bit search may clip a fifth of the range; one code is missing on one side.
    allowed = reach / (1 << (bits - 1)) + (0.2 * reach if bits == 4 else 0)
    error = np.abs(restore(blocks, columns) - matrix)
    error = np.pad(error, ((0, 0), (0, -columns % size))).reshape(rows, -1, size).max(-1)
    assert (error <= allowed + 1e-6).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_what_a_block_can_hold_comes_back_exactly(bits):
    codes = np.random.default_rng(0).integers(-(1 << (bits - 1)), 1 << (bits - 1), (6, 64))
    codes[:, ::BLOCK] = -(1 << (bits - 1))
    matrix = (codes * 0.25).astype(np.float32)
    np.testing.assert_array_equal(restore(quantise_rows(matrix, bits), 64), matrix)


def gguf(kind: str, rows: int = 40, columns: int = 128, seed: int = 0) -> np.ndarray:
    """Random weights as they come out of GGUF blocks of a kind."""
    from gguf import GGMLQuantizationType, dequantize, quantize

    weights = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    type_ = GGMLQuantizationType[kind]
    return dequantize(quantize(weights, type_), type_)


@pytest.mark.parametrize(("kind", "offsets"), [("Q4_0", False), ("Q4_1", True)])
def test_weights_of_a_gguf_file_stay_on_their_grid(kind, offsets):
    matrix = gguf(kind)
    blocks = regrid(matrix)
    assert blocks is not None
    assert blocks.bits == 4
    assert (blocks.offsets is not None) == offsets
    np.testing.assert_allclose(restore(blocks, 128), matrix, atol=1e-6)


@pytest.mark.parametrize("kind", ["Q5_0", "Q8_0"])
def test_eight_bits_hold_the_wider_kinds_exactly(kind):
    matrix = gguf(kind)
    np.testing.assert_allclose(restore(quantise_rows(matrix, 8), 128), matrix, atol=1e-6)


def q6_k(rows: int = 40, columns: int = 128) -> np.ndarray:
    """Weights of GGUF's Q6_K: 64 levels around zero, a scale for each 16."""
    draw = np.random.default_rng(2)
    scales = draw.integers(20, 128, (rows, columns // 16, 1)) * 0.001
    return (draw.integers(-32, 32, (rows, columns // 16, 16)) * scales).astype(np.float32).reshape(rows, columns)


@pytest.mark.parametrize("kind", ["Q5_0", "Q5_1", "Q6_K", "Q8_0", "F32"])
def test_weights_on_no_grid_of_sixteen_are_not_forced_on_one(kind):
    matrix = q6_k() if kind == "Q6_K" else gguf(kind)
    assert regrid(matrix) is None
    assert rounded_before(matrix) == (kind != "F32")


def test_rounded_weights_are_known_when_kinds_are_joined():
    assert rounded_before(np.concatenate([gguf("Q5_0"), gguf("Q8_0"), q6_k(), gguf("Q4_1")]))
    assert not rounded_before(np.concatenate([gguf("Q5_0"), gguf("F32")]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_no_blocks(dtype):
    weights = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32) * 0.02
    short = weights.astype(np.float16) if dtype == "float16" else (weights.view(np.uint32) >> 16 << 16).view(np.float32)
    assert not rounded_before(short.astype(np.float32))


def test_blocks_that_use_few_of_their_levels_are_found():
    # As in Q4_K, whose scales are rounded: a block need not reach its first or last level.
    draw = np.random.default_rng(3)
    codes = draw.integers(2, 11, (8, 4, BLOCK))
    scale = draw.uniform(0.01, 0.1, (8, 4, 1))
    matrix = (codes * scale + draw.normal(size=(8, 4, 1))).astype(np.float32).reshape(8, 128)
    matrix[0, :BLOCK] = 0.125
    matrix[1, :BLOCK] = -0.125
    blocks = regrid(matrix)
    assert blocks is not None
    np.testing.assert_allclose(restore(blocks, 128), matrix, atol=1e-5)


@pytest.mark.parametrize("columns", [32, 128, 1056])
def test_offsets_become_columns_that_the_block_sums_multiply(columns):
    blocks = regrid(gguf("Q4_1", columns=columns))
    assert blocks is not None
    wide = widen(blocks)
    inputs = np.random.default_rng(1).standard_normal(columns).astype(np.float32)
    sums = restore(block_sums(columns), columns) @ inputs
    assert wide.codes.shape[1] * BLOCK == columns + len(sums)
    found = restore(wide, columns + len(sums)) @ np.concatenate([inputs, sums])
    np.testing.assert_allclose(found, restore(blocks, columns) @ inputs, atol=0.1 * blocks.scales.max())


def on_grid(model: onnx.ModelProto, kind: str) -> None:
    """Put the layers' matrices in blocks of a GGUF kind."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2 and tensor.name.startswith("onnx::MatMul"):
            matrix = onnx.numpy_helper.to_array(tensor)
            values = gguf(kind, *matrix.shape[::-1]).T * matrix.std()
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_four_bits_are_no_second_rounding(exported, kind):
    model, config = exported("llama")
    on_grid(model, kind)
    model = rewrite(model, config, RECIPES["cpu", "int4"].rewriting).model
    before = whole_script(Decoder(model, in_place=True), config["vocab_size"])
    model = quantise(model, "int4", accuracy_level=1)
    after = whole_script(Decoder(model, in_place=True), config["vocab_size"])
    # What is left is the eight bits of head and embedding; the layers are exact.
    assert max(np.abs(after[name] - before[name]).max() for name in before) < 0.08 * np.std(before["prefill"])


def test_a_matrix_of_zeros_stays_zero():
    for symmetric in (True, False):
        np.testing.assert_array_equal(restore(quantise_rows(np.zeros((2, 40)), 4, symmetric=symmetric), 40), 0)


def test_the_search_never_loses_to_rounding():
    matrix = np.random.default_rng(1).standard_t(4, (64, 256)).astype(np.float32)
    blocks = matrix.reshape(64, -1, BLOCK)
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    nearest = np.clip(np.rint(blocks / (peak / -8)), -8, 7) * (peak / -8)
    found = restore(quantise_rows(matrix, 4), 256)
    assert np.square(found - matrix).sum() < 0.95 * np.square(nearest.reshape(64, 256) - matrix).sum()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "phi3"])
@pytest.mark.parametrize(("precision", "allowed"), [("int8", 0.08), ("int4", 0.5)])
def test_quantised_graph_stays_near(exported, architecture, precision, allowed):
    model, config = exported(architecture, tied=architecture in ("gemma3", "gpt2"))
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", precision].rewriting)
    model = quantise(result.model, precision)
    kinds = [node.op_type for node in model.graph.node]
    assert "MatMul" not in kinds
    assert "Gemm" not in kinds
    after = whole_script(Decoder(model, in_place=True), config["vocab_size"])
    spread = np.std(before["prefill"])
    assert max(np.abs(after[name] - before[name]).mean() for name in before) < allowed * spread


def test_blocks_of_int8_are_long_where_inputs_can_be_cut_so(exported):
    model, config = exported("llama")
    model = quantise(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model, "int8")
    products = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    sizes = {tuple(helper.get_node_attr_value(node, name) for name in ("K", "block_size")) for node in products}
    assert sizes == {(64, 64), (96, 32)}


@pytest.mark.parametrize("skip", [set(), set(PASSES)])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "olmo2"])
def test_half_precision_keeps_its_cache_in_halves_and_its_logits_whole(exported, architecture, skip):
    model, config = exported(architecture)
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", "fp16"].without(skip).rewriting)
    decoder = Decoder(quantise(result.model, "fp16"), in_place=result.cache_kind == "in_place")
    assert {value.dtype for value in decoder.past.values()} == {np.dtype(np.float16)}
    after = whole_script(decoder, config["vocab_size"])
    assert after["prefill"].dtype == np.float32
    assert max(np.abs(after[name] - before[name]).mean() for name in before) < 0.01 * np.std(before["prefill"])


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_tied_embedding_shares_the_quantised_head(exported, precision):
    model, config = exported("gemma3", tied=True)
    model = quantise(rewrite(model, config, RECIPES["cpu", precision].rewriting).model, precision)
    [embedding] = [node for node in model.graph.node if node.op_type == "GatherBlockQuantized"]
    head = next(node for node in model.graph.node if "logits" in node.output)
    assert embedding.input[2] == head.input[2]
    assert all(
        len(tensor.dims) < 2 or 320 not in tensor.dims or tensor.data_type != 1 or tensor.name == head.input[2]
        for tensor in model.graph.initializer
    )


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["Q4_1", None])
def test_a_row_is_the_same_whatever_is_checked_with_it(exported, precision, kind):
    model, config = exported("llama")
    if kind is not None:
        on_grid(model, kind)
    model = quantise(rewrite(model, config, RECIPES["cpu", precision].rewriting).model, precision)
    ids = [int(token) for token in np.random.default_rng(5).integers(3, config["vocab_size"], 40)]
    graph = ask(opened(model))
    assert at_least(graph.rows, known(precision, floats=True))
    same_however_it_is_fed(graph, ids, range(2, 17))
    if graph.rows == "none":
        return
    decoder = Decoder(model, in_place=True)
    firsts = []
    for count in range(2, 17):
        decoder.rewind(0)
        decoder.feed(ids[:20])
        firsts.append(decoder.feed(ids[20 : 20 + count])[0])
    for first in firsts[1:]:
        np.testing.assert_array_equal(first, firsts[0])


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_1", None])
def test_a_product_is_the_same_to_the_last_bit_for_as_many_rows_as_are_known_to_agree(kind):
    draw = np.random.default_rng(4)
    matrix = draw.standard_normal((1024, 96)).astype(np.float32) if kind is None else gguf(kind, 96, 1024).T
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["hidden", "weight"], ["logits"])],
        "product",
        [value("hidden", 1, ["batch", "rows", 1024])],
        [value("logits", 1, ["batch", "rows", 96])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(matrix), "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    model = quantise(model, "int4", head_bits=4)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hidden = draw.standard_normal((1, 40, 1024)).astype(np.float32)

    def product(first, last):
        return session.run(None, {"hidden": hidden[:, first:last]})[0]

    for rows in (2, 3, 4, 8, 40):
        several = product(0, rows)
        if known("int4") == "all":
            np.testing.assert_array_equal(several[:, :1], product(0, 1))
            np.testing.assert_array_equal(several[:, 1:2], product(1, 2))
        if known("int4") != "none":
            np.testing.assert_array_equal(several[:, :2], product(0, 2))
            np.testing.assert_array_equal(several[:, -2:], product(rows - 2, rows))
