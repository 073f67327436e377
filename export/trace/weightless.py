"""Traces a checkpoint's model without its weights: `python -m nudge_onnx.export.trace.weightless CHECKPOINT FOLDER`.

Memory then does not depend on the size of the model. It is a process of its own, because PyTorch does not give back
what it took. FOLDER gets `model.onnx`, whose large weights are inputs, and `weights.json`, which says whose they are:
`{"weights": {input: [parameter, transposed]}, "parameters": how many}`, or `{"refused": why}`.

Large parameters are one row of NaN, seen as all rows (`skeleton`). PyTorch's exporter is kept from copying them in two
places that have no public name: where shapes are inferred, and where equal initialisers become one, the last step
before a graph is written. What is left out there stays an input. A number that was computed from a weight during the
trace is NaN, so no graph with one is taken.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..source.configuration import TASK
from ..source.named_weights import named_weights
from ..source.skeleton import fill, is_large, skeleton
from ..support.faults import one_line
from ..support.memory import peak_memory
from ..support.quiet import quiet

__all__ = ["GRAPH", "WEIGHTS", "trace"]

GRAPH, WEIGHTS = "model.onnx", "weights.json"


def trace(checkpoint: Path, folder: Path) -> None:
    """Write the graph and whose weights its inputs are. Raises whatever Optimum and transformers do."""
    from optimum.exporters.onnx import onnx_export_from_model
    from optimum.exporters.utils import DisableCompileContextManager

    from ..source import optimum_configs  # noqa: F401, a process of its own has them yet to register

    found = named_weights(checkpoint)
    model = skeleton(found)
    fill(model, found.weights, large=False)
    model.config.use_cache = True
    # Optimum would load the tokenizer that it finds there, half a gigabyte of a large vocabulary, and save it again.
    model.config._name_or_path = str(folder)  # noqa: SLF001, it has no other name
    with DisableCompileContextManager(), quiet(), _left_out(model) as weights:
        onnx_export_from_model(model, folder, task=TASK, device="cpu", do_validation=False, no_post_process=True)
    why = _refused(folder, weights)
    said = {"refused": why} if why else {"weights": weights, "parameters": int(model.num_parameters())}
    (folder / WEIGHTS).write_text(json.dumps(said), encoding="utf-8")


@contextlib.contextmanager
def _left_out(model: Any) -> Iterator[dict[str, tuple[str, bool]]]:
    """Keep the exporter from the large parameters; yields which input is which, and whether it is transposed."""
    import torch

    owners = {
        parameter.untyped_storage().data_ptr(): (name, parameter)
        for name, parameter in model.named_parameters()
        if is_large(parameter.shape)
    }
    found: dict[str, tuple[str, bool]] = {}

    def owner(tensor: Any) -> tuple[str, Any] | None:
        return owners.get(tensor.untyped_storage().data_ptr())

    def small(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: tensor for name, tensor in tensors.items() if owner(tensor) is None}

    infer = torch._C._jit_pass_onnx_graph_shape_type_inference  # noqa: SLF001
    deduplicate = torch._C._jit_pass_onnx_deduplicate_initializers  # noqa: SLF001

    def inferred(graph: Any, tensors: dict[str, Any], opset: int) -> Any:
        return infer(graph, small(tensors), opset)

    def deduplicated(graph: Any, tensors: dict[str, Any], training: bool) -> Any:
        for name, tensor in tensors.items():
            if (known := owner(tensor)) is None:
                continue
            parameter, whole = known
            same, turned = tensor.shape == whole.shape, tensor.shape == whole.shape[::-1]
            transposed = whole.ndim == 2 and turned and tensor.stride() == whole.stride()[::-1]
            if not transposed and not (same and tensor.stride() == whole.stride()):
                raise ValueError(f"a part of {parameter} became a constant")
            found[name] = parameter, transposed
        return deduplicate(graph, small(tensors), training)

    torch._C._jit_pass_onnx_graph_shape_type_inference = inferred  # noqa: SLF001
    torch._C._jit_pass_onnx_deduplicate_initializers = deduplicated  # noqa: SLF001
    try:
        yield found
    finally:
        torch._C._jit_pass_onnx_graph_shape_type_inference = infer  # noqa: SLF001
        torch._C._jit_pass_onnx_deduplicate_initializers = deduplicate  # noqa: SLF001


def _refused(folder: Path, weights: dict[str, tuple[str, bool]]) -> str | None:
    """Why a graph cannot be taken, if so."""
    import onnx
    from onnx import numpy_helper

    if not (folder / GRAPH).is_file():
        return "Optimum wrote something else than one decoder graph"
    model = onnx.load(folder / GRAPH)
    inputs = {value.name for value in model.graph.input}
    if lost := sorted(weights.keys() - inputs):
        return f"{lost[0]} is no input of the graph"
    constants = [
        *model.graph.initializer,
        *(attribute.t for node in model.graph.node if node.op_type == "Constant" for attribute in node.attribute),
    ]
    for tensor in constants:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and np.isnan(array).any():
            return f"a constant was computed from a weight ({tensor.name or 'without a name'})"
    return None


def main() -> None:
    """The program; its last line on stderr is the reason of a failure, that on stdout what memory it took."""
    checkpoint, folder = map(Path, sys.argv[1:])
    try:
        trace(checkpoint, folder)
    except Exception as error:  # whatever it is, the model is then traced with its weights
        print(one_line(error), file=sys.stderr)
        sys.exit(1)
    print(peak_memory() or "")


if __name__ == "__main__":
    main()
