"""Blocks of 32 weights in four or eight bits, in the layout of ONNX Runtime's MatMulNBits.

Weights that were in blocks before, as those of a GGUF file are, are put back on their own grid: rounding them a second
time would cost more than the first did. The grid is found in the numbers themselves, so it does not matter which kind
of file they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "Blocks", "quantise_rows", "regrid"]

BLOCK = 32
"""Weights per scale, along the axis that is summed over."""

_WEIGHTS_AT_ONCE = 1 << 17
"""Weights quantised together: the search makes a few copies of them, which should stay in a core's cache."""

_SHRINKAGES = (1.0, 0.8, 0.84, 0.88, 0.91, 0.94, 0.97, 1.04)
"""Ranges tried for a 4-bit block. Clipping its largest weight a little often costs less than a coarser grid for the
other 31."""

_STEPS_TO_PEAK = (128, 127, 16)
"""Steps from zero to the largest weight tried for an 8-bit block: the whole range, GGUF's Q8_0, and Q5_0."""

_ON_GRID = 1e-3
"""How far, in steps, a weight may lie from a grid that it is said to be on: a thousand times what fp32 explains."""

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """A quantised matrix of N rows and K columns: weight = (code - zero point) * scale + offset."""

    bits: int
    codes: Codes
    """[N, ceil(K / 32), 32 * bits / 8]; of two 4-bit codes in a byte, the first is in the low half."""
    scales: Floats
    """[N, ceil(K / 32)]."""
    zero_points: Codes | None = None
    """[N, ceil(blocks * bits / 8)], packed like the codes; `None` means the middle of the range, 8 or 128."""
    offsets: Floats | None = None
    """[N, ceil(K / 32)], added to each weight of a block; `None` means zero. MatMulNBits has no such input."""


@dataclass(frozen=True)
class _Piece:
    codes: Codes
    scales: Floats
    zeros: Codes
    offsets: Floats

    def restored(self) -> Floats:
        steps = self.codes.astype(np.float32) - self.zeros[..., None]
        return steps * self.scales[..., None] + self.offsets[..., None]


def quantise_rows(matrix: npt.NDArray[Any], bits: int, *, symmetric: bool = True) -> Blocks:
    """Quantise [N, K] along K, block by block in the way that has the least squared error of those tried.

    A last block that is not full is filled with zeros. Raises `ValueError` for other than four or eight bits.
    """
    if bits not in (4, 8):
        raise ValueError(f"{bits} bits are not supported, only 4 and 8")
    if symmetric:
        steps = _STEPS_TO_PEAK if bits == 8 else [8 / shrink for shrink in _SHRINKAGES]
        piece = _join(_least_error(part, (_symmetric(part, bits, n) for n in steps)) for part in _parts(matrix))
    else:
        shrinkages = _SHRINKAGES[:1] if bits == 8 else _SHRINKAGES
        piece = _join(_least_error(part, (_asymmetric(part, bits, n) for n in shrinkages)) for part in _parts(matrix))
    zeros = None if symmetric else _pack(piece.zeros[:, None], bits)[:, 0]
    return Blocks(bits, _pack(piece.codes, bits), piece.scales, zeros)


