"""Weights in large pages of memory, where Linux leaves that to programs.

A step reads all weights once. In pages of 4 KiB the processor looks up an address every 4 KiB, in pages of 2 MiB every
2 MiB. Measured on the demo pair in int8, steps take 0.88 to 0.94 of the time.

ONNX Runtime allocates weights piece by piece and does not ask for large pages, so this collects what was allocated
while models were opened into such pages afterwards. A thread does it beside the first answer; it copies memory that is
in use, within the kernel, and changes no byte of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["POLICY", "SIZE", "huge_pages", "new_whole_pages", "wanted"]

SIZE = 2 << 20
"""Bytes of a large page."""
_SMALL = mmap.PAGESIZE
_FULL = 0.9
_MADV_COLLAPSE = 25  # Linux 6.1
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Where Linux says whether programs may ask for large pages."""
_MAPS = Path("/proc/self/maps")
# Private memory without a file that can be written to.
_ANONYMOUS = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 +(?:\[heap\])?$", re.MULTILINE)

Range = tuple[int, int]


@contextmanager
def huge_pages() -> Iterator[None]:
    """Move what is allocated inside to large pages, behind the back of whoever goes on.

    Does nothing where the system gives large pages unasked, or to nobody, or is another system, nor at real-time
    priority: ONNX Runtime's threads then wait in a loop and leave the kernel no time to finish a page, which was seen
    to last for half an hour.
    """
    if not wanted():
        yield
        return
    before = _mapped()
    yield
    fresh = new_whole_pages(_mapped(), before)
    if fresh:
        threading.Thread(target=_collapse, args=(fresh,), name="huge pages", daemon=True).start()


def wanted() -> bool:
    """Whether `huge_pages` does anything."""
    if sys.platform.startswith("linux"):
        if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
            return False
        with suppress(OSError):
            return "[madvise]" in POLICY.read_text(encoding="ascii")
    return False


def _mapped() -> list[Range]:
    with suppress(OSError):  # no /proc here
        return [(int(start, 16), int(end, 16)) for start, end in _ANONYMOUS.findall(_MAPS.read_text(encoding="utf-8"))]
    return []


def new_whole_pages(ranges: Sequence[Range], known: Sequence[Range]) -> list[Range]:
    """The parts of ascending `ranges` outside the ascending `known` ones, as far as they are whole large pages."""
    parts = []
    for start, end in ranges:
        for other_start, other_end in (*known, (end, end)):
            if start < other_start:
                parts.append((start, min(end, other_start)))
            start = max(start, other_end)
            if start >= end:
                break
    whole = ((-(-start // SIZE) * SIZE, end // SIZE * SIZE) for start, end in parts)
    return [(start, end) for start, end in whole if start < end]


def _collapse(ranges: Sequence[Range]) -> None:
    """Ask for one large page at a time: others wait for the kernel's lock on this memory meanwhile."""
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
        resident = ctypes.create_string_buffer(SIZE // _SMALL)
        for start, end in ranges:
            for page in range(start, end, SIZE):
                # What was never touched (stacks of threads) or given back would only then take memory.
                known = libc.mincore(page, SIZE, resident) == 0
                if known and sum(byte & 1 for byte in resident.raw) >= _FULL * len(resident):
                    # It may fail, for want of memory or on an older Linux; then the page stays as it is.
                    libc.madvise(page, SIZE, _MADV_COLLAPSE)
