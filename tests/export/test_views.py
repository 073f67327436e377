"""A table that a product and an embedding share: two tensors over one stretch of the weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nudge_onnx.export.bundle.views import separate_views

HIDDEN, VOCABULARY = 64, 8192
TABLE = np.random.default_rng(0).standard_normal((HIDDEN, VOCABULARY)).astype(np.float32)


def write(folder: Path, embedding: list[Any], *constants: Any) -> Path:
    """A graph whose head is the table; `embedding` makes `hidden` [1, tokens, hidden] from `input_ids`."""
    head = helper.make_node("MatMul", ["hidden", "table"], ["logits"], name="head")
    graph = helper.make_graph(
        [*embedding, head],
        "tied",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "tokens", VOCABULARY])],
        [numpy_helper.from_array(TABLE, "table"), *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    return folder / "model.onnx"


def columns(folder: Path) -> Path:
    gather = helper.make_node("Gather", ["table", "input_ids"], ["columns"], axis=1)
    turn = helper.make_node("Transpose", ["columns"], ["hidden"], perm=[1, 2, 0])
    return write(folder, [gather, turn])


def reshaped(folder: Path) -> Path:
    shape = numpy_helper.from_array(np.array([0, 2, -1]), "shape")
    halves = helper.make_node("Reshape", ["table", "shape"], ["halves"])
    gather = helper.make_node("Gather", ["halves", "input_ids"], ["columns"], axis=2)
    axis = numpy_helper.from_array(np.array([1]), "axis")
    one = helper.make_node("ReduceSum", ["columns", "axis"], ["summed"], keepdims=0)
    turn = helper.make_node("Transpose", ["summed"], ["hidden"], perm=[1, 2, 0])
    return write(folder, [halves, gather, one, turn], shape, axis)


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array([[3, 1000, 4000]])})[0]


@pytest.mark.parametrize("make", [columns, reshaped])
def test_the_embedding_gets_a_tensor_of_its_own_over_the_same_bytes(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path)
    before, data = run(path), (tmp_path / "model.onnx.data").read_bytes()
    (view,) = separate_views(path)
    np.testing.assert_array_equal(run(path), before)
    assert (tmp_path / "model.onnx.data").read_bytes() == data
    graph = onnx.load(path, load_external_data=False).graph
    where = {tensor.name: [(entry.key, entry.value) for entry in tensor.external_data] for tensor in graph.initializer}
    assert where[view] == where["table"] != []
    assert [node.op_type for node in graph.node if "table" in node.input] == ["MatMul"]
    assert {node.op_type for node in graph.node if view in node.input} == {"Gather"}
    assert "Reshape" not in {node.op_type for node in graph.node}
    onnx.checker.check_model(str(path))
    assert separate_views(path) == []


def test_tensors_with_one_kind_of_user_stay_as_they_are(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["embedding", "input_ids"], ["hidden"])
    path = write(tmp_path, [gather], numpy_helper.from_array(np.ascontiguousarray(TABLE.T), "embedding"))
    graph = path.read_bytes()
    assert separate_views(path) == []
    assert path.read_bytes() == graph
