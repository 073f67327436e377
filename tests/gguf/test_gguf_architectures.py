"""Each architecture: a tiny checkpoint through a GGUF file and back computes what it computed before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_checkpoints import CASES, random_model, write_gguf
from tiny_gguf import TOKENS
from transformers import AutoModelForCausalLM

from nudge_onnx.export.gguf import to_checkpoint


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_original(tmp_path: Path, name: str) -> None:
    original = random_model(CASES[name])
    write_gguf(tmp_path / "tiny.gguf", original, CASES[name])
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", attn_implementation="eager").eval()
    ids = torch.randint(len(TOKENS), (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = original(ids).logits, read(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
