"""Optimum's part: a checkpoint becomes one fp32 decoder graph with its KV cache as inputs and outputs."""

from __future__ import annotations

from pathlib import Path

from nudge_onnx.errors import ExportError, NudgeError

from ..source.configuration import TASK
from ..source.loading import load_model
from ..support.faults import one_line, reraise_full_disk
from ..support.quiet import quiet
from ..support.scratch import fingerprint, once

__all__ = ["optimum_graph"]

_READ_BY_OPTIMUM = (".json", ".safetensors", ".bin", ".py")


def optimum_graph(checkpoint: Path, scratch: Path, *, trust_remote_code: bool = False) -> Path:
    """Export `checkpoint` below `scratch`, once, and return the path of its graph; weights over 2 GB lie beside it.

    One graph serves a prompt on an empty cache, single steps, and several tokens on a filled cache. Raises
    `ExportError` with Optimum's reason.
    """
    inputs = [path for path in checkpoint.iterdir() if path.suffix in _READ_BY_OPTIMUM]
    folder = once(
        scratch / f"graph-{fingerprint(inputs)}", lambda partial: _export(checkpoint, partial, trust_remote_code)
    )
    return folder / "model.onnx"


def _export(checkpoint: Path, folder: Path, trust_remote_code: bool) -> None:
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
    if not (folder / "model.onnx").is_file():
        written = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise ExportError(f"Optimum wrote {written} instead of one decoder graph")
