"""The measurement itself: it must find what is wrong with a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Exported, ExportTiny
from onnx import numpy_helper

from nudge_onnx.errors import ExportError
from nudge_onnx.export.measure import verify
from nudge_onnx.export.measure.graph_runner import GraphRunner
from nudge_onnx.export.measure.layered_runner import Feed, run_layers
from nudge_onnx.export.measure.verify import Measurement, check, measure
from nudge_onnx.export.trace.torch_reference import TorchReference


def remeasure(
    exported: Exported, change: Callable[[onnx.GraphProto], None], folder: Path, edges: Sequence[int] = ()
) -> Measurement:
    model = onnx.load(exported.bundle / exported.record.graph)
    change(model.graph)
    onnx.save(model, folder / "changed.onnx")
    record = exported.record
    return measure(
        folder / "changed.onnx",
        record.io,
        record.cache,
        lambda: TorchReference(exported.checkpoint),
        exported.tokenizer.encode,
        context_length=record.context_length,
        sliding_window=16,
        edges=edges,
    )


def edit(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.GraphProto], None]:
    def apply(graph: onnx.GraphProto) -> None:
        tensor = next(t for t in graph.initializer if t.name.endswith(name))
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))

    return apply


def test_a_graph_that_is_the_same_function_passes(export_tiny: ExportTiny, tmp_path: Path) -> None:
    found = remeasure(export_tiny("llama"), lambda _graph: None, tmp_path)
    check(found, "fp32")
    assert found.parity.relative < 1e-5
    assert found.parity.greedy_agreement == 1.0
    assert set(found.relative) == {"prefill", "step", "chunk"}
    assert found.parity.relative == max(found.relative.values())


def test_both_sides_of_an_edge_are_read_unless_the_context_ends_there(
    export_tiny: ExportTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, lengths = export_tiny("llama"), []
    monkeypatch.setattr(verify, "_steady", lambda _runner, ids: not lengths.append(len(ids)))
    assert remeasure(exported, lambda _graph: None, tmp_path, edges=[300]).steady_rows
    assert max(lengths) == 302
    lengths.clear()
    remeasure(exported, lambda _graph: None, tmp_path, edges=[exported.record.context_length - 1])
    assert max(lengths) <= exported.record.context_length


def test_a_slightly_wrong_weight_fails_with_the_figure(export_tiny: ExportTiny, tmp_path: Path) -> None:
    found = remeasure(export_tiny("llama"), edit("model.norm.weight", lambda norm: norm * 1.01), tmp_path)
    assert 1e-3 < found.parity.relative < 0.1
    with pytest.raises(ExportError, match=r"^the exported graph differs from PyTorch by \S+e-0\d of .*prefill.*step"):
        check(found, "fp32")
    check(found, "int8")


def test_logits_that_are_not_finite_fail_at_any_precision(export_tiny: ExportTiny, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not finite"):
        remeasure(export_tiny("llama"), edit("model.norm.weight", lambda norm: norm * np.nan), tmp_path)


def test_a_wrong_sliding_window_is_found(export_tiny: ExportTiny, tmp_path: Path) -> None:
    def widen(graph: onnx.GraphProto) -> None:
        changed = 0
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "local_window_size" and attribute.i > 0:
                    attribute.i, changed = 400, changed + 1
        assert changed == 1

    found = remeasure(export_tiny("gemma3"), widen, tmp_path)
    assert found.parity.relative > 1e-3


def test_a_mistake_in_steps_alone_is_found(export_tiny: ExportTiny, tmp_path: Path) -> None:
    exported = export_tiny("llama", target="tensorrt")

    def forget_positions(graph: onnx.GraphProto) -> None:
        # Each pass starts to count at zero, as a graph traced without a cache would: a prompt does not show it.
        assert exported.record.io.position_ids
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == "position_ids":
                    node.input[index] = "first_positions"
        for name, number in (("test_start", 0), ("test_end", 1), ("test_axis", 1)):
            graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
        first = onnx.helper.make_node("Slice", ["position_ids", "test_start", "test_end", "test_axis"], ["first"])
        moved = onnx.helper.make_node("Sub", ["position_ids", "first"], ["first_positions"])
        nodes = [first, moved, *graph.node]
        graph.ClearField("node")
        graph.node.extend(nodes)

    found = remeasure(exported, forget_positions, tmp_path)
    assert found.relative["prefill"] < 1e-3 < found.relative["step"]
    assert found.relative["chunk"] > 1e-3


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "mistral"])
def test_layer_by_layer_a_graph_says_the_same(
    architecture: str, precision: str, export_tiny: ExportTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_tiny(architecture, precision=precision)
    record = exported.record
    graph = exported.bundle / record.graph
    ids = exported.tokenizer.encode("The sky is blue because small molecules scatter short waves, 12 + 30 is 42. " * 3)
    sizes = [60, 1, 1, 7, 1]
    runner = GraphRunner(graph, record.io, record.cache, capacity=sum(sizes))
    feeds, expected, at = [], [], 0
    for size in sizes:
        feeds.append(Feed(ids[at : at + size], min(size, 9)))
        expected.append(runner.feed(ids[at : at + size], min(size, 9)))
        at += size
    for found, whole in zip(run_layers(graph, record.io, record.cache, [feeds])[0], expected, strict=True):
        assert np.abs(found - whole).max() < 1e-5 * np.ptp(whole)
    monkeypatch.setattr(verify, "_fits", lambda _graph: False)
    measured = remeasure(exported, lambda _graph: None, tmp_path)
    assert measured.steady_rows == (record.steady_rows or measured.steady_rows)
    assert record.parity is not None
    assert measured.parity.positions == record.parity.positions
    assert measured.parity.relative == pytest.approx(record.parity.relative, rel=0.9, abs=1e-5)
    assert [path.name for path in graph.parent.glob(".part-*")] == []


def test_a_graph_that_does_not_fit_is_read_in_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(b"0" * 100)
    monkeypatch.setattr(verify, "available_memory", lambda: (1 << 30) + 101)
    assert verify._fits(tmp_path / "model.onnx")  # noqa: SLF001
    (tmp_path / "model.onnx.data").write_bytes(b"0")
    assert not verify._fits(tmp_path / "model.onnx")  # noqa: SLF001
