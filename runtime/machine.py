"""What of this machine decides how ONNX Runtime arranges weights."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["processor"]


@cache
def processor() -> str:
    """Architecture, model and instruction sets of the processor, as far as the system tells."""
    known = [platform.system(), platform.machine(), platform.processor()]
    with suppress(OSError):  # Linux only
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for label in ("model name", "flags", "Features", "CPU part"):
            known += [line.partition(":")[2].strip() for line in lines if line.startswith(label)][:1]
    return " | ".join(part for part in known if part)
