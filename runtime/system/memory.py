"""Memory of this process: its peak, and giving back what was freed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["peak_memory", "return_freed_memory"]


def peak_memory() -> int | None:
    """Bytes of physical memory that this process held at most so far; `None` where the system does not say.

    Pages of memory-mapped weights count while they are resident, also those that other processes share.
    """
    if sys.platform.startswith("linux"):
        # getrusage would begin with the peak of the process that this one was forked from.
        with suppress(OSError):  # no /proc here
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for later (glibc)."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
