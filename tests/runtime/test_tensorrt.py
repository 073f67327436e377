"""TensorRT's options, as far as they can be told without a GPU, and a graph that it could take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from pairs import Pair, exported

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle, Cache, GraphIO, ModelRecord
from nudge_onnx.runtime.sessions.tensorrt import shape_profiles, tensorrt_options, with_tensorrt_options

KV = "past_key_values.0.{kind}:1x2x{past}x16"


@pytest.fixture
def record() -> ModelRecord:
    bundle = Bundle.open(Path(__file__).parent.parent / "conformance" / "bundles" / "word")
    return replace(
        bundle.manifest.models["base"],
        precision="fp16",
        context_length=600,
        cache=Cache(layers=1, kv_heads=2, head_size=16, dtype="float16"),
        io=GraphIO(position_ids="position_ids", logits_rows="logits_rows"),
    )


def caches(past: int) -> str:
    return ",".join(KV.format(kind=kind, past=past) for kind in ("key", "value"))


def test_profiles_cover_an_empty_cache_a_step_and_a_full_context(record: ModelRecord) -> None:
    assert shape_profiles(record) == {
        "trt_profile_min_shapes": f"input_ids:1x1,attention_mask:1x1,position_ids:1x1,logits_rows:1,{caches(0)}",
        "trt_profile_opt_shapes": f"input_ids:1x2,attention_mask:1x514,position_ids:1x2,logits_rows:2,{caches(512)}",
        "trt_profile_max_shapes": "input_ids:1x600,attention_mask:1x600,position_ids:1x600,logits_rows:128,"
        + caches(600),
    }


def test_profiles_name_only_inputs_that_the_graph_has_and_stay_within_a_short_context(record: ModelRecord) -> None:
    short = replace(record, context_length=64, io=GraphIO())
    profiles = shape_profiles(short)
    assert profiles["trt_profile_opt_shapes"] == f"input_ids:1x2,attention_mask:1x64,{caches(62)}"
    assert profiles["trt_profile_max_shapes"] == f"input_ids:1x64,attention_mask:1x64,{caches(64)}"


def test_options_of_the_user_win(record: ModelRecord, tmp_path: Path) -> None:
    options = tensorrt_options(record, {}, tmp_path)
    assert options["trt_fp16_enable"] == "1"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    own = {"trt_fp16_enable": "0", "trt_profile_max_shapes": "input_ids:1x8", "trt_engine_cache_enable": "0"}
    options = tensorrt_options(replace(record, precision="fp32"), own, tmp_path)
    assert {name: options[name] for name in own} == own
    # Half of a user's profile and half of ours would contradict each other.
    assert "trt_profile_min_shapes" not in options
    assert not any("cache" in name for name in tensorrt_options(record, {}, None))


def test_cuda_takes_what_tensorrt_leaves_on_the_same_device(
    record: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    wanted = [(names[0], {"device_id": "1"}), (names[2], {})]
    prepared = with_tensorrt_options(wanted, record, tmp_path / "engines")
    assert [name for name, _ in prepared] == names
    assert prepared[1][1] == {"device_id": "1"}
    assert Path(prepared[0][1]["trt_engine_cache_path"]).is_dir()
    with_cuda = [wanted[0], (names[1], {"use_tf32": "0"})]
    assert with_tensorrt_options(with_cuda, record, None)[1:] == with_cuda[1:]


def test_a_bundle_for_tensorrt_has_standard_operators_only_and_answers_on_a_cpu(
    tiny_word_pair: Pair, tmp_path: Path
) -> None:
    options = ["--target", "tensorrt", "--precision", "fp32"]
    bundle = Bundle.open(exported(tiny_word_pair.base, tiny_word_pair.nudge, tmp_path / "portable", *options))
    for role, model in bundle.manifest.models.items():
        graph = onnx.load(bundle.path(model.graph), load_external_data=False)
        assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}, role
        assert model.cache.kind == "growing"
        # A profile for an input that is missing, or none for one that is there, stops the provider.
        profiled = {entry.split(":")[0] for entry in shape_profiles(model)["trt_profile_min_shapes"].split(",")}
        assert profiled == {value.name for value in graph.graph.input}
    with NudgedLM.load(tmp_path / "portable") as portable, NudgedLM.load(tiny_word_pair.bundle) as lm:
        for prompt in ("the cat", "a dog ran"):
            mine, other = (one.generate(prompt, max_new_tokens=24) for one in (portable, lm))
            assert mine.text == other.text
