"""Attention in place computes what Optimum's attention computes."""

from __future__ import annotations

import importlib

import onnx
import pytest
from architectures import tested
from decoding import Decoder, largest_difference, whole_script

from nudge_onnx.export.passes import rewrite
from nudge_onnx.export.recipes import RECIPES

# The package has a function of this name.
gqa = importlib.import_module("nudge_onnx.export.passes.group_query_attention")

LLAMA3 = {
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 64,
    }
}
LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}
DYNAMIC = {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}

CASES = [(name, {}) for name in tested("all", "heads")] + [
    ("llama", LLAMA3),
    ("llama", LINEAR),
    ("llama", YARN),
    ("phi3", {"partial_rotary_factor": 0.5, "num_attention_heads": 2, "num_key_value_heads": 1}),
    ("phi3", {"sliding_window": 16}),
    ("mistral", {"sliding_window": None}),
    ("gemma2", {"attn_logit_softcapping": 2.0, "attention": "eager"}),
]


@pytest.mark.parametrize(("architecture", "overrides"), CASES, ids=lambda case: str(case)[:40])
def test_rewritten_graph_equals_the_one_before_in_prefill_step_chunk_and_rewind(exported, architecture, overrides):
    model, config = exported(architecture, **overrides)
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    after = whole_script(Decoder(result.model, in_place=True), config["vocab_size"])

    assert "group-query-attention" in result.applied
    assert result.cache_kind == "in_place"
    assert "Softmax" not in {node.op_type for node in result.model.graph.node}
    assert largest_difference(before, after) < 1e-4


@pytest.mark.parametrize(("architecture", "neighbours"), [("llama", 0), ("gpt_neox", 0), ("glm", 1), ("cohere", 1)])
def test_the_operator_turns_the_pairs_that_the_model_turns(exported, architecture, neighbours):
    model, config = exported(architecture)
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    turned = [
        onnx.helper.get_node_attr_value(node, "rotary_interleaved")
        for node in result.model.graph.node
        if node.op_type == "GroupQueryAttention"
    ]
    assert turned == [neighbours] * 2
    assert len([tensor for tensor in result.model.graph.initializer if tensor.name.startswith("rotary.")]) == 2


def test_every_layer_keeps_its_own_window(exported):
    model, config = exported("gemma3")
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    windows = [
        onnx.helper.get_node_attr_value(node, "local_window_size")
        for node in result.model.graph.node
        if node.op_type == "GroupQueryAttention"
    ]
    assert windows == [16, -1]


@pytest.mark.parametrize(("window", "context", "told"), [(300, 512, 300), (510, 512, 510), (32768, 512, -1)])
def test_a_window_is_read_from_a_few_rows_of_its_mask(exported, monkeypatch, window, context, told):
    rows = []
    whole = gqa.evaluate

    def counted(graph, value, tokens, past=0):
        found = whole(graph, value, tokens, past)
        # Tables have three axes, a mask four.
        rows.extend([found.shape[-2]] if found is not None and found.ndim == 4 else [])
        return found

    monkeypatch.setattr(gqa, "evaluate", counted)
    model, config = exported("mistral", sliding_window=window, max_position_embeddings=context)
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    windows = {
        onnx.helper.get_node_attr_value(node, "local_window_size")
        for node in result.model.graph.node
        if node.op_type == "GroupQueryAttention"
    }
    assert windows == {told}
    assert rows
    assert max(rows) <= 16


def test_a_window_that_the_configuration_does_not_name_is_no_full_attention(exported):
    model, config = exported("mistral", sliding_window=300)
    assert rewrite(model, config | {"sliding_window": None}, RECIPES["cpu", "fp32"].rewriting).cache_kind == "growing"


def test_gemma_2_caps_its_scores_in_the_operator(exported):
    # Scaled dot product attention, the exporter's default, drops the cap; the eager kind has it.
    model, config = exported("gemma2", attn_logit_softcapping=2.0, attention="eager")
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    caps = [
        onnx.helper.get_node_attr_value(node, "softcap")
        for node in result.model.graph.node
        if node.op_type == "GroupQueryAttention"
    ]
    assert caps == [2.0, 2.0]


def test_positions_are_no_input_where_the_operator_knows_them(exported):
    model, config = exported("llama")
    assert rewrite(model, config, RECIPES["cpu", "fp32"].rewriting).inputs[:2] == ("input_ids", "attention_mask")
    model, config = exported("gpt2")
    assert "position_ids" in rewrite(model, config, RECIPES["cpu", "fp32"].rewriting).inputs


@pytest.mark.parametrize(("own", "asked", "rows"), [(512, 100, 100), (512, 20_000, 512), (40_000, 20_000, 20_000)])
def test_tables_are_as_long_as_was_asked_and_no_longer_than_the_model_reads(exported, own, asked, rows):
    model, config = exported("llama", max_position_embeddings=own)
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting, asked)
    assert result.context_length == rows
    assert {t.dims[0] for t in result.model.graph.initializer if t.name.startswith("rotary.")} == {rows}


def test_context_is_what_the_rotary_tables_hold(exported):
    model, config = exported("llama")
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    rows = {tuple(t.dims) for t in result.model.graph.initializer if t.name.startswith("rotary.")}
    assert rows == {(512, 8)}
    assert result.context_length == 512


def test_a_table_that_depends_on_the_length_is_left_to_the_growing_cache(exported):
    model, config = exported("llama", **DYNAMIC)
    before = whole_script(Decoder(model, in_place=False), config["vocab_size"])
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    after = whole_script(Decoder(result.model, in_place=result.cache_kind == "in_place"), config["vocab_size"])
    assert largest_difference(before, after) < 1e-4


def test_a_table_too_narrow_for_the_operator_is_left_to_the_growing_cache(exported):
    model, config = exported("phi3", partial_rotary_factor=0.5)
    assert rewrite(model, config, RECIPES["cpu", "fp32"].rewriting).cache_kind == "growing"


def test_a_past_that_something_else_reads_is_left_to_the_growing_cache(exported):
    model, config = exported("llama")
    graph = model.graph
    graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["kept"]))
    logits = next(node for node in graph.node if "logits" in node.output)
    logits.output[0] = "raw"
    graph.node[-1].input[0] = "raw"
    graph.node.append(onnx.helper.make_node("Shape", ["past_key_values.0.key"], ["lengths"]))
    graph.node.append(onnx.helper.make_node("ReduceMax", ["lengths"], ["longest"], keepdims=0))
    graph.node.append(onnx.helper.make_node("Cast", ["longest"], ["shift"], to=onnx.TensorProto.FLOAT))
    graph.node.append(onnx.helper.make_node("Add", ["kept", "shift"], ["logits"]))
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    assert result.cache_kind == "growing"
    assert "group-query-attention" not in result.applied


def test_a_mask_of_another_kind_is_left_to_the_growing_cache(exported):
    model, config = exported("llama")
    for node in model.graph.node:
        if node.op_type == "LessOrEqual":  # every token also sees the one after it
            node.op_type = "GreaterOrEqual"
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    assert result.cache_kind == "growing"
