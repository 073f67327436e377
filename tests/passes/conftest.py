"""Tiny checkpoints, exported by Optimum once per session."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from kept import kept
from tiny import tiny_checkpoint

Exported = Callable[..., tuple[onnx.ModelProto, dict[str, Any]]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`exported(architecture, tied=..., attention=..., **overrides)` -> a graph and its configuration."""
    known: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {}

    def export(
        architecture: str, *, tied: bool = False, attention: str = "sdpa", **overrides: Any
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        key = json.dumps([architecture, tied, attention, overrides], sort_keys=True)
        if key not in known:
            folder = kept(
                key,
                lambda folder: _export(folder, architecture, tied, attention, overrides),
                tmp_path_factory.mktemp(architecture),
            )
            config = json.loads((folder / "checkpoint" / "config.json").read_text())
            known[key] = onnx.load(folder / "graph" / "model.onnx"), config
        model, config = known[key]
        return copy.deepcopy(model), dict(config)

    return export


def _export(folder: Path, architecture: str, tied: bool, attention: str, overrides: dict[str, Any]) -> None:
    from optimum.exporters.onnx import onnx_export_from_model
    from transformers import AutoModelForCausalLM

    checkpoint = tiny_checkpoint(folder / "checkpoint", architecture, tied=tied, scale=3.0)
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | overrides
    path.write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation=attention, dtype="float32").eval()
    onnx_export_from_model(
        model, str(folder / "graph"), task="text-generation-with-past", device="cpu", do_validation=False
    )
