"""What of this machine decides how ONNX Runtime arranges weights, and which kernels it takes."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["processor", "usable_cores"]


@cache
def processor() -> str:
    """Architecture, model and instruction sets of the processor, as far as the system and NumPy tell."""
    known = [platform.system(), platform.machine(), platform.processor()]
    with suppress(OSError):  # Linux only
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for label in ("model name", "flags", "Features", "CPU part"):
            known += [line.partition(":")[2].strip() for line in lines if line.startswith(label)][:1]
    known.append(" ".join(_instructions()))
    return " | ".join(part for part in known if part)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return cores


def _instructions() -> list[str]:
    """Instruction sets that this process sees.

    An emulator shows a program its own processor and the system's file that of the host. NumPy, like ONNX Runtime,
    asks the processor; what it found has no public name that tells AVX from SSE.
    """
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        with suppress(ImportError, AttributeError):
            features = importlib.import_module(name).__cpu_features__
            return sorted(feature for feature, there in features.items() if there)
    return []