def regrid(matrix: npt.NDArray[Any]) -> Blocks | None:
    """[N, K] in the blocks of sixteen levels that it was in before; `None` if it was not.

    The levels may lie around zero (GGUF's Q4_0) or anywhere (Q4_1, Q4_K), which takes offsets.
    """
    sample = matrix[:: max(1, len(matrix) // 64)]
    for find in (_around_zero, _anywhere):
        if all(_on_grid(part, find(part)) for part in _parts(sample)):
            parts = [(part, find(part)) for part in _parts(matrix)]
            if all(_on_grid(part, piece) for part, piece in parts):
                whole = _join(piece for _, piece in parts)
                offsets = whole.offsets if whole.offsets.any() else None
                return Blocks(4, _pack(whole.codes, 4), whole.scales, None, offsets)
    return None


def _parts(matrix: npt.NDArray[Any]) -> Iterator[Floats]:
    """A few rows at a time, [rows, blocks, 32]."""
    rows = max(1, _WEIGHTS_AT_ONCE // matrix.shape[1])
    for start in range(0, len(matrix), rows):
        part = np.asarray(matrix[start : start + rows], np.float32)
        part = np.pad(part, ((0, 0), (0, -part.shape[1] % BLOCK)))
        yield part.reshape(len(part), -1, BLOCK)


def _join(pieces: Iterable[_Piece]) -> _Piece:
    listed = list(pieces)
    return _Piece(
        np.concatenate([piece.codes for piece in listed]),
        np.concatenate([piece.scales for piece in listed]),
        np.concatenate([piece.zeros for piece in listed]),
        np.concatenate([piece.offsets for piece in listed]),
    )


def _least_error(blocks: Floats, trials: Iterable[_Piece]) -> _Piece:
    best, least = None, np.zeros(0, np.float32)
    for trial in trials:
        error: Floats = np.square(trial.restored() - blocks).sum(-1)
        if best is None:
            best, least = trial, error
            continue
        better = error < least
        least = np.where(better, error, least)
        best.codes[better] = trial.codes[better]
        best.scales[better] = trial.scales[better]
        best.zeros[better] = trial.zeros[better]
    assert best is not None  # there is always a first trial
    return best


def _symmetric(blocks: Floats, bits: int, steps_to_peak: float) -> _Piece:
    """A grid around zero on which the largest weight lies so many steps away, at the end that has one more code."""
    middle = 1 << (bits - 1)
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    scales = peak / np.float32(-steps_to_peak)
    codes = np.clip(np.rint(blocks / _divisor(scales)) + middle, 0, 2 * middle - 1).astype(np.uint8)
    return _Piece(codes, scales, np.full(scales.shape, middle, np.uint8), np.zeros_like(scales))


def _asymmetric(blocks: Floats, bits: int, shrink: float) -> _Piece:
    """A grid from the smallest to the largest weight, zero being one of its levels."""
    levels = (1 << bits) - 1
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    scales = (high - low) * np.float32(shrink / levels)
    zeros = np.clip(np.rint(-low * np.float32(shrink) / _divisor(scales)[..., 0]), 0, levels)
    codes = np.clip(np.rint(blocks / _divisor(scales)) + zeros[..., None], 0, levels).astype(np.uint8)
    return _Piece(codes, scales, zeros.astype(np.uint8), np.zeros_like(scales))


def _around_zero(blocks: Floats) -> _Piece:
    return _symmetric(blocks, 4, 8)


def _anywhere(blocks: Floats) -> _Piece:
    """Sixteen levels from the smallest weight up: as many steps to the largest as make all others fall on one."""
    low, span = blocks.min(-1), np.ptp(blocks, -1)
    best = _Piece(
        np.zeros(blocks.shape, np.uint8),
        np.zeros_like(span),
        np.full(span.shape, 8, np.uint8),
        low.copy(),
    )
    open_blocks = span > 0
    for steps in range(15, 0, -1):
        scales = span / np.float32(steps)
        exact = (blocks - low[..., None]) / _divisor(scales)
        codes = np.rint(exact)
        found = open_blocks & (np.abs(exact - codes).max(-1) < _ON_GRID)
        best.codes[found] = codes[found].astype(np.uint8)
        best.scales[found] = scales[found]
        # The operator takes 8 off each code.
        best.offsets[found] = low[found] + 8 * scales[found]
        open_blocks &= ~found
        if not open_blocks.any():
            break
    return best


def _on_grid(blocks: Floats, piece: _Piece) -> bool:
    error = np.abs(piece.restored() - blocks).max(-1)
    # A block of one value has no steps: its offset is all there is.
    return bool((error <= np.abs(piece.scales) * _ON_GRID).all())


def _divisor(scales: Floats) -> Floats:
    return np.where(scales == 0, np.float32(1), scales)[..., None]


def _pack(codes: Codes, bits: int) -> Codes:
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], -1)
    packed: Codes = codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
    return packed
