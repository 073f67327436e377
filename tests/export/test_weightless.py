"""A model is traced without its weights, and the bundle is the one that is made with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, tested
from conftest import export_one
from onnx import numpy_helper
from tiny import tiny_checkpoint

from nudge_onnx.errors import ExportError
from nudge_onnx.export.bundle.record import Conversion
from nudge_onnx.export.passes.graph_editor import GraphEditor, in_memory
from nudge_onnx.export.source.named_weights import named_weights
from nudge_onnx.export.source.skeleton import fill, skeleton
from nudge_onnx.export.trace import traced_graph as module
from nudge_onnx.export.trace import weightless
from nudge_onnx.export.trace.torch_reference import TorchReference
from nudge_onnx.export.trace.traced_graph import traced_graph


def constants(traced: Any) -> list[tuple[tuple[int, ...], bytes]]:
    model = in_memory(traced)
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return sorted((array.shape, array.tobytes()) for array in arrays)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_here", lambda *_: "a test wants it")


@pytest.mark.parametrize("architecture", tested("all", "experts"))
def test_the_graph_is_the_one_that_is_traced_with_the_weights(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", architecture)
    alone = traced_graph(checkpoint, tmp_path / "alone")
    assert alone.lazy
    refuse(monkeypatch)
    whole = traced_graph(checkpoint, tmp_path / "whole")
    assert not whole.lazy
    assert [node.op_type for node in alone.proto.graph.node] == [node.op_type for node in whole.proto.graph.node]
    assert constants(alone) == constants(whole)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pytorch_says_the_same_with_weights_that_are_read_as_they_are_needed(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", architecture)
    texts = [list(range(5, 45)), list(range(9, 30)), list(range(3, 130))]
    reference = TorchReference(checkpoint)
    model = skeleton(named_weights(checkpoint))
    fill(model, named_weights(checkpoint).weights, large=True)
    for text, found in zip(texts, reference.logits(texts, 20), strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([text]), use_cache=False).logits[0, -20:].numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int4-all"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2"])
def test_the_bundle_is_to_the_byte_the_one_that_is_made_with_the_weights(
    architecture: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", architecture, scale=3.0, tied=architecture == "gemma3")

    def files(name: str) -> dict[str, bytes]:
        export_one(checkpoint, Conversion("base", precision), tmp_path / name, tmp_path / f"{name}-work")
        return {path.name: path.read_bytes() for path in (tmp_path / name / "base").iterdir()}

    alone = files("alone")
    refuse(monkeypatch)
    whole = files("whole")
    assert list((tmp_path / "alone-work").glob("graph-*/weights.json"))
    assert not list((tmp_path / "whole-work").glob("graph-*/weights.json"))
    assert alone.keys() == whole.keys()
    assert [name for name in alone if alone[name] != whole[name]] == []


def test_a_process_of_its_own_traces_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", "llama")
    here = traced_graph(checkpoint, tmp_path / "here")
    monkeypatch.setattr(module, "_SMALL", 0)
    apart = traced_graph(checkpoint, tmp_path / "apart")
    assert here.lazy.keys() == apart.lazy.keys()
    assert here.proto.SerializeToString() == apart.proto.SerializeToString()


def test_a_constant_that_was_computed_from_a_weight_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", "llama")
    forward = torch.nn.Linear.forward

    def doubled(self: Any, hidden: Any) -> Any:
        # A parameter that a trace sees no node for.
        return forward(self, hidden) + self.weight.detach().numpy().sum().item()

    monkeypatch.setattr(torch.nn.Linear, "forward", doubled)
    folder = tmp_path / "graph"
    folder.mkdir()
    weightless.trace(checkpoint, folder)
    assert "computed from a weight" in json.loads((folder / weightless.WEIGHTS).read_text())["refused"]


def test_what_cannot_be_held_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", "llama")
    refuse(monkeypatch)
    monkeypatch.setattr(module, "available_memory", lambda: 1 << 20)
    monkeypatch.setattr(module, "whole_graph", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(
        ExportError, match=r"a test wants it\), which takes about .* GiB of memory, and 0.0 GiB are free"
    ):
        traced_graph(checkpoint, tmp_path / "work")
    assert list((tmp_path / "work").glob("graph-*")) == []


def test_a_model_that_is_traced_with_its_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model", "llama")
    monkeypatch.setattr(module, "_SMALL", 0)
    monkeypatch.setattr(module, "_apart", lambda *_: "a test wants it")
    notes: list[str] = []
    traced_graph(checkpoint, tmp_path / "work", note=notes.append)
    assert notes == ["model is traced with its weights in memory (a test wants it)"]


def test_an_editor_reads_lazy_weights(tmp_path: Path) -> None:
    traced = traced_graph(tiny_checkpoint(tmp_path / "model", "llama"), tmp_path / "work")
    graph = GraphEditor(traced)
    name = next(iter(traced.lazy))
    read: Callable[[str], Any] = graph.held
    np.testing.assert_array_equal(np.asarray(read(name)), numpy_helper.to_array(graph.whole(name)))
