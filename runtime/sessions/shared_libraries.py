"""Which shared library keeps a provider from loading: ONNX Runtime only logs it, the dynamic linker can say it."""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

__all__ = ["missing_library"]

# Providers that are always a library of their own; others may be built into the core.
_STEMS = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "NvTensorRTRTXExecutionProvider": "nv_tensorrt_rtx",
    "OpenVINOExecutionProvider": "openvino",
    "ROCMExecutionProvider": "rocm",
    "MIGraphXExecutionProvider": "migraphx",
    "DnnlExecutionProvider": "dnnl",
    "VitisAIExecutionProvider": "vitisai",
    "CANNExecutionProvider": "cann",
}
# "libcublasLt.so.13: cannot open shared object file: No such file or directory"
_MISSING = re.compile(r"(?:^|[\s'])([\w.+-]+\.(?:so|dylib|dll)[\w.]*): cannot open shared object")


def missing_library(provider: str, folder: Path | None = None) -> str | None:
    """The first library that the provider's own library needs and the system does not find.

    `provider` is a full name; `folder` is where onnxruntime keeps its libraries. `None` where nothing is missing, or
    the system does not say what (Windows names no library).
    """
    stem = _STEMS.get(provider)
    if stem is None:
        return None
    name = f"onnxruntime_providers_{stem}.dll" if sys.platform == "win32" else f"libonnxruntime_providers_{stem}.so"
    path = (folder or _folder()) / name
    if not path.is_file():
        return name
    if stem in ("cuda", "tensorrt"):
        _load_packaged_libraries()
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        found = _MISSING.search(str(error))
        return found[1] if found else None
    return None


@cache
def _load_packaged_libraries() -> None:
    """Load the CUDA libraries that pip installed beside onnxruntime, where the linker does not look for them."""
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        # It prints what it does not find, and stdout is where an answer goes.
        with redirect_stdout(StringIO()):
            preload(directory="")


def _folder() -> Path:
    import onnxruntime

    return Path(onnxruntime.__file__).parent / "capi"
