"""Channels on their way to one size: the same function in floats, and a nearer one in eight bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from decoding import Decoder, largest_difference, whole_script
from onnx import numpy_helper

from nudge_onnx.export.measure.calibrate import Calibration
from nudge_onnx.export.passes import rewrite, smooth, smoothable
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.quantise.weights import quantise
from nudge_onnx.export.recipes import RECIPES, SMOOTH_QUANT

LAYERS = 2


def script(model: onnx.ModelProto, config: dict) -> dict[str, np.ndarray]:
    return whole_script(Decoder(model, in_place=True), config["vocab_size"])


def made_up(values: list[str], widths: dict[str, int]) -> dict[str, np.ndarray]:
    """Sizes of channels over four orders of magnitude, one of them never seen but as zero."""
    draw = np.random.default_rng(0)
    sizes = {value: np.exp(draw.uniform(-5, 5, widths[value])).astype(np.float32) for value in values}
    for size in sizes.values():
        size[0] = 0
    return sizes


def widths_of(model: onnx.ModelProto, values: list[str]) -> dict[str, int]:
    """Channels of each value: the rows of the matrix that reads it."""
    graph = GraphEditor(model)
    found = {}
    for value in values:
        [user] = graph.users(value)
        product = user if user.op_type == "MatMul" else graph.users(user.output[0])[0]
        found[value] = graph.dims(product.input[1])[0]
    return found


@pytest.mark.parametrize(
    ("architecture", "per_layer", "head"),
    [
        ("llama", 3, 1),
        ("gemma3", 3, 1),
        ("qwen2", 3, 1),
        ("qwen3", 3, 1),
        ("phi3", 2, 1),
        ("olmo2", 1, 1),
        ("olmo", 1, 0),
    ],
)
def test_nothing_changes_in_floats(exported, architecture, per_layer, head):
    model, config = exported(architecture)
    model = rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model
    before = script(model, config)
    values = smoothable(GraphEditor(model))
    # What attention reads, gate and up, and the way back. Olmo has norms without weights, Olmo 2 none in front, and
    # Phi-3 cuts its gate with Slices of computed bounds.
    assert len(values) == LAYERS * per_layer + head
    held = [tensor.SerializeToString() for tensor in model.graph.initializer]
    assert smooth(model, made_up(values, widths_of(model, values))) == (SMOOTH_QUANT,)
    assert held != [tensor.SerializeToString() for tensor in model.graph.initializer]
    assert largest_difference(before, script(model, config)) < 1e-4


def test_without_sizes_nothing_is_smoothed(exported):
    model, config = exported("llama")
    model = rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model
    before = model.SerializeToString()
    assert smooth(model, {}) == ()
    assert model.SerializeToString() == before


def test_channels_that_were_never_seen_stay_what_they_are(exported):
    model, config = exported("llama")
    model = rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model
    before = script(model, config)
    widths = widths_of(model, smoothable(GraphEditor(model)))
    smooth(model, {value: np.zeros(width, np.float32) for value, width in widths.items()})
    assert largest_difference(before, script(model, config)) == 0


def small(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """Nodes that lead from `x` [1, 3, 8] to `y`."""
    value = onnx.helper.make_tensor_value_info
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "small", [value("x", 1, [1, 3, 8])], [value("y", 1, [1, 3, 5])], held)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def test_a_norm_with_a_bias_scales_both():
    draw = np.random.default_rng(1)
    node = onnx.helper.make_node
    model = small(
        node("LayerNormalization", ["x", "weight", "bias"], ["normed"]),
        node("MatMul", ["normed", "matrix"], ["y"]),
        **{name: draw.standard_normal(shape) for name, shape in (("weight", 8), ("bias", 8), ("matrix", (8, 5)))},
    )
    x = draw.standard_normal((1, 3, 8)).astype(np.float32)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    sizes = {"normed": np.array([1, 100, 0.1, 1, 1, 1, 1, 9], np.float32)}
    assert smooth(model, sizes) == (SMOOTH_QUANT,)
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [8, 1])
def test_only_a_factor_with_a_number_for_each_channel_is_scaled(width):
    draw = np.random.default_rng(1)
    node = onnx.helper.make_node
    model = small(
        node("MatMul", ["x", "up"], ["factor"]),
        node("Sigmoid", ["x"], ["bent"]),
        node("Mul", ["bent", "factor"], ["gated"]),
        node("MatMul", ["gated", "matrix"], ["y"]),
        up=draw.standard_normal((8, width)),
        matrix=draw.standard_normal((8, 5)),
    )
    assert smoothable(GraphEditor(model)) == (["gated"] if width == 8 else [])


def test_a_tied_head_is_left_to_the_embedding(exported):
    apart, config = exported("gemma3")
    tied, _ = exported("gemma3", tied=True)
    found = [
        len(smoothable(GraphEditor(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model)))
        for model in (apart, tied)
    ]
    assert found == [7, 6]


def test_a_value_that_something_else_reads_is_left_alone(exported):
    model, config = exported("llama")
    model = rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model
    value = smoothable(GraphEditor(model))[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(value, 1, ["batch", "rows", 64]))
    assert value not in smoothable(GraphEditor(model))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_eight_bits_are_nearer_where_a_few_channels_are_large(exported, architecture):
    """The weights of norms are made as uneven as those of large models, whose outliers these tiny ones lack."""
    differences = []
    for recipe in (RECIPES["cpu", "int8"].without({SMOOTH_QUANT}), RECIPES["cpu", "int8"]):
        model, config = exported(architecture)
        model = rewrite(model, config, recipe.rewriting).model
        draw = np.random.default_rng(0)
        for tensor in model.graph.initializer:
            if list(tensor.dims) == [64]:
                weights = numpy_helper.to_array(tensor).copy()
                weights[draw.integers(0, 64, 3)] *= 40
                tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
        before = script(model, config)
        sizes = Calibration(range(3, 200)).sizes(model, smoothable(GraphEditor(model)))[0]
        if recipe.smoothed:
            smooth(model, sizes)
        after = script(quantise(model, "int8"), config)
        differences.append(np.mean([np.abs(after[name] - before[name]).mean() for name in before]))
    plain, smoothed = differences
    assert smoothed < 0.6 * plain
