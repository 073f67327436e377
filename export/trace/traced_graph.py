"""Optimum's part: a checkpoint becomes one fp32 decoder graph with its KV cache as inputs and outputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx

from nudge_onnx.errors import ExportError, NudgeError

from ..passes.graph_editor import LazyModel, external
from ..source.configuration import TASK
from ..source.loading import load_model
from ..source.named_weights import named_weights, why_whole
from ..support.faults import one_line, reraise_full_disk
from ..support.memory import available_memory, gibibytes, run
from ..support.quiet import quiet
from ..support.scratch import fingerprint, once
from ..weights import LazyTensor, weight_count
from . import weightless

__all__ = ["BYTES_A_WEIGHT", "traced_graph", "whole_graph"]

_READ_BY_OPTIMUM = (".json", ".safetensors", ".bin", ".py")

_SMALL = 1 << 25
"""Weights of a model that is not worth a process of its own."""

BYTES_A_WEIGHT = 20
"""What the process takes at its peak if the model is traced with its weights."""


def traced_graph(
    checkpoint: Path,
    scratch: Path,
    *,
    trust_remote_code: bool = False,
    note: Callable[[str], object] = str,
) -> LazyModel:
    """Export `checkpoint` below `scratch`, once.

    One graph serves a prompt on an empty cache, single steps, and several tokens on a filled cache.

    A model whose code runs without its weights is traced so, in memory that does not depend on its size. Another is
    traced with them, `note` is told, and if they do not fit, nothing begins. Raises `SourceError` for weights that do
    not belong to the model, and `ExportError` with Optimum's reason.
    """
    inputs = [path for path in checkpoint.iterdir() if path.suffix in _READ_BY_OPTIMUM]
    folder = once(
        scratch / f"graph-{fingerprint(inputs)}", lambda partial: _export(checkpoint, partial, trust_remote_code, note)
    )
    if not (folder / weightless.WEIGHTS).is_file():
        return LazyModel(onnx.load(folder / weightless.GRAPH))
    return _with_weights(folder, checkpoint)


def _with_weights(folder: Path, checkpoint: Path) -> LazyModel:
    """The inputs that stand for weights become initialisers."""
    model = onnx.load(folder / weightless.GRAPH)
    places = json.loads((folder / weightless.WEIGHTS).read_text(encoding="utf-8"))["weights"]
    weights = named_weights(checkpoint).weights
    lazy: dict[str, LazyTensor] = {}
    for value in [value for value in model.graph.input if value.name in places]:
        parameter, transposed = places[value.name]
        lazy[value.name] = weights[parameter].T if transposed else weights[parameter]
        model.graph.initializer.append(external(value.name, lazy[value.name]))
        model.graph.input.remove(value)
    return LazyModel(model, lazy)


def _export(checkpoint: Path, folder: Path, trust_remote_code: bool, note: Callable[[str], object]) -> None:
    why = why_whole(checkpoint, trust_remote_code=trust_remote_code)
    if why is not None:
        count = weight_count(checkpoint)
    else:
        # Who finds fault with the weights says so here, in one line.
        count = sum(weight.size for weight in named_weights(checkpoint).weights.values())
        why = _here(checkpoint, folder) if count < _SMALL else _apart(checkpoint, folder)
    if why is None:
        return
    for path in folder.iterdir():
        path.unlink()
    needed, there = BYTES_A_WEIGHT * count, available_memory()
    if needed > there:
        raise ExportError(
            f"{checkpoint} can only be traced with its weights ({why}), which takes about {gibibytes(needed)} of "
            f"memory, and {gibibytes(there)} are free; export it on a larger machine"
        )
    if count >= _SMALL:
        note(f"{checkpoint.name} is traced with its weights in memory ({why})")
    whole_graph(checkpoint, folder, trust_remote_code=trust_remote_code)


def _here(checkpoint: Path, folder: Path) -> str | None:
    """Trace a small model without weights; returns why that is not to be had, if so."""
    try:
        weightless.trace(checkpoint, folder)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        reraise_full_disk(error)
        return one_line(error)
    return _refusal(folder)


def _apart(checkpoint: Path, folder: Path) -> str | None:
    """The same in a process of its own, whose memory is given back."""
    command = [sys.executable, "-W", "ignore", "-m", "nudge_onnx.export.trace.weightless", str(checkpoint), str(folder)]
    done = run(command)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reraise_full_disk(OSError(lines[-1] if lines else ""))
        return lines[-1] if lines else f"the trace ended with status {done.returncode}"
    return _refusal(folder)


def _refusal(folder: Path) -> str | None:
    said = json.loads((folder / weightless.WEIGHTS).read_text(encoding="utf-8"))
    return str(said["refused"]) if "refused" in said else None


def whole_graph(checkpoint: Path, folder: Path, *, trust_remote_code: bool = False) -> None:
    """Let Optimum write a graph with its weights into a folder: `model.onnx`, and beside it those over 2 GB.

    Raises `ExportError` with Optimum's reason.
    """
    from optimum.exporters.onnx import onnx_export_from_model
    from optimum.exporters.utils import DisableCompileContextManager

    try:
        with DisableCompileContextManager():
            model = load_model(checkpoint, trust_remote_code=trust_remote_code)
        # Optimum's own check compares a few positions to 1e-3; ours measures more of them, after the passes.
        with quiet():
            model.config.use_cache = True
            onnx_export_from_model(model, folder, task=TASK, device="cpu", do_validation=False, no_post_process=True)
    except NudgeError:
        raise
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        reraise_full_disk(error)
        raise ExportError(f"Optimum could not export {checkpoint} ({one_line(error)})") from error
    if not (folder / weightless.GRAPH).is_file():
        written = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise ExportError(f"Optimum wrote {written} instead of one decoder graph")
