"""What a configuration says is followed, mended where that changes no model, or refused in one line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_checkpoint
from transformers import AutoTokenizer, FalconConfig

from nudge_onnx.errors import ExportError, NudgeError, SourceError
from nudge_onnx.export.pipeline import Request, export
from nudge_onnx.export.source.configuration import context_length, load_config
from nudge_onnx.export.source.loading import load_model
from nudge_onnx.export.source.prompts import chat_prompt
from nudge_onnx.export.source.tokenizer_file import tokens_without_rows
from nudge_onnx.export.support.progress import Progress

LONG = {
    "max_position_embeddings": 512,
    "original_max_position_embeddings": 128,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [2.0 + pair for pair in range(8)],
    },
}


@pytest.fixture
def folder(tiny_pair: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pair[0], tmp_path / "model"))


def configure(folder: Path, file: str = "config.json", **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def read(folder: Path) -> None:
    load_config(folder)
    load_model(folder)


REFUSED = [
    ({"eos_token_id": "</s>"}, r'config.json says eos_token_id: "</s>", which is not a number or a list of numbers'),
    ({"eos_token_id": [1, "2"]}, r"says eos_token_id: \[1, \"2\"\]"),
    ({"bos_token_id": [0]}, r"says bos_token_id: \[0\], which is not a number"),
    ({"pad_token_id": 1.5}, r"says pad_token_id: 1.5"),
    ({"max_position_embeddings": 20}, r"reads texts of up to 20 tokens; a bundle needs 32 or more"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised with GPTQ, .* give the unquantised"),
    ({"quantization_config": {"quant_method": "awq"}}, r"quantised with AWQ"),
    ({"quantization_config": {"load_in_4bit": True}}, r"quantised with bitsandbytes"),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, r"quantised with compressed-tensors"),
    ({"quantization_config": {"quant_method": "fp8"}}, r"quantised with FP8"),
    ({"quantization_config": {"quant_method": "hqq"}}, r"quantised with hqq"),
    ({"model_type": "bart"}, r"architecture 'bart' is an encoder with a decoder"),
    ({"hidden_size": []}, r"its weights cannot be loaded"),
]


@pytest.mark.parametrize(("values", "line"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_makes_no_sense_or_is_not_read_is_one_line(values: dict[str, Any], line: str, folder: Path) -> None:
    configure(folder, **values)
    with pytest.raises(NudgeError, match=line) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"new_decoder_architecture": True}, r"'falcon' with the new decoder \(40b and later\) has a cache"),
        ({"alibi": True}, r"'falcon' with ALiBi \(falcon-rw\) rounds its positions to bfloat16"),
    ],
)
def test_falcons_that_would_become_another_model_are_refused(values: dict[str, Any], line: str, tmp_path: Path) -> None:
    FalconConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, **values).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match=line):
        load_config(tmp_path)


def test_generation_settings_are_read_as_closely(folder: Path) -> None:
    configure(folder, "generation_config.json", eos_token_id="</s>")
    with pytest.raises(SourceError, match=r"generation_config.json says eos_token_id"):
        load_config(folder)


@pytest.mark.parametrize("padding", [4294967295, -1, 320])
def test_padding_without_a_row_is_no_fault(padding: int, folder: Path) -> None:
    configure(folder, pad_token_id=padding)
    assert load_config(folder).pad_token_id is None
    load_model(folder)


def test_long_rope_ends_where_its_frequencies_change(tmp_path: Path) -> None:
    configure(tiny_checkpoint(tmp_path / "model", "phi3"), **LONG)
    assert context_length(load_config(tmp_path / "model")) == 128


def test_what_a_user_would_not_expect_is_said(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base", "phi3", scale=3.0)
    configure(base, **LONG)
    add_token(base)
    said = io.StringIO()
    sources = {"base": str(base), "nudge": str(tiny_pair[1])}
    request = Request(sources, tmp_path / "bundle", precisions={"base": "fp32", "nudge": "fp32"}, target="tensorrt")
    bundle = export(request, Progress(said))
    record = bundle.manifest.models["base"]
    assert (record.context_length, record.vocabulary_size) == (128, 320)
    assert record.parity is not None
    assert record.parity.relative < 1e-3
    lines = said.getvalue().splitlines()
    assert "base: the model has no rows for '<image>'; texts that hold them are refused" in lines
    assert "base: texts of up to 128 tokens, of 512 that the checkpoint speaks of" in lines
    assert "nudge: the cache is copied at every step, which slows down behind long texts" in lines


def add_token(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_a_template_may_not_write_a_token_without_a_row(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    tokenizer = add_token(Path(shutil.copytree(tiny_pair[1], tmp_path / "model")))
    chat_prompt(tokenizer, "small", rows=320)
    tokenizer.chat_template = "<image>" + tokenizer.chat_template
    with pytest.raises(SourceError, match=r"its chat template writes '<image>', for which its model of 320 tokens"):
        chat_prompt(tokenizer, "small", rows=320)


def test_a_tokenizer_of_another_model_is_told_from_one_with_tokens_added(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokens_without_rows(tokenizer, 320, "small") == ""
    with pytest.raises(SourceError, match=r"small: its tokenizer has 320 tokens and its model 200; they do not fit"):
        tokens_without_rows(tokenizer, 200, "small")
