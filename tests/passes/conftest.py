"""Tiny checkpoints, exported by Optimum once per session."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny import tiny_checkpoint

Exported = Callable[..., tuple[onnx.ModelProto, dict[str, Any]]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`exported(architecture, tied=..., **overrides)` -> a fresh copy of Optimum's graph and the configuration."""
    known: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {}

    def export(architecture: str, *, tied: bool = False, **overrides: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
        key = json.dumps([architecture, tied, overrides], sort_keys=True)
        if key not in known:
            folder = tmp_path_factory.mktemp(architecture)
            known[key] = _export(folder, architecture, tied, overrides)
        model, config = known[key]
        return copy.deepcopy(model), dict(config)

    return export


def _export(
    folder: Path, architecture: str, tied: bool, overrides: dict[str, Any]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    from optimum.exporters.onnx import main_export

    checkpoint = tiny_checkpoint(folder / "checkpoint", architecture, tied=tied, scale=3.0)
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | overrides
    path.write_text(json.dumps(config))
    main_export(
        model_name_or_path=str(checkpoint),
        output=str(folder / "graph"),
        task="text-generation-with-past",
        framework="pt",
        device="cpu",
        dtype="fp32",
        do_validation=False,
    )
    return onnx.load(folder / "graph" / "model.onnx"), config
