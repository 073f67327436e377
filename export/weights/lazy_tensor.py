"""A matrix of floats that lies elsewhere: known by its shape, read by rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "LazyTensor", "Tensor", "equal", "join"]

Floats: TypeAlias = npt.NDArray[np.float32]

_AT_ONCE = 1 << 22
"""Numbers that are read together: 16 MiB."""


@dataclass(frozen=True)
class LazyTensor:
    """A float32 tensor [rows, ...] that `read(start, stop)` reads rows of, or the transpose of a matrix.

    It has as much of an array's face as graph passes use: `shape`, `T`, slices of rows, `numpy.asarray`.
    """

    stored: tuple[int, ...]
    """Shape as it lies there."""
    read: Callable[[int, int], Floats]
    """Rows from `start` up to `stop`, float32 `[stop - start, ...]`."""
    transposed: bool = False

    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as it is seen."""
        return self.stored[::-1] if self.transposed else self.stored

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.stored)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.stored)

    @property
    def nbytes(self) -> int:
        """Bytes of all of it in memory."""
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> LazyTensor:  # noqa: N802, an array's name for it
        """The transpose of a matrix."""
        return LazyTensor(self.stored, self.read, not self.transposed)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Floats:
        """A slice of rows, or the rows of these indices [count]."""
        if self.transposed:
            whole: Floats = np.asarray(self)[rows]
            return whole
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self.read(start, max(start, stop))
            rows = np.arange(start, stop, step)
        wanted, places = np.unique(rows, return_inverse=True)
        return np.stack([self.read(row, row + 1)[0] for row in wanted.tolist()])[places]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self.read(0, self.stored[0])
        return np.ascontiguousarray(whole.T if self.transposed else whole).astype(dtype or self.dtype, copy=False)

    def pieces(self) -> Iterator[Floats]:
        """All of it as it is seen, a few rows at a time; of a transpose, the whole at once."""
        if self.transposed:
            yield np.asarray(self)
            return
        rows = max(1, _AT_ONCE // max(1, self.size // max(1, len(self))))
        for start in range(0, len(self), rows):
            yield self.read(start, min(start + rows, len(self)))

    def scaled(self, factors: Floats, axis: int) -> LazyTensor:
        """A matrix times one factor for each index of an axis."""
        read = self.read
        if (axis % 2 == 1) == self.transposed:  # the axis of the rows that are read
            return LazyTensor(
                self.stored, lambda start, stop: read(start, stop) * factors[start:stop, None], self.transposed
            )
        return LazyTensor(self.stored, lambda start, stop: read(start, stop) * factors, self.transposed)


Tensor: TypeAlias = "npt.NDArray[Any] | LazyTensor"
"""A constant of a graph, in memory or elsewhere."""


def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Matrices side by side or one below the other, as `numpy.concatenate` does it; lazily if all are lazy."""
    lazy = [part for part in parts if isinstance(part, LazyTensor)]
    along_rows = {axis == int(part.transposed) for part in lazy}
    if len(lazy) < len(parts) or along_rows != {True} or len({part.transposed for part in lazy}) > 1:
        return np.concatenate([np.asarray(part) for part in parts], axis)
    stored = (sum(part.stored[0] for part in lazy), *lazy[0].stored[1:])

    def read(start: int, stop: int) -> Floats:
        found, at = [], 0
        for part in lazy:
            first, last = max(start - at, 0), min(stop - at, part.stored[0])
            if first < last:
                found.append(part.read(first, last))
            at += part.stored[0]
        return found[0] if len(found) == 1 else np.concatenate(found)

    return LazyTensor(stored, read, lazy[0].transposed)


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, as `numpy.array_equal` finds it, without reading both at once."""
    if one.shape != other.shape:
        return False
    if isinstance(one, LazyTensor) and isinstance(other, LazyTensor):
        if one.read is other.read and one.transposed == other.transposed:
            return True
        if one.transposed and other.transposed:
            one, other = one.T, other.T
        at = 0
        for piece in one.pieces():
            if not np.array_equal(piece, other[at : at + len(piece)]):
                return False
            at += len(piece)
        return True
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))
