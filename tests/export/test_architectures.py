"""Every architecture that the docs name, exported for real and compared with PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from architectures import ARCHITECTURES, table, tested
from conftest import ExportTiny
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM

from nudge_onnx.errors import ExportError
from nudge_onnx.export.measure.graph_runner import GraphRunner
from nudge_onnx.export.source.configuration import load_config
from nudge_onnx.export.source.loading import load_model
from nudge_onnx.export.trace.traced_graph import traced_graph

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "The sky is blue because small molecules scatter short waves, 12 + 30 is 42, and 日本語 too. " * 3
KINDS = {"prefill": [60], "step": [40, *[1] * 20], "chunk": [30, 7, 1, 22], "from_nothing_by_steps": [1] * 20}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("architecture", tested("all"))
def test_logits_equal_pytorch_however_the_ids_are_fed(
    architecture: str, target: str, kind: str, export_tiny: ExportTiny
) -> None:
    exported = export_tiny(architecture, target=target)
    ids = exported.tokenizer.encode(TEXT)[: sum(KINDS[kind])]
    model = AutoModelForCausalLM.from_pretrained(exported.checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()

    record = exported.record
    runner = GraphRunner(exported.bundle / record.graph, record.io, record.cache, capacity=64)
    parts, at = [], 0
    for size in KINDS[kind]:
        parts.append(runner.feed(ids[at : at + size]))
        at += size
    found = np.concatenate(parts)

    assert found.shape == expected.shape == (len(ids), record.vocabulary_size)
    assert np.abs(found - expected).max() < 1e-3 * np.ptp(expected)
    assert (found.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("architecture", tested("all"))
def test_the_record_says_what_the_graph_is(architecture: str, export_tiny: ExportTiny) -> None:
    exported = export_tiny(architecture)
    record = exported.record
    graph = onnx.load(exported.bundle / record.graph).graph
    io = record.io
    named = {io.input_ids, io.attention_mask, io.position_ids, io.logits_rows} - {None}
    for layer in range(record.cache.layers):
        named |= {io.past_key.format(layer=layer), io.past_value.format(layer=layer)}
    assert {value.name for value in graph.input} == named
    assert record.context_length == 512
    assert record.vocabulary_size == 320
    assert record.end_token_ids == (exported.tokenizer.convert_tokens_to_ids("</s>"),)
    assert record.cache.layers == 2
    assert record.parity is not None
    assert record.parity.relative < 1e-3
    assert record.parity.greedy_agreement == 1.0
    assert record.parity.positions > 150


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_tied_weights_are_counted_once_and_exported_right(architecture: str, export_tiny: ExportTiny) -> None:
    tied, untied = export_tiny(architecture, tied=True).record, export_tiny(architecture).record
    assert tied.parity is not None
    assert tied.parity.relative < 1e-3
    assert tied.parameters is not None
    assert untied.parameters is not None
    assert untied.parameters - tied.parameters == 320 * 64


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize(
    ("precision", "least_agreement", "most_kl"), [("int8", 0.95, 0.005), ("int4", 0.6, 0.5), ("int4-all", 0.5, 0.6)]
)
def test_quantised_weights_stay_close(
    architecture: str, precision: str, least_agreement: float, most_kl: float, export_tiny: ExportTiny
) -> None:
    exported = export_tiny(architecture, precision=precision)
    parity = exported.record.parity
    assert exported.record.precision == precision
    assert parity is not None
    assert parity.top1_agreement >= least_agreement
    assert 0 < parity.kl <= most_kl
    full = export_tiny(architecture).bundle / "base" / "model.onnx"
    assert (exported.bundle / "base" / "model.onnx").stat().st_size < full.stat().st_size


@pytest.mark.parametrize("architecture", tested("experts"))
@pytest.mark.parametrize(("precision", "most_kl"), [("int8", 0.05), ("int4", 0.5), ("int4-all", 1.0)])
def test_experts_are_quantised(architecture: str, precision: str, most_kl: float, export_tiny: ExportTiny) -> None:
    exported = export_tiny(architecture, precision=precision)
    assert exported.record.parity is not None
    assert exported.record.parity.kl <= most_kl
    graph = onnx.load(exported.bundle / exported.record.graph).graph
    assert "MatMul" not in {node.op_type for node in graph.node if "experts" in node.name}
    # What is left are the routers of some, whose matrices are small.
    assert exported.record.float_weights is not None
    assert exported.record.float_weights < 0.1 * 320 * 64


def test_experts_in_mxfp4_are_unpacked(export_tiny: ExportTiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(export_tiny("gpt_oss", precision="int8").checkpoint, tmp_path / "packed"))
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = weights.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        weights[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
        weights[f"{name}_scales"] = torch.full(shape, 123, dtype=torch.uint8)  # 2 ** (123 - 127)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    model = load_model(folder)
    unpacked = model.model.layers[0].mlp.experts.gate_up_proj
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6]) / 16
    assert unpacked.dtype == torch.float32
    assert unpacked.shape == (4, 64, 128)
    assert torch.isin(unpacked.abs(), levels).all()
    assert unpacked.abs().max() == levels[-1]


@pytest.mark.parametrize("architecture", tested("experts", "heads", "short"))
def test_it_is_traced_without_weights_and_comes_out_as_the_docs_say(architecture: str, export_tiny: ExportTiny) -> None:
    exported = export_tiny(architecture)
    full, quantised = exported.record, export_tiny(architecture, precision="int8").record
    assert traced_graph(exported.checkpoint, exported.work).lazy
    is_in_place = ARCHITECTURES[architecture].cache == "in place"
    assert full.cache.kind == quantised.cache.kind == ("in_place" if is_in_place else "growing")
    assert full.parity is not None
    assert full.parity.relative < 1e-5
    assert full.parity.greedy_agreement == 1.0
    assert quantised.cache.dtype == ("int8" if is_in_place else "float32")
    assert quantised.parity is not None
    # Which expert is chosen is a close call among random weights.
    assert quantised.parity.kl < (0.06 if architecture in tested("experts") else 0.03)


def test_phi_may_have_fewer_heads_of_keys_than_of_queries() -> None:
    sizes = ARCHITECTURES["phi"].sizes
    assert sizes["num_key_value_heads"] < sizes["num_attention_heads"]


def test_the_docs_have_the_table_of_the_tests() -> None:
    assert f"\n{table()}\n" in (DOCS / "architectures.md").read_text(encoding="utf-8")
    assert f"[{len(ARCHITECTURES)} architectures]" in (DOCS.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_fp16_has_a_cache_of_halves_and_logits_of_floats(architecture: str, export_tiny: ExportTiny) -> None:
    exported = export_tiny(architecture, precision="fp16")
    record = exported.record
    assert record.cache.dtype == "float16"
    assert record.parity is not None
    assert record.parity.relative < 0.02
    logits = next(v for v in onnx.load(exported.bundle / record.graph).graph.output if v.name == "logits")
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_portable_graph_has_standard_operators_only(export_tiny: ExportTiny) -> None:
    exported = export_tiny("llama", target="tensorrt")
    graph = onnx.load(exported.bundle / exported.record.graph).graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert exported.record.cache.kind == "growing"


def test_an_architecture_that_optimum_does_not_know_is_named(tmp_path) -> None:
    folder = tiny_checkpoint(tmp_path / "checkpoint", "llama")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"mamba"'))
    with pytest.raises(ExportError, match=r"^architecture 'mamba' cannot be exported .*docs/architectures.md"):
        load_config(folder)


@pytest.mark.parametrize(
    ("precision", "kind", "dtype"),
    [("fp32", "growing", "float32"), ("fp16", "in_place", "float16"), ("int8", "in_place", "float16")],
)
def test_cuda_gets_attention_that_it_has_kernels_for(
    precision: str, kind: str, dtype: str, export_tiny: ExportTiny
) -> None:
    record = export_tiny("llama", precision=precision, target="cuda").record
    assert (record.cache.kind, record.cache.dtype) == (kind, dtype)
    assert not record.steady_rows
    assert record.prompt_rows is None
