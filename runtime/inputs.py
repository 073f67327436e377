"""Ids, mask and positions of a pass, bound to its session."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Inputs"]


class Inputs:
    """int64 arrays by the names of a graph's inputs.

    Binding one costs as much as computing a few nodes. So where a session reads host memory as it is (`in_place`), an
    array of the same shape as the last is written to where that is bound; elsewhere it is copied when it is bound.
    """

    def __init__(self, binding: Any, *, in_place: bool) -> None:
        self._binding = binding
        self._in_place = in_place
        self._bound: dict[str, npt.NDArray[np.int64]] = {}

    def bind(self, name: str, array: npt.NDArray[np.int64]) -> None:
        """Have the next pass read `array`."""
        bound = self._bound.get(name)
        if self._in_place and bound is not None and bound.shape == array.shape:
            bound[...] = array
            return
        self._bound[name] = array
        self._binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
