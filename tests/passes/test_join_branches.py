"""Layers that stand in one branch together compute what they computed apart, to the last bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from decoding import Decoder

from nudge_onnx.export.measure.calibrate import Calibration
from nudge_onnx.export.passes import finish, rewrite
from nudge_onnx.export.passes.graph_editor import GraphEditor, bodies
from nudge_onnx.export.passes.prompt_attention import MANY
from nudge_onnx.export.quantise.weights import quantise
from nudge_onnx.export.recipes import RECIPES

FAMILIES = ["llama", "mistral", "gemma2", "gemma3", "qwen2", "phi3", "gpt2"]
# Shorter and longer than a prompt, over the edge of a tiny window at 160 positions, and singly.
READ = (100, 130, *[1] * 12, 5)


def pair(exported, architecture: str, **overrides):
    """A quantised graph with its layers apart and with them joined, the passes of the latter, and random ids."""
    model, config = exported(architecture, **overrides)
    apart = quantise(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model, "int8")
    joined = copy.deepcopy(apart)
    ids = [int(token) for token in np.random.default_rng(2).integers(3, config["vocab_size"], 300)]
    peaks = Calibration(ids[:80]).cache_peaks(apart)
    finish(apart, RECIPES["cpu", "int8"].without(("join-branches",)).finishing, peaks=peaks)
    return apart, joined, finish(joined, RECIPES["cpu", "int8"].finishing, peaks=peaks), ids


def choices(graph: GraphEditor) -> list:
    return [node for node in graph.of_type("If") if node.input[0] == MANY]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_all_bits_and_all_that_is_cached_stay_the_same(exported, architecture):
    apart, joined, applied, ids = pair(exported, architecture)
    assert "join-branches" in applied
    decoders = [Decoder(model, in_place=True) for model in (apart, joined)]
    for back_to in (0, 165, 20):
        for decoder in decoders:
            decoder.rewind(back_to)
        for count in READ:
            new = ids[decoders[0].length :][:count]
            if new:
                wanted, found = (decoder.feed(new) for decoder in decoders)
                np.testing.assert_array_equal(found, wanted)
    for name, codes in decoders[1].past.items():
        np.testing.assert_array_equal(codes, decoders[0].past[name])


def test_layers_are_joined_in_groups_and_each_weight_is_there_once(exported):
    apart, joined, _, ids = pair(exported, "llama", num_hidden_layers=7)
    assert len(choices(GraphEditor(apart))) == 7
    found = choices(GraphEditor(joined))
    assert len(found) == 2
    for node in found:
        prompt, steps = bodies(node)
        assert not [inner for inner in (*prompt.node, *steps.node) if inner.op_type == "If"]
    assert {t.name for t in joined.graph.initializer} == {t.name for t in apart.graph.initializer}
    decoders = [Decoder(model, in_place=True) for model in (apart, joined)]
    for start, end in ((0, 140), (140, 141), (141, 150)):
        wanted, got = (decoder.feed(ids[start:end]) for decoder in decoders)
        np.testing.assert_array_equal(got, wanted)


def test_ifs_of_a_window_stay_around_their_attention(exported):
    _, joined, _, _ = pair(exported, "mistral")
    (node,) = choices(GraphEditor(joined))
    branches = {body.name: [inner.op_type for inner in body.node] for body in bodies(node)}
    assert "If" not in branches["prompt"]
    assert branches["steps"].count("If") == 2
    inner = [one.op_type for body in bodies(node) for step in body.node for part in bodies(step) for one in part.node]
    # ONNX Runtime packs no weights for a branch inside a branch.
    assert inner.count("GroupQueryAttention") == 4
    assert "MatMulNBits" not in inner


def test_without_prompts_of_their_own_there_is_nothing_to_join(exported):
    model, config = exported("llama")
    model = quantise(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model, "int8")
    peaks = Calibration(range(3, 83)).cache_peaks(model)
    assert finish(model, RECIPES["cpu", "int8"].without(("prompt-attention",)).finishing, peaks=peaks) == (
        "int8-cache",
        "uncertainty-head",
    )
