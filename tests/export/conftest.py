"""Tiny checkpoints, each exported once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_checkpoint

from nudge_onnx.bundle import ModelRecord
from nudge_onnx.export.bundle.record import Conversion, export_model
from nudge_onnx.export.source.configuration import load_config
from nudge_onnx.export.source.prompts import base_prompt
from nudge_onnx.export.source.sources import fetch
from nudge_onnx.export.source.tokenizer_file import load_tokenizer
from nudge_onnx.export.support.progress import Progress


@dataclass(frozen=True)
class Exported:
    """A checkpoint folder, the model of a bundle that was made of it, and the export's scratch folder."""

    checkpoint: Path
    bundle: Path
    record: ModelRecord
    tokenizer: Any
    work: Path


ExportTiny = Callable[..., Exported]


def export_one(
    checkpoint: Path, conversion: Conversion, bundle: Path, work: Path, *, keep: bool = False
) -> ModelRecord:
    """Export a checkpoint as one model of a bundle."""
    return export_model(
        fetch(str(checkpoint), work),
        load_config(checkpoint),
        load_tokenizer(checkpoint),
        base_prompt(),
        conversion,
        bundle=bundle,
        work=work,
        progress=Progress(),
        keep=keep,
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Matrices of these sizes are slower on several threads, and much slower where cores are shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def export_tiny(tmp_path_factory: pytest.TempPathFactory) -> ExportTiny:
    """`export_tiny(architecture, precision="fp32", tied=False, target="cpu")`; Optimum runs once per checkpoint."""
    known: dict[tuple[Any, ...], Exported] = {}
    root = tmp_path_factory.mktemp("tiny")

    def export(architecture: str, *, precision: str = "fp32", tied: bool = False, target: str = "cpu") -> Exported:
        key = (architecture, precision, tied, target)
        if key not in known:
            folder = root / f"{architecture}-{tied}"
            if not folder.exists():
                tiny_checkpoint(folder, architecture, scale=3.0, tied=tied)
            bundle, work = root / "-".join(map(str, key)), root / "work"
            record = export_one(folder, Conversion("base", precision, target=target), bundle, work)
            known[key] = Exported(folder, bundle, record, load_tokenizer(folder), work)
        return known[key]

    return export


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of a base model and a nudging model with one vocabulary."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return tiny_checkpoint(folder / "base", "llama"), tiny_checkpoint(folder / "small", "qwen2", chat=True)
