"""Attention in halves, for CUDA: the same function as near as halves are, and floats everywhere else."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from decoding import Decoder, whole_script
from onnx import TensorProto

from nudge_onnx.export.passes import finish, rewrite
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.quantise.weights import quantise
from nudge_onnx.export.recipes import RECIPES, Recipe

FAMILIES = ["llama", "gemma2", "gemma3", "qwen2", "phi3", "gpt2"]


def halved(exported, architecture: str, precision: str = "fp32", recipe: Recipe = RECIPES["cuda", "int8"]):
    """A graph before and after, and the passes that ran."""
    model, config = exported(architecture)
    model = rewrite(model, config, RECIPES["cpu", precision].rewriting).model
    if precision != "fp32":
        model = quantise(model, precision)
    before = copy.deepcopy(model)
    return before, model, finish(model, recipe.finishing)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_logits_stay_as_near_as_halves_are(exported, architecture):
    before, model, applied = halved(exported, architecture)
    assert applied == ("half-attention", "uncertainty-head")
    floats, halves = Decoder(before, in_place=True), Decoder(model, in_place=True)
    assert {array.dtype for array in halves.past.values()} == {np.dtype(np.float16)}
    vocabulary = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value or 320
    wanted, found = whole_script(floats, vocabulary), whole_script(halves, vocabulary)
    for name in wanted:
        assert np.abs(found[name] - wanted[name]).max() < 5e-3 * np.ptp(wanted[name]), name


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_attention_reads_halves_and_every_product_floats(exported, precision):
    _, model, _ = halved(exported, "gemma3", precision)
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.graph.value_info, *model.graph.input)}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    graph = GraphEditor(model)
    attentions = list(graph.of_type("GroupQueryAttention"))
    assert len(attentions) == 2
    for node in attentions:
        read = [node.input[at] for at in (0, 1, 2, 3, 4, 7, 8) if node.input[at]]
        made_by_cast = {graph.attribute(graph.made_by(name, "Cast"), "to") for name in node.input[:3] if name}
        assert made_by_cast == {TensorProto.FLOAT16}
        assert {types[name] for name in read if name in types} == {TensorProto.FLOAT16}
        (after,) = graph.users(node.output[0])
        assert (after.op_type, graph.attribute(after, "to")) == ("Cast", TensorProto.FLOAT)
    assert {types[node.input[2]] for node in graph.of_type("MatMulNBits")} == {TensorProto.FLOAT}


def test_it_runs_only_where_it_is_asked_for_and_floats_are_cached(exported):
    assert halved(exported, "llama", recipe=RECIPES["cpu", "fp32"])[2] == ("uncertainty-head",)
    assert halved(exported, "llama", "fp16")[2] == ("uncertainty-head",)
