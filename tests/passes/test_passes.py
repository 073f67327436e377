"""Each pass alone: what it changes, and that it changes nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from decoding import Decoder, largest_difference, whole_script

from nudge_onnx.export.passes import finish, rewrite
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.recipes import PASSES, RECIPES


def only(*names: str) -> set[str]:
    return set(PASSES) - set(names)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def constants(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


def compare(exported, architecture: str, skip: set[str], **overrides) -> tuple[onnx.ModelProto, tuple[str, ...], float]:
    model, config = exported(architecture, **overrides)
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", "fp32"].without(skip).rewriting)
    in_place = result.cache_kind == "in_place"
    after = whole_script(Decoder(result.model, in_place=in_place), config["vocab_size"])
    return result.model, result.applied, largest_difference(before, after)


def test_no_pass_leaves_the_graph_as_it_was(exported):
    model, config = exported("llama")
    nodes = [node.SerializeToString() for node in model.graph.node]
    result = rewrite(model, config, RECIPES["cpu", "fp32"].without(set(PASSES)).rewriting)
    assert result.applied == ()
    assert result.cache_kind == "growing"
    assert result.logits_rows is None
    assert [node.SerializeToString() for node in result.model.graph.node] == nodes


def test_an_unknown_pass_is_refused_with_the_names_there_are(exported):
    model, config = exported("llama")
    with pytest.raises(ValueError, match=r"unknown pass fuse-everything; there are fold-tied-head, last-rows"):
        rewrite(model, config, RECIPES["cpu", "fp32"].without({"fuse-everything"}).rewriting)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "phi3"])
def test_a_portable_graph_has_standard_operators_only(exported, architecture):
    model, config = exported(architecture)
    result = rewrite(model, config, RECIPES["tensorrt", "fp32"].rewriting)
    assert finish(result.model, RECIPES["cpu", "fp32"].finishing) == ("uncertainty-head",)
    assert {node.domain for node in result.model.graph.node} == {""}
    assert "SimplifiedLayerNormalization" not in operators(result.model)
    onnx.checker.check_model(result.model)


def test_fold_tied_head_gives_the_head_a_matrix(exported):
    model, config = exported("llama", tied=True)
    head = next(node for node in model.graph.node if "logits" in node.output)
    table = next(tensor for tensor in model.graph.initializer if tensor.dims == [config["vocab_size"], 64])
    if head.input[1] in {tensor.name for tensor in model.graph.initializer}:
        # The exporter folds small tables itself; write the head as it writes a large one.
        model.graph.node.insert(0, onnx.helper.make_node("Transpose", [table.name], ["turned"], perm=[1, 0]))
        head.input[1] = "turned"
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", "fp32"].without(only("fold-tied-head")).rewriting)
    head = next(node for node in result.model.graph.node if "logits" in node.output)
    assert result.applied == ("fold-tied-head",)
    assert head.input[1] in {tensor.name for tensor in result.model.graph.initializer}
    assert largest_difference(before, whole_script(Decoder(result.model, in_place=False), config["vocab_size"])) == 0


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_last_rows_gives_the_same_bits_for_the_rows_asked_for(exported, architecture):
    model, config = exported(architecture)
    ids = list(range(3, 23))
    every = Decoder(model, in_place=False).feed(ids)
    result = rewrite(model, config, RECIPES["cpu", "fp32"].without(only("last-rows")).rewriting)
    assert result.logits_rows == "logits_rows"
    decoder = Decoder(result.model, in_place=False)
    np.testing.assert_array_equal(decoder.feed(ids, rows=[4, 19, -1]), every[[4, 19, -1]])


@pytest.mark.parametrize(
    ("architecture", "norms"), [("llama", 5), ("gemma2", 9), ("gemma3", 13), ("olmo2", 9), ("qwen3", 9)]
)
def test_fuse_norms_finds_every_norm(exported, architecture, norms):
    model, applied, difference = compare(exported, architecture, only("fuse-norms"))
    assert applied == ("fuse-norms",)
    assert operators(model)["SimplifiedLayerNormalization"] == norms
    assert operators(model)["Pow"] == 0
    assert difference < 1e-4


@pytest.mark.parametrize(
    ("architecture", "sums"), [("llama", 4), ("gemma2", 4), ("gemma3", 4), ("olmo2", 1), ("qwen2", 4), ("gpt2", 0)]
)
def test_a_norm_takes_in_the_addition_before_it(exported, architecture, sums):
    apart, _, _ = compare(exported, architecture, only("fuse-norms"))
    model, applied, difference = compare(exported, architecture, only("fuse-norms", "fuse-skip-norms"))
    assert ("fuse-skip-norms" in applied) == (sums > 0)
    assert operators(model)["SkipSimplifiedLayerNormalization"] == sums
    for kind in ("Add", "SimplifiedLayerNormalization"):
        assert operators(apart)[kind] - operators(model)[kind] == sums
    assert difference < 1e-4


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "gpt2"])
def test_fuse_gelu_finds_every_activation(exported, architecture):
    model, applied, difference = compare(exported, architecture, only("fuse-gelu"))
    assert applied == ("fuse-gelu",)
    assert operators(model)["FastGelu"] == 2
    assert operators(model)["Tanh"] == (1 if architecture == "gemma2" else 0)  # Gemma-2 caps its logits
    assert difference < 1e-4


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2", "olmo2", "phi3"])
def test_projections_of_one_hidden_state_are_joined(exported, architecture):
    model, applied, difference = compare(exported, architecture, set())
    assert difference < 1e-4
    assert ("fuse-qkv" in applied, "fuse-gate-up" in applied) == (
        (False, False) if architecture == "phi3" else (True, True)
    )
    # Two layers of qkv, attention output, gate and up, down; and the head.
    assert operators(model)["MatMul"] == 9


def test_projections_stay_apart_when_skipped(exported):
    model, applied, _ = compare(exported, "llama", {"fuse-qkv", "fuse-gate-up"})
    assert not {"fuse-qkv", "fuse-gate-up"} & set(applied)
    assert operators(model)["MatMul"] == 15


def test_a_tied_model_holds_one_table(exported):
    apart, _, _ = compare(exported, "gemma3", {"shared-embedding"}, tied=True)
    shared, applied, difference = compare(exported, "gemma3", set(), tied=True)
    assert "shared-embedding" in applied
    assert difference < 1e-4
    assert constants(apart) - constants(shared) == 320 * 64


def test_tables_that_differ_stay_two(exported):
    _, applied, _ = compare(exported, "llama", set())
    assert "shared-embedding" not in applied


def test_a_rewritten_graph_is_left_alone_the_second_time(exported):
    model, config = exported("gemma3", tied=True)
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    nodes = len(result.model.graph.node)
    again = rewrite(result.model, config, RECIPES["cpu", "fp32"].rewriting)
    assert again.applied == ()
    assert len(again.model.graph.node) == nodes


def test_new_constants_are_written_in_the_order_they_came(exported):
    model, _ = exported("llama")
    graph = GraphEditor(model)
    names = [f"new {number}" for number in range(20)]
    end = graph.add("Concat", [graph.store(name, np.zeros(1, np.float32)) for name in names], "all", axis=0)
    graph.expose(end, onnx.TensorProto.FLOAT, [20])
    graph.sweep()
    assert [tensor.name for tensor in model.graph.initializer][-20:] == names
