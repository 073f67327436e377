"""Each architecture: a tiny checkpoint through a GGUF file and back computes what it did, and what llama.cpp does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoints import CASES, random_model, write_gguf
from transformers import AutoModelForCausalLM

from nudge_onnx.export.gguf import to_checkpoint

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("llama_cpp_logits.json").read_text(encoding="utf-8"))
IDS = torch.tensor([RECORDED["ids"]])
OTHERWISE = {
    "gemma2-own-scale": "llama.cpp does not read attention.scale here",
    "gemma3-own-scale": "llama.cpp does not read attention.scale here",
    "mistral-window": "llama.cpp has no windows in llama",
    "mistral-window-linear": "llama.cpp has no windows in llama",
    "phi3-window": "llama.cpp says that it leaves Phi-3's window out",
}
"""Files that llama.cpp takes for another model than the original."""


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_original(tmp_path: Path, name: str) -> None:
    original = random_model(CASES[name])
    write_gguf(tmp_path / "tiny.gguf", original, CASES[name])
    read = read_again(tmp_path)
    with torch.no_grad():
        expected, actual = original(IDS).logits, read(IDS).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CASES.keys() - OTHERWISE.keys()))
def test_logits_are_those_of_llama_cpp(tmp_path: Path, name: str) -> None:
    architecture = CASES[name][0].replace("mistral", "llama")
    write_gguf(tmp_path / "tiny.gguf", random_model(CASES[name]), CASES[name], architecture)
    with torch.no_grad():
        logits = read_again(tmp_path)(IDS).logits[0].numpy()
    expected = np.array(RECORDED["logits"][name])
    actual = logits[RECORDED["rows"], :: RECORDED["stride"]]
    allowed = 1e-5
    if architecture.startswith("gemma"):
        # llama.cpp looks GELU up in a table of halves, and 46 layers add up what that rounds.
        allowed = 1e-2 if name == "gemma2-27b" else 1e-3
    assert np.abs(actual - expected).max() < allowed * np.ptp(logits)


def test_every_file_is_recorded() -> None:
    assert RECORDED["logits"].keys() == CASES.keys()


def test_a_window_is_read_from_a_file_that_calls_mistral_llama(tmp_path: Path) -> None:
    original = random_model(CASES["mistral-window"])
    write_gguf(tmp_path / "tiny.gguf", original, CASES["mistral-window"], "llama")
    with torch.no_grad():
        torch.testing.assert_close(read_again(tmp_path)(IDS).logits, original(IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", "gemma2-own-scale", "gemma3", "gemma3-own-scale"])
def test_the_scalar_of_gemma_is_an_integer(tmp_path: Path, name: str) -> None:
    # Memories newer than the exporter's refuse 256.0.
    original = random_model(CASES[name])
    write_gguf(tmp_path / "tiny.gguf", original, CASES[name])
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    written = json.loads((tmp_path / "checkpoint" / "config.json").read_text())["query_pre_attn_scalar"]
    assert type(written) is int
    assert written == original.config.query_pre_attn_scalar


def read_again(folder: Path) -> Any:
    """The model that `tiny.gguf` becomes."""
    to_checkpoint(folder / "tiny.gguf", folder / "checkpoint")
    return AutoModelForCausalLM.from_pretrained(folder / "checkpoint", attn_implementation="eager").eval()
