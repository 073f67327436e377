"""The passes that run behind quantisation: rows that do not depend on their company, and the uncertainty head."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from decoding import Decoder
from onnx import TensorProto, helper

from nudge_onnx.export.passes import apply, finish
from nudge_onnx.export.passes.graph import Graph
from nudge_onnx.export.passes.uncertainty_head import uncertainty_head
from nudge_onnx.export.quantise import quantise

HEAD = ["top1_id", "top1_probability", "log_sum_exp"]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen2", "gpt2"])
def test_a_row_read_alone_has_the_bits_of_a_row_read_with_others(exported, architecture, precision):
    model, config = exported(architecture)
    model = quantise(apply(model, config, precision=precision).model, precision)
    assert "steady-rows" in finish(model, config)
    decoder = Decoder(model, in_place=True)
    ids = [int(token) for token in np.random.default_rng(1).integers(3, config["vocab_size"], 40)]
    decoder.feed(ids[:20])
    together = decoder.feed(ids[20:])
    for step in (1, 3):
        decoder.rewind(20)
        parts = [decoder.feed(ids[at : at + step]) for at in range(20, 40, step)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_a_graph_of_floats_keeps_its_rows(exported):
    model, config = exported("llama")
    result = apply(model, config, precision="fp32")
    assert finish(result.model, config) == ("uncertainty-head",)


def test_finishing_passes_can_be_left_out(exported):
    model, config = exported("llama")
    model = quantise(apply(model, config, precision="int8").model, "int8")
    assert finish(model, config, skip=["steady-rows", "uncertainty-head"]) == ()


def head_of(vocabulary: int) -> onnxruntime.InferenceSession:
    """A graph that is nothing but the head, over logits that are its input."""
    shape = [1, "num_rows", vocabulary]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["logits"])],
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    edited = Graph(model)
    assert uncertainty_head(edited, {})
    edited.sweep()
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("vocabulary", [17, 300, 49152, 50257])
def test_the_head_says_what_the_logits_say(vocabulary):
    session = head_of(vocabulary)
    logits = np.random.default_rng(0).normal(0, 4, (1, 5, vocabulary)).astype(np.float32)
    logits[0, 1, [3, vocabulary - 1]] = 40  # the first of equals wins
    logits[0, 2, : vocabulary // 2] = -np.inf
    logits[0, 3] = 0
    ids, top1, log_sums = session.run(HEAD, {"x": logits})
    exact = logits.astype(np.float64)
    peaks = exact.max(-1)
    expected = peaks + np.log(np.exp(exact - peaks[..., None]).sum(-1))
    np.testing.assert_array_equal(ids, logits.argmax(-1))
    np.testing.assert_allclose(log_sums, expected, rtol=1e-6)
    np.testing.assert_allclose(top1, np.exp(peaks - expected), rtol=2e-6)
    for row in range(5):
        alone = session.run(HEAD, {"x": logits[:, row : row + 1]})
        assert [float(value[0, 0]) for value in alone] == [float(v[0, row]) for v in (ids, top1, log_sums)]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_have_no_probability(broken):
    logits = np.zeros((1, 2, 300), np.float32)
    logits[0, 1, 77] = broken
    top1 = head_of(300).run(["top1_probability"], {"x": logits})[0][0]
    assert top1[0] == np.float32(1 / 300)
    assert not 0 < top1[1] <= 1
    assert not 0 < head_of(300).run(["top1_probability"], {"x": np.full((1, 1, 300), -np.inf, np.float32)})[0] <= 1
