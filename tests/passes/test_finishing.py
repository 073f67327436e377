"""The passes that run behind quantisation: the cache of int8, prompts read over floats, and the uncertainty head."""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import onnx
import onnxruntime
import pytest
from decoding import Decoder
from onnx import TensorProto, helper
from row_bits_here import ask, at_least, known, opened, same_however_it_is_fed

from nudge_onnx.export.measure.calibrate import Calibration
from nudge_onnx.export.passes import PROMPT_ROWS, finish, rewrite
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.passes.int8_cache import Turned, reach
from nudge_onnx.export.passes.uncertainty_head import uncertainty_head
from nudge_onnx.export.passes.window_attention import windows
from nudge_onnx.export.quantise.weights import quantise
from nudge_onnx.export.recipes import RECIPES

HEAD = ["top1_id", "top1_probability", "log_sum_exp", "top2_logit", "entropy"]
FAMILIES = ["llama", "gemma2", "gemma3", "qwen2", "phi3", "gpt2", "gpt_neox", "glm"]
WINDOWED = ["mistral", "gemma2", "gemma3"]


def finished(exported, architecture: str, precision: str = "int8", skip: Collection[str] = ()):
    """A quantised graph before and after the finishing passes, the passes that ran, and random ids."""
    model, config = exported(architecture)
    model = quantise(rewrite(model, config, RECIPES["cpu", precision].rewriting).model, precision)
    before = copy.deepcopy(model)
    ids = [int(token) for token in np.random.default_rng(1).integers(3, config["vocab_size"], 300)]
    peaks = Calibration(ids[:80]).cache_peaks(model)
    return before, model, finish(model, RECIPES["cpu", "int8"].without(skip).finishing, peaks=peaks), ids


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_bits_of_a_row_hold_in_the_passes_that_were_found(exported, architecture, precision):
    _, model, applied, ids = finished(exported, architecture, precision)
    windows = ("window-attention",) if architecture in WINDOWED else ()
    assert applied == ("int8-cache", "prompt-attention", *windows, "join-branches", "uncertainty-head")
    graph = ask(opened(model, applied))
    assert at_least(graph.rows, known(precision))
    ids = ids[:252]  # which none of the sizes divides so that a single row is left
    same_however_it_is_fed(graph, ids)
    if graph.rows == "none":
        return
    decoder = Decoder(model, in_place=True)

    def read(size):
        decoder.rewind(0)
        return np.concatenate([decoder.feed(ids[at : at + size]) for at in range(0, len(ids), size)])

    smallest = read(1 if graph.rows == "all" else 2)
    for size in (3, 8, 100, 127):
        np.testing.assert_array_equal(read(size), smallest)


@pytest.mark.parametrize("skip", [(), ("prompt-attention",)])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_cache_of_int8_stays_near_one_of_floats(exported, architecture, skip):
    before, model, _, ids = finished(exported, architecture, skip=skip)
    floats, codes = Decoder(before, in_place=True), Decoder(model, in_place=True)
    assert {array.dtype for array in codes.past.values()} == {np.dtype(np.int8)}
    spread = 0.0
    for at, end in ((0, 40), (40, 41), (41, 60), (60, 190), (190, 200), (200, 300)):
        expected, seen = floats.feed(ids[at:end]), codes.feed(ids[at:end])
        spread = spread or float(np.std(expected))
        assert np.abs(seen - expected).mean() < 0.06 * spread


@pytest.mark.parametrize("filled", [0, 10])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_many_rows_are_read_over_floats_and_written_as_the_operator_writes_them(exported, architecture, filled):
    before, model, _, ids = finished(exported, architecture)
    _, plain, _, _ = finished(exported, architecture, skip=("prompt-attention",))
    floats, branching, by_codes = (Decoder(graph, in_place=True) for graph in (before, model, plain))
    for decoder in (floats, branching, by_codes):
        if filled:
            decoder.feed(ids[:filled])
    end = filled + PROMPT_ROWS
    seen, expected = branching.feed(ids[filled:end]), floats.feed(ids[filled:end])
    by_codes.feed(ids[filled:end])
    if filled:
        assert np.abs(seen - expected).mean() < 0.06 * np.std(expected)
    else:
        np.testing.assert_array_equal(seen, expected)
    for name, codes in branching.past.items():
        np.testing.assert_array_equal(codes[:, :, end:], 7)
        # The first layer reads the same hidden states; a code may fall on the other side of a half.
        if name.startswith("past_key_values.0."):
            differing = codes != by_codes.past[name]
            assert differing.mean() < 0.002
            assert np.abs(codes.astype(int) - by_codes.past[name]).max() <= 1
    step, expected = branching.feed(ids[end : end + 1]), floats.feed(ids[end : end + 1])
    assert np.abs(step - expected).mean() < 0.15 * np.std(expected)


