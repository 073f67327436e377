"""Weights that were in blocks before, as those of a GGUF file are, go back on their own grid.

Rounding them a second time would cost more than the first did. The grid is found in the numbers themselves, so it does
not matter which kind of file they came from, nor that projections were joined or rows put in another order since.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..weights import Tensor
from .blocks import BLOCK, Blocks, Codes, Floats, divisor, pack, parts

__all__ = ["regrid", "rounded_before"]

_ON_GRID = 1e-3
"""How far, in steps, a weight may lie from a grid that it is said to be on: a thousand times what fp32 explains."""

_SAMPLED_ROWS = 64

_STEPS_OF_HALF = 63
"""Steps between the extremes of a half block: GGUF's Q6_K, and every kind of fewer bits."""

_STEPS_TO_PEAK = 127
"""Steps from zero to the largest weight of a block: GGUF's Q8_0."""


def regrid(matrix: Tensor) -> Blocks | None:
    """[N, K] in the blocks of sixteen levels that it was in before (GGUF's Q4_0, Q4_1, Q4_K); `None` if it was not.

    Levels that are not whole steps from zero take offsets of at most half a step besides their zero points.
    """
    if not all(_levels(part, 15)[-1].all() for part in parts(_sample(matrix))):
        return None
    found = []
    for part in parts(matrix):
        *levels, on_grid = _levels(part, 15)
        if not on_grid.all():
            return None
        found.append(levels)
    codes, scales, low = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    zeros = np.clip(np.rint(-low / divisor(scales)[..., 0]), 0, 15).astype(np.uint8)
    offsets = low + zeros * scales
    if (np.abs(offsets) > scales * _ON_GRID).any():
        return Blocks(4, pack(codes, 4), scales, pack(zeros, 4), offsets)
    centred = codes.astype(np.int8) + np.int8(8) - zeros.astype(np.int8)[..., None]
    if centred.min() >= 0 and centred.max() <= 15:
        return Blocks(4, pack(centred.astype(np.uint8), 4), scales)
    return Blocks(4, pack(codes, 4), scales, pack(zeros, 4))


def rounded_before(matrix: Tensor) -> bool:
    """Whether [N, K] was in blocks of at most eight bits before: GGUF's kinds with evenly spaced levels."""
    return all(_on_a_grid(part) for part in parts(_sample(matrix)))


def _sample(matrix: Tensor) -> Floats:
    return matrix[:: max(1, len(matrix) // _SAMPLED_ROWS)]


def _on_a_grid(blocks: Floats) -> bool:
    halves = _levels(blocks.reshape(*blocks.shape[:-2], -1, BLOCK // 2), _STEPS_OF_HALF)[-1]
    steps = blocks / divisor(np.abs(blocks).max(-1)) * np.float32(_STEPS_TO_PEAK)
    whole = np.abs(steps - np.rint(steps)).max(-1) < _ON_GRID
    return bool((whole | halves.reshape(*whole.shape, 2).all(-1)).all())


def _levels(blocks: Floats, most: int) -> tuple[Codes, Floats, Floats, npt.NDArray[np.bool_]]:
    """Codes, scales, smallest weights, and whether each block has at most so many even steps that hold all of it.

    The number of steps from the smallest weight to the largest is not known: a block need not reach its outer levels.
    """
    low, span = blocks.min(-1), np.ptp(blocks, -1)
    codes = np.zeros(blocks.shape, np.uint8)
    # A block of one value is one step away from zero.
    scales, low = np.where(span > 0, np.float32(0), np.abs(low)), np.where(span > 0, low, np.minimum(low, 0))
    codes[span == 0] = (blocks[span == 0] > 0).astype(np.uint8)
    left = np.flatnonzero(span > 0)
    flat, flat_codes = (array.reshape(-1, blocks.shape[-1]) for array in (blocks, codes))
    flat_scales = scales.reshape(-1)
    for steps in range(most, 0, -1):
        step = span.ravel()[left] / np.float32(steps)
        exact = (flat[left] - low.ravel()[left][:, None]) / step[:, None]
        nearest = np.rint(exact)
        found = np.abs(exact - nearest).max(-1) < _ON_GRID
        flat_codes[left[found]] = nearest[found].astype(np.uint8)
        flat_scales[left[found]] = step[found]
        left = left[~found]
        if not len(left):
            break
    on_grid = np.ones(span.shape, np.bool_)
    on_grid.ravel()[left] = False
    return codes, scales, low, on_grid
