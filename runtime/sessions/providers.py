"""Execution providers by short name, checked: ONNX Runtime falls back to the CPU in silence, this package does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nudge_onnx.arguments import must_be
from nudge_onnx.errors import ProviderError, RuntimeMissingError

from .shared_libraries import missing_library

__all__ = [
    "PROVIDERS",
    "Provider",
    "ProviderSpec",
    "check_loaded",
    "may_record",
    "onnxruntime",
    "recorded",
    "records_runs",
    "resolve_providers",
    "short_name",
]

ProviderSpec: TypeAlias = "str | tuple[str, Mapping[str, Any]]"
"""A provider's short or full name, alone or with its options."""

Provider: TypeAlias = "tuple[str, dict[str, str]]"
"""A provider's full name and its options, as ONNX Runtime takes them."""

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
    "cann": "CANNExecutionProvider",
    "azure": "AzureExecutionProvider",
}
"""Full names of execution providers by their short names."""

_SHORT = {full: short for short, full in PROVIDERS.items()}
_CPU = PROVIDERS["cpu"]

_NEEDS = {
    "CUDAExecutionProvider": "onnxruntime-gpu needs an NVIDIA driver, CUDA and cuDNN 9",
    "TensorrtExecutionProvider": "onnxruntime-gpu needs an NVIDIA driver, CUDA, cuDNN 9 and TensorRT 10",
}

# A captured graph runs again on the shapes and buffers it was captured with: from the second pass on, wrong answers,
# but for what CUDA is told to capture by `captured.py`.
_CUDA_GRAPH = "enable_cuda_graph"
_GRAPH_CAPTURE = frozenset({_CUDA_GRAPH, "trt_cuda_graph_enable", "enable_graph_capture"})

# What a decoder's time goes into. Providers leave small nodes about shapes to the CPU on purpose; these they do not.
_WORK = frozenset({"MatMul", "MatMulNBits", "Gemm", "GroupQueryAttention", "MultiHeadAttention", "Attention"})


def onnxruntime() -> Any:
    """The onnxruntime module; raises `RuntimeMissingError` naming the extras where no build is installed."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise RuntimeMissingError(
            "no onnxruntime is installed; run pip install 'nudge-onnx[cpu]', or 'nudge-onnx[gpu]' for CUDA and TensorRT"
        ) from None
    return ort


def short_name(full: str) -> str:
    """The name that users write, `cuda` for `CUDAExecutionProvider`."""
    return _SHORT.get(full, full)


def resolve_providers(wanted: Sequence[ProviderSpec]) -> list[Provider]:
    """The providers of `wanted` that can load here, by full name with options, in the same order.

    Raises `ProviderError` for a name nobody knows, where this build of ONNX Runtime has none of them, and where those
    that it has lack a shared library.
    """
    available = onnxruntime().get_available_providers()
    found: list[Provider] = []
    specs = _pairs(wanted)
    for name, options in specs:
        full = PROVIDERS.get(name.lower(), name)
        if full not in _SHORT and full not in available:
            raise ProviderError(f"unknown provider {name!r}; available here: {_names(available)}")
        if full in available:
            found.append((full, {key: _text(value) for key, value in options.items()}))
            _check_options(*found[-1], first=len(found) == 1)
    if not found:
        asked = ", ".join(repr(name) for name, _ in specs) or "(none)"
        raise ProviderError(
            f"provider {asked} is not in this build of ONNX Runtime; available here: {_names(available)}. "
            "Install the build that has it or add a fallback such as 'cpu'"
        )
    # ONNX Runtime would find out too, and write pages about it to stderr.
    loadable = [provider for provider in found if missing_library(provider[0]) is None]
    if not loadable:
        raise not_loaded(found[0][0])
    return loadable


def _pairs(wanted: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and options as they were asked for; `NudgeError` for what is neither."""
    what = "a list of names or (name, options)"
    if not isinstance(wanted, str | list | tuple):
        raise must_be("providers", what, wanted)
    pairs: list[tuple[str, Mapping[str, Any]]] = []
    for spec in [wanted] if isinstance(wanted, str) else wanted:
        pair = (spec, {}) if isinstance(spec, str) else spec
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise must_be("providers", what, spec)
        name, options = pair
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise must_be(f"the options of provider {name!r}", "a mapping of names to values", options)
        pairs.append((name, options))
    return pairs


def check_loaded(session: Any, wanted: Sequence[Provider]) -> str:
    """The full name of the provider that a session runs on.

    Raises `ProviderError` if none of `wanted` came up, which ONNX Runtime itself only logs, or if one came up and
    left the work to a CPU that nobody asked for.
    """
    loaded = session.get_providers()
    for name, _ in wanted:
        if name in loaded:
            if name != _CPU and _CPU not in dict(wanted):
                _check_work(session, name)
            return name
    raise not_loaded(wanted[0][0])


def not_loaded(name: str, reason: str = "") -> ProviderError:
    """The error that says why a provider did not load: the shared library that is missing, if it is one."""
    library = missing_library(name)
    why = f"the library {library} is missing" if library else reason or "ONNX Runtime's log says why"
    needs = f" ({_NEEDS[name]})" if name in _NEEDS else ""
    return ProviderError(
        f"provider {short_name(name)!r} did not load: {why}{needs}. Add 'cpu' to the providers to fall back to it"
    )


def records_runs(name: str, options: Mapping[str, str]) -> bool:
    """Whether a provider was told to record runs as CUDA graphs, and replay them."""
    return name == PROVIDERS["cuda"] and _is_on(options, _CUDA_GRAPH)


def may_record(name: str, options: Mapping[str, str]) -> bool:
    """Whether a provider can record runs as CUDA graphs, and was not told whether to."""
    return name == PROVIDERS["cuda"] and _CUDA_GRAPH not in options


def recorded(name: str, options: Mapping[str, str]) -> Provider:
    """The provider, told to record runs as CUDA graphs."""
    return name, {**options, _CUDA_GRAPH: "1"}


def _check_options(name: str, options: Mapping[str, str], *, first: bool) -> None:
    for key in sorted(_GRAPH_CAPTURE):
        if _is_on(options, key) and not (key == _CUDA_GRAPH and name == PROVIDERS["cuda"] and first):
            raise ProviderError(
                f"{short_name(name)} option {key} replays the first pass with its shapes, and a decoder's passes grow; "
                f"leave it out. Only cuda, named first, may have {_CUDA_GRAPH}"
            )


def _is_on(options: Mapping[str, str], key: str) -> bool:
    return options.get(key, "0").lower() not in ("0", "false")


def _check_work(session: Any, name: str) -> None:
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # a build that keeps no such record
        return
    work = [part.ep_name for part in parts for node in part.get_nodes() if node.op_type in _WORK]
    on_cpu = work.count(_CPU)
    if on_cpu:
        raise ProviderError(
            f"provider {short_name(name)!r} loaded and would leave {on_cpu} of {len(work)} matrix products and "
            "attentions to the CPU. Add 'cpu' to the providers to allow it, or export for another target"
        )


def _text(value: Any) -> str:
    # ONNX Runtime takes text only, and reads a Python bool's "True" as neither 1 nor true.
    return str(int(value)) if isinstance(value, bool) else str(value)


def _names(full: Sequence[str]) -> str:
    return ", ".join(short_name(name) for name in full)
