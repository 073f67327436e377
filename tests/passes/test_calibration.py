"""Four bits of a float checkpoint: rounded by what a text brings, and eight where that is not enough."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest

from nudge_onnx.export.measure.calibrate import Calibration
from nudge_onnx.export.passes import rewrite, smoothable
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.quantise.blocks import BLOCK, Blocks, quantise_rows, unpack
from nudge_onnx.export.quantise.gptq import gptq
from nudge_onnx.export.quantise.weights import quantise, to_calibrate
from nudge_onnx.export.recipes import RECIPES
from nudge_onnx.export.source.calibration_text import calibration_text


def restore(blocks: Blocks) -> np.ndarray:
    assert blocks.zero_points is not None
    codes = unpack(blocks.codes, blocks.bits)
    zeros = unpack(blocks.zero_points, blocks.bits)[:, : codes.shape[1]]
    return ((codes.astype(np.float32) - zeros[..., None]) * blocks.scales[..., None]).reshape(len(codes), -1)


def related_inputs(tokens: int, columns: int, seed: int = 0) -> np.ndarray:
    """Inputs as hidden states are: a few directions carry most, and some columns are large."""
    draw = np.random.default_rng(seed)
    mixed = draw.standard_normal((tokens, 12)) @ draw.standard_normal((12, columns))
    return ((mixed + 0.3 * draw.standard_normal((tokens, columns))) * draw.gamma(1, 1, columns)).astype(np.float32)


@pytest.mark.parametrize("columns", [96, 80])
def test_feedback_keeps_the_product_nearer_than_nearest_weights_do(columns):
    matrix = np.random.default_rng(1).standard_normal((columns, 48)).astype(np.float32)
    inputs = related_inputs(400, columns)
    blocks = gptq(matrix, inputs.T @ inputs / len(inputs))
    assert blocks.codes.shape == (48, -(-columns // BLOCK), 16)
    nearest = quantise_rows(matrix.T, 4, symmetric=False)
    error, plain = (np.square(inputs @ (restore(found)[:, :columns].T - matrix)).sum() for found in (blocks, nearest))
    assert error < 0.5 * plain


def test_a_column_that_is_always_zero_does_no_harm():
    matrix = np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)
    inputs = related_inputs(100, 64)
    inputs[:, :BLOCK] = 0
    assert np.isfinite(restore(gptq(matrix, inputs.T @ inputs))).all()
    assert np.isfinite(restore(gptq(0 * matrix, 0 * inputs.T @ inputs))).all()


def everything(layers):
    return {name: array for layer in layers for name, array in layer.items()}


@pytest.mark.parametrize("skip", [set(), {"group-query-attention"}])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_what_a_graph_multiplies_is_seen_and_the_graph_stays_as_it_was(exported, architecture, skip):
    model, config = exported(architecture)
    model = rewrite(model, config, RECIPES["cpu", "int4"].without(skip).rewriting).model
    before = copy.deepcopy(model)
    names = to_calibrate(model, "int4")
    seen = everything(Calibration(range(3, 43), window=16).observe(model, names))
    assert seen.keys() == set(names)
    assert {len(array) for array in seen.values()} == {40}
    assert model.graph.node == before.graph.node
    assert model.graph.output == before.graph.output
    for tensor, held in zip(model.graph.initializer, before.graph.initializer, strict=True):
        assert tensor.name == held.name
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(held))


def test_sizes_of_channels_are_those_of_what_was_seen(exported):
    model, config = exported("llama")
    model = rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model
    values = smoothable(GraphEditor(model))
    calibration = Calibration(range(3, 43), window=16)
    sizes, _ = calibration.sizes(model, values)
    seen = everything(calibration.observe(model, values))
    assert sizes.keys() == set(values)
    for value in values:
        np.testing.assert_allclose(sizes[value], np.sqrt(np.square(seen[value]).mean(0)), rtol=1e-5)


def test_matrices_that_need_no_second_rounding_need_no_text(exported):
    from test_quantise import on_grid

    model, config = exported("llama")
    on_grid(model, "Q4_1")
    assert to_calibrate(rewrite(model, config, RECIPES["cpu", "int4"].rewriting).model, "int4") == []


def test_the_text_is_short_and_of_many_kinds():
    text = calibration_text()
    assert 4_000 < len(text) < 12_000
    assert all(mark in text for mark in ("def ", "Question:", "|---|", "ä", '{"', "User:"))


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "phi3", "gpt2"])
def test_attention_projections_and_the_way_back_keep_eight_bits(exported, architecture):
    model, config = exported(architecture)
    model = quantise(rewrite(model, config, RECIPES["cpu", "int4"].rewriting).model, "int4")
    layers = sum(value.name.endswith(".key") for value in model.graph.output)
    bits = [
        attribute.i
        for node in model.graph.node
        if node.op_type == "MatMulNBits" and "logits" not in node.output
        for attribute in node.attribute
        if attribute.name == "bits"
    ]
    assert sorted(bits) == [4] * 2 * layers + [8] * 2 * layers