@pytest.mark.parametrize("others", [(), ("prompt-attention",)])
@pytest.mark.parametrize("architecture", WINDOWED)
def test_the_end_of_the_cache_has_the_bits_of_the_whole(exported, architecture, others):
    _, with_ends, applied, ids = finished(exported, architecture, skip=others)
    _, plain, _, _ = finished(exported, architecture, skip=(*others, "window-attention"))
    assert "window-attention" in applied
    ends, whole = Decoder(with_ends, in_place=True), Decoder(plain, in_place=True)
    read = (100, 40, *[1] * 30, 60, *[1] * 40, 20)  # up to the edge at 160 in steps, over it, and over a block's
    assert windows(GraphEditor(with_ends)) == (16,)
    assert windows(GraphEditor(plain)) == ()
    for back_to in (None, 165, 20):
        if back_to is not None:
            ends.rewind(back_to)
            whole.rewind(back_to)
        for count in read:
            new = ids[ends.length : ends.length + count]
            if new:
                np.testing.assert_array_equal(ends.feed(new), whole.feed(new))
    for name, codes in ends.past.items():
        np.testing.assert_array_equal(codes, whole.past[name])


def test_a_window_as_long_as_the_context_is_left_alone(exported):
    model, config = exported("mistral", sliding_window=200)
    model = quantise(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model, "int8")
    peaks = Calibration(range(3, 83)).cache_peaks(model)
    assert "window-attention" not in finish(model, RECIPES["cpu", "int8"].finishing, peaks=peaks)


def test_what_goes_beyond_its_scale_ends_at_the_last_level(exported):
    model, config = exported("llama")
    model = quantise(rewrite(model, config, RECIPES["cpu", "int8"].rewriting).model, "int8")
    ids = [int(token) for token in np.random.default_rng(1).integers(3, config["vocab_size"], 200)]
    peaks = Calibration(ids).cache_peaks(model)
    finish(model, RECIPES["cpu", "int8"].finishing, peaks={name: array / 4 for name, array in peaks.items()})
    decoder = Decoder(model, in_place=True)
    decoder.feed(ids[:PROMPT_ROWS])
    decoder.feed(ids[PROMPT_ROWS:])
    for array in decoder.past.values():
        for part in (array[:, :, :PROMPT_ROWS], array[:, :, PROMPT_ROWS:200]):
            assert part.max() == 127
            assert part.min() == -128


def test_without_a_range_the_cache_stays_in_floats(exported):
    model, config = exported("llama")
    result = rewrite(model, config, RECIPES["cpu", "fp32"].rewriting)
    assert finish(result.model, RECIPES["cpu", "fp32"].finishing) == ("uncertainty-head",)


def test_a_graph_whose_attention_stayed_as_it_was_has_no_range(exported):
    model, config = exported("llama")
    model = rewrite(model, config, RECIPES["cpu", "int8"].without(["group-query-attention"]).rewriting).model
    assert Calibration(range(3, 43)).cache_peaks(model) == {}


def test_finishing_passes_can_be_left_out(exported):
    *_, applied, _ = finished(exported, "llama", skip=["int8-cache", "uncertainty-head"])
    assert applied == ()


def test_the_reach_of_a_turned_pair_is_its_length():
    values = np.zeros((1, 3, 6), np.float32)
    values[0, 1, [0, 2]] = 3, -4
    values[0, 2, 4:] = -7, 2
    np.testing.assert_array_equal(reach(values, Turned(2)), [[5, 0, 5, 0, 7, 2]])
    np.testing.assert_array_equal(
        reach(values, Turned(3, interleaved=True)), [[3, 3, 4, 4, *[np.float32(np.hypot(7, 2))] * 2]]
    )
    np.testing.assert_array_equal(reach(values, Turned()), [[3, 0, 4, 0, 7, 2]])


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
    edited = GraphEditor(model)
    assert uncertainty_head(edited)
    edited.sweep()
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("vocabulary", [4, 17, 300, 49152, 50257])
def test_the_head_says_what_the_logits_say(vocabulary):
    session = head_of(vocabulary)
    logits = np.random.default_rng(0).normal(0, 4, (1, 5, vocabulary)).astype(np.float32)
    logits[0, 1, [3, vocabulary - 1]] = 40  # the first of equals wins
    logits[0, 2, : vocabulary // 2] = -np.inf
    logits[0, 3] = 0
    found = session.run(HEAD, {"x": logits})
    ids, top1, log_sums, seconds, entropies = found
    exact = logits.astype(np.float64)
    peaks = exact.max(-1)
    expected = peaks + np.log(np.exp(exact - peaks[..., None]).sum(-1))
    np.testing.assert_array_equal(ids, logits.argmax(-1))
    np.testing.assert_allclose(log_sums, expected, rtol=1e-6)
    np.testing.assert_allclose(top1, np.exp(peaks - expected), rtol=2e-6)
    np.testing.assert_array_equal(seconds, np.partition(logits, -2)[..., -2])
    finite = np.where(np.isinf(exact), 0, exact)
    nats = expected - (np.exp(exact - expected[..., None]) * finite).sum(-1)
    np.testing.assert_allclose(entropies, nats, rtol=1e-4, atol=1e-5)
    for row in range(5):
        alone = session.run(HEAD, {"x": logits[:, row : row + 1]})
        assert [float(value[0, 0]) for value in alone] == [float(value[0, row]) for value in found]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_logits_have_no_probability(broken):
    logits = np.zeros((1, 2, 300), np.float32)
    logits[0, 1, 77] = broken
    top1 = head_of(300).run(["top1_probability"], {"x": logits})[0][0]
    assert top1[0] == np.float32(1 / 300)
    assert not 0 < top1[1] <= 1
    assert not 0 < head_of(300).run(["top1_probability"], {"x": np.full((1, 1, 300), -np.inf, np.float32)})[0] <= 1
