"""The file of weights beside a graph, written from front to back: what is in it need not be in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .lazy_tensor import LazyTensor, Tensor

__all__ = ["DataFile", "Place"]

_ALIGNMENT = 1 << 12
_LARGE = 1 << 16
"""Bytes of a tensor that begins at a whole page, so that a reader may map it."""

Place = tuple[int, int]
"""Offset and length in bytes."""


class DataFile:
    """An external-data file of ONNX that tensors are appended to. Raises `OSError` where its disk is full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb")

    def append(self, tensor: Tensor, dtype: npt.DTypeLike | None = None) -> Place:
        """Write a tensor, row by row if it is lazy, as `dtype` if that is given; returns where it is."""
        offset = self._stream.tell()
        wanted = np.dtype(dtype or tensor.dtype)
        if tensor.size * wanted.itemsize >= _LARGE:
            self._stream.seek(-offset % _ALIGNMENT, 1)
            offset = self._stream.tell()
        for piece in tensor.pieces() if isinstance(tensor, LazyTensor) else [tensor]:
            self._stream.write(np.ascontiguousarray(piece, wanted).reshape(-1).view(np.uint8).data)
        self._stream.flush()
        return offset, self._stream.tell() - offset

    def read(self, place: Place, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A tensor that was written, mapped."""
        return np.memmap(self.path, dtype, "r", place[0], shape)

    def close(self) -> None:
        """Nothing is written any more."""
        self._stream.close()
