"""Memory that takes physical pages only where something was written."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["sparse_zeros"]


def sparse_zeros(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Zeros of which untouched parts take no memory, where the system allows that.

    NumPy asks Linux for large pages, and the first number written to one takes two megabytes.
    """
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    size = max(1, count * kind.itemsize)
    if hasattr(mmap, "MAP_ANONYMOUS"):
        # By default it would be shared with processes that this one forks.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, kind, count).reshape(shape)
