"""Optimum's part: a checkpoint becomes one fp32 decoder graph with its KV cache as inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nudge_onnx.errors import ExportError, SourceError

from .faults import one_line, reraise_full_disk
from .quiet import quiet
from .scratch import fingerprint, once

__all__ = ["load_config", "optimum_graph"]

_TASK = "text-generation-with-past"
_READ_BY_OPTIMUM = (".json", ".safetensors", ".bin", ".py")


def load_config(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The text model's configuration.

    Raises `SourceError` for one that transformers does not know, `ExportError` for an architecture that Optimum cannot
    export.
    """
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise SourceError(
                f"{checkpoint} brings Python code of its own; read it, then allow it with --trust-remote-code"
            ) from None
        raise SourceError(f"{checkpoint}: transformers cannot read its configuration ({one_line(error)})") from None
    supported = _supported()
    if config.model_type not in supported:
        raise ExportError(
            f"architecture {config.model_type!r} cannot be exported as a decoder with a KV cache: "
            "Optimum has no export for it, see docs/export.md for those that are tested"
        )
    return config.get_text_config(decoder=True)


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
    from optimum.exporters.onnx import main_export

    # Optimum's own check compares a few positions to 1e-3; ours measures more of them, after the passes.
    try:
        with quiet():
            main_export(
                str(checkpoint),
                output=folder,
                task=_TASK,
                framework="pt",
                device="cpu",
                dtype="fp32",
                do_validation=False,
                no_post_process=True,
                trust_remote_code=trust_remote_code,
                library_name="transformers",
                local_files_only=True,
            )
    except OSError as error:
        if error.errno is not None:
            raise
        raise SourceError(f"{checkpoint}: its weights cannot be loaded ({one_line(error)})") from None
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        reraise_full_disk(error)
        raise ExportError(f"Optimum could not export {checkpoint} ({one_line(error)})") from error
    if not (folder / "model.onnx").is_file():
        written = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise ExportError(f"Optimum wrote {written} instead of one decoder graph")


def _supported() -> set[str]:
    # Importing the exporters is what registers the architectures.
    import optimum.exporters.onnx.model_configs  # noqa: F401
    from optimum.exporters.tasks import TasksManager

    known: dict[str, Any] = TasksManager._SUPPORTED_MODEL_TYPE
    return {name for name, exporters in known.items() if _TASK in exporters.get("onnx", {})}
