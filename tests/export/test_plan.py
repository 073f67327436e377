"""What a plan says is what an export does, and what the documents say of the paper's pairs is what a plan says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from conftest import ExportTiny
from onnx import helper
from tiny import tiny_checkpoint
from transformers import AutoConfig

from nudge_onnx.export.cli import main
from nudge_onnx.export.plan import as_table, plan_model
from nudge_onnx.export.source.configuration import load_config

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"

LLAMA: dict[str, Any] = {"model_type": "llama", "vocab_size": 32_000, "max_position_embeddings": 4096}
GEMMA: dict[str, Any] = {"model_type": "gemma2", "vocab_size": 256_000, "max_position_embeddings": 8192}
OLMO: dict[str, Any] = {"max_position_embeddings": 4096}


def sizes(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, head_dim: int | None = None
) -> dict[str, Any]:
    named = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }
    return named | ({"head_dim": head_dim} if head_dim else {})


PAIRS = {
    "Llama-2-70b with Llama-2-7b-chat": (
        LLAMA | sizes(8192, 28_672, 80, 64, 8),
        LLAMA | sizes(4096, 11_008, 32, 32, 32),
    ),
    "Gemma-2-27b with Gemma-2-2b-it": (
        GEMMA | sizes(4608, 36_864, 46, 32, 16, 128),
        GEMMA | sizes(2304, 9216, 26, 8, 4, 256),
    ),
    "OLMo-7b with OLMo-2-1b-it": (
        OLMO | {"model_type": "olmo", "vocab_size": 50_304} | sizes(4096, 11_008, 32, 32, 32),
        OLMO | {"model_type": "olmo2", "vocab_size": 100_352} | sizes(2048, 8192, 16, 16, 16),
    ),
}
"""The paper's pairs, as their configurations on the hub describe them (2024-11)."""


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int4-all"])
@pytest.mark.parametrize(
    ("architecture", "tied"), [("llama", False), ("llama", True), ("gemma3", True), ("qwen2", False)]
)
def test_a_plan_names_the_bytes_of_the_weights(
    architecture: str, tied: bool, precision: str, export_tiny: ExportTiny
) -> None:
    exported = export_tiny(architecture, precision=precision, tied=tied)
    graph = onnx.load(exported.bundle / exported.record.graph).graph
    found = sum(
        math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
        if not tensor.name.endswith((".scale", ".scale.levels"))
    )
    planned = plan_model(load_config(exported.checkpoint))
    assert planned.parameters == exported.record.parameters
    assert planned.context == exported.record.context_length
    assert planned.bundle[precision] == pytest.approx(found, rel=0.06)  # type: ignore[index]
    cache = exported.record.cache
    assert planned.cache[precision] == cache.position_bytes  # type: ignore[index]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_documents_show_the_plans_of_the_papers_pairs(pair: str) -> None:
    roles = zip(("base", "nudge"), PAIRS[pair], strict=True)
    plans = {role: plan_model(AutoConfig.for_model(**config)) for role, config in roles}
    assert f"{pair}:\n\n```\n{as_table(plans, 4096)}```\n" in DOCS.read_text(encoding="utf-8")


def test_the_command_plans_and_exports_nothing(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama")
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    arguments = ["--base", str(folder), "--nudge", str(folder), "--plan"]
    shown = CliRunner().invoke(main, [*arguments, "--context", "100"])
    assert shown.exit_code == 0, shown.stderr
    assert "texts of up to 100 tokens" in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert found.keys() == {"base", "nudge"}
    assert found["base"]["bundle"]["int4"] < found["base"]["bundle"]["int8"] < found["base"]["bundle"]["fp32"]


@pytest.mark.parametrize(
    ("source", "line"),
    [("model.gguf", "a plan is made from a configuration"), (".", "config.json|configuration")],
)
def test_a_source_without_a_configuration_is_one_line(source: str, line: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["--base", source, "--nudge", source, "--plan"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert re.search(line, result.stderr)


def test_an_export_without_an_output_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["--base", "a", "--nudge", "b"])
    assert result.exit_code == 2
    assert "Missing option '--output'" in result.stderr
