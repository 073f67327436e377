"""Makes ONNX Runtime's session of one graph, and says in one line why there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from nudge_onnx.errors import BundleError

from .model_session import first_line
from .providers import Provider, not_loaded, onnxruntime

__all__ = ["CreateSession", "create_session"]

CreateSession: TypeAlias = "Callable[[Path, str, Sequence[Provider], Any], Any]"
"""File of a graph, its name in the bundle, providers in order, session options -> an `InferenceSession`."""

# "... CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0 ; hostname=...", behind some lines' worth of C++
_FAILURE = re.compile(r"\b(CU[A-Z]+ failure \d+: .*?) ?;")


def create_session(path: Path, name: str, wanted: Sequence[Provider], options: Any) -> Any:
    """A session on the first of the providers that comes up.

    Raises `ProviderError` if none does and `BundleError` if ONNX Runtime refuses the graph.
    """
    try:
        # Left to itself, a session prints to stdout that a provider failed, and comes up on the CPU.
        return onnxruntime().InferenceSession(
            str(path),
            options,
            providers=[full for full, _ in wanted],
            provider_options=[opts for _, opts in wanted],
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime raises a family of types of its own
        reason = first_line(error)
        failure = _FAILURE.search(reason)
        if failure or any(word in reason for word in ("ExecutionProvider", "TensorRT", "CUDA")):
            if len(wanted) > 1:
                return create_session(path, name, wanted[1:], options)
            raise not_loaded(wanted[0][0], failure[1] if failure else reason) from None
        raise BundleError(
            f"ONNX Runtime cannot open {name} ({reason}); check it with nudge-onnx inspect --check"
        ) from None
