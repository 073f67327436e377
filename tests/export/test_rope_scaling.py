"""Stretched rotary frequencies are PyTorch's on both sides of the length that the model was first trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import export_one
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM

from nudge_onnx.bundle import ModelRecord
from nudge_onnx.export.bundle.record import Conversion
from nudge_onnx.export.measure.graph_runner import GraphRunner

ORIGINAL, LONGEST = 64, 256
SCALINGS: dict[str, dict[str, Any]] = {
    "llama3": {"factor": 4.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0},
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0},
}


def exported(checkpoint: Path, folder: Path) -> ModelRecord:
    return export_one(checkpoint, Conversion("base", "fp32"), folder / "bundle", folder / "work")


def compare(checkpoint: Path, folder: Path, record: ModelRecord, sizes: list[int]) -> None:
    """Feed a text in parts of these sizes; every row is to be PyTorch's of the whole text."""
    ids = np.random.default_rng(0).integers(4, record.vocabulary_size, sum(sizes)).tolist()
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    runner = GraphRunner(folder / "bundle" / record.graph, record.io, record.cache, capacity=LONGEST)
    parts, at = [], 0
    for size in sizes:
        parts.append(runner.feed(ids[at : at + size]))
        at += size
    assert np.abs(np.concatenate(parts) - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("sizes", [[ORIGINAL // 2], [200], [ORIGINAL - 2, 1, 1, 1, 1, 60, 1, 100]], ids=str)
@pytest.mark.parametrize("kind", SCALINGS)
def test_a_text_may_go_beyond_the_original_length(kind: str, sizes: list[int], tmp_path: Path) -> None:
    scaling = {"rope_type": kind, "original_max_position_embeddings": ORIGINAL, **SCALINGS[kind]}
    checkpoint = tiny_checkpoint(
        tmp_path / "model", "llama", scale=3.0, max_position_embeddings=LONGEST, rope_scaling=scaling
    )
    record = exported(checkpoint, tmp_path)
    assert record.context_length == LONGEST
    assert record.cache.kind == "in_place"
    compare(checkpoint, tmp_path, record, sizes)


def test_dynamic_scaling_is_that_of_the_configured_length(tmp_path: Path) -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    checkpoint = tiny_checkpoint(
        tmp_path / "model", "llama", scale=3.0, max_position_embeddings=LONGEST, rope_scaling=scaling
    )
    record = exported(checkpoint, tmp_path)
    assert record.context_length == LONGEST
    compare(checkpoint, tmp_path, record, [100, 1, 1, 60])


@pytest.mark.parametrize("sizes", [[ORIGINAL], [ORIGINAL - 4, 1, 3]], ids=str)
def test_longrope_ends_where_its_angles_would_change(sizes: list[int], tmp_path: Path) -> None:
    heads = 8
    scaling = {"type": "longrope", "short_factor": [1.0] * heads, "long_factor": [1.0 + n / 2 for n in range(heads)]}
    checkpoint = tiny_checkpoint(
        tmp_path / "model",
        "phi3",
        scale=3.0,
        max_position_embeddings=LONGEST,
        original_max_position_embeddings=ORIGINAL,
        rope_scaling=scaling,
    )
    record = exported(checkpoint, tmp_path)
    assert (record.context_length, record.claimed_context) == (ORIGINAL, LONGEST)
    compare(checkpoint, tmp_path, record, sizes)
