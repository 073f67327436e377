"""Ids, mask and positions of a pass, bound to its session.

Behind a pass the processor's caches hold weights, and what Python touches then is slow for the first time. So there is
little to touch: a list of ids is written to memory that is already bound, and the masks are made ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..sessions.providers import onnxruntime

__all__ = ["Inputs", "masks"]

_MASKS_AT_ONCE = 64
_FIRST_ROOM = 64


class Inputs:
    """int64 tensors by the names of a graph's inputs.

    Where a session reads host memory as it is (`in_place`), numbers of the same shape as the last are written to where
    those are bound, and nothing else is done; elsewhere they are copied when they are bound.
    """

    def __init__(self, binding: Any, *, in_place: bool) -> None:
        self._binding = binding
        self._in_place = in_place
        self._bound: dict[str, _Memory] = {}

    def bind(self, name: str, numbers: Sequence[int], shape: tuple[int, ...]) -> None:
        """Have the next pass read `numbers` in this shape."""
        memory = self._bound.get(name)
        if memory is None or len(memory.view) < len(numbers):
            memory = self._bound[name] = _Memory(max(len(numbers), _FIRST_ROOM))
        view = memory.view
        for at, number in enumerate(numbers):
            view[at] = number
        if memory.shape != shape or not self._in_place:
            memory.shape = ()  # of no shape until it is bound: what is interrupted is bound anew
            self._binding.bind_input(name, "cpu", 0, np.int64, shape, memory.address)
            memory.shape = shape

    def bind_mask(self, name: str, length: int) -> None:
        """Have the next pass read `length` ones, [1, length]."""
        block, at = divmod(length, _MASKS_AT_ONCE)
        self._binding.bind_ortvalue_input(name, masks(block)[at])

    def bind_wide_mask(self, name: str, length: int, width: int) -> None:
        """Have the next pass read `length` ones and zeros behind them, [1, width]."""
        mask = np.zeros((1, width), np.int64)
        mask[0, :length] = 1
        self._binding.bind_ortvalue_input(name, onnxruntime().OrtValue.ortvalue_from_numpy(mask))


class _Memory:
    """Room for numbers, and the shape in which its beginning is bound."""

    def __init__(self, room: int) -> None:
        array = np.empty(room, np.int64)
        self.view = array.data  # of a few numbers, writing to an array takes five times as long
        self.address = array.ctypes.data
        self.shape: tuple[int, ...] = ()


@cache
def masks(block: int) -> list[Any]:
    """Masks of so many lengths in a row: views of one array, which they keep alive."""
    lengths = range(block * _MASKS_AT_ONCE, (block + 1) * _MASKS_AT_ONCE)
    ones = _ones(1 << (lengths.stop - 1).bit_length())
    ortvalue = onnxruntime().OrtValue
    return [ortvalue.ortvalue_from_numpy(ones[:, :length]) for length in lengths]


@cache
def _ones(length: int) -> Any:
    return np.ones((1, length), np.int64)
