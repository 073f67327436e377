"""Execution providers by short name, checked: ONNX Runtime falls back to the CPU in silence, this package does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nudge_onnx.errors import ProviderError, RuntimeMissingError

__all__ = ["ProviderSpec", "check_loaded", "resolve_providers"]

ProviderSpec: TypeAlias = "str | tuple[str, Mapping[str, Any]]"
"""A provider's short or full name, alone or with its options."""

_FULL = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
}
_SHORT = {full: short for short, full in _FULL.items()}

_NEEDS = {
    "CUDAExecutionProvider": "it needs an NVIDIA driver, CUDA 13 and cuDNN 9 beside onnxruntime-gpu",
    "TensorrtExecutionProvider": "it needs an NVIDIA driver, CUDA 13, cuDNN 9 and TensorRT 10 beside onnxruntime-gpu",
}


def onnxruntime() -> Any:
    """The onnxruntime module; raises `RuntimeMissingError` naming the extras where no build is installed."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise RuntimeMissingError(
            "no onnxruntime is installed; run pip install 'nudge-onnx[cpu]', or 'nudge-onnx[gpu]' for CUDA and TensorRT"
        ) from None
    return ort


def resolve_providers(wanted: Sequence[ProviderSpec]) -> list[tuple[str, dict[str, Any]]]:
    """The providers of `wanted` that this build of ONNX Runtime has, by full name with options, in the same order.

    Raises `ProviderError` for a name nobody knows, and where none of them is available.
    """
    available = onnxruntime().get_available_providers()
    found: list[tuple[str, dict[str, Any]]] = []
    for spec in [wanted] if isinstance(wanted, str) else wanted:
        name, options = (spec, {}) if isinstance(spec, str) else (spec[0], dict(spec[1]))
        full = _FULL.get(name.lower(), name)
        if full not in _SHORT and full not in available:
            raise ProviderError(f"unknown provider {name!r}; available here: {_names(available)}")
        if full in available:
            found.append((full, options))
    if not found:
        asked = ", ".join(repr(spec if isinstance(spec, str) else spec[0]) for spec in wanted) or "(none)"
        raise ProviderError(
            f"provider {asked} is not in this build of ONNX Runtime; available here: {_names(available)}. "
            "Install the build that has it or add a fallback such as 'cpu'"
        )
    return found


def check_loaded(session: Any, wanted: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The short name of the provider that a session runs on.

    Raises `ProviderError` if none of `wanted` came up, which ONNX Runtime itself only logs.
    """
    loaded = session.get_providers()
    for name, _ in wanted:
        if name in loaded:
            return _SHORT.get(name, name)
    name = wanted[0][0]
    why = _NEEDS.get(name, "ONNX Runtime's log above says why")
    raise ProviderError(
        f"provider {_SHORT.get(name, name)!r} did not load: {why}. "
        f"Loaded: {_names(loaded)}; add 'cpu' to fall back to it"
    )


def _names(full: Sequence[str]) -> str:
    return ", ".join(_SHORT.get(name, name) for name in full)
