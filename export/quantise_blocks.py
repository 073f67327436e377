"""Blocks of 32 weights in four or eight bits, in the layout of ONNX Runtime's MatMulNBits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "Blocks", "quantise_rows"]

BLOCK = 32
"""Weights per scale, along the axis that is summed over."""

_WEIGHTS_AT_ONCE = 1 << 17
"""Weights quantised together: the search makes a few copies of them, which should stay in a core's cache."""

_CANDIDATES: tuple[float, ...] = tuple(np.linspace(0.80, 1.05, 11))
"""Shrinkages of the range that are tried for a 4-bit block. Clipping its largest weight a little often costs less than
a coarser grid for the other 31."""


@dataclass(frozen=True)
class Blocks:
    """A quantised matrix of N rows and K columns: weight = (code - zero point) * scale."""

    bits: int
    codes: npt.NDArray[np.uint8]
    """[N, ceil(K / 32), 32 * bits / 8]; of two 4-bit codes in a byte, the first is in the low half."""
    scales: npt.NDArray[np.float32]
    """[N, ceil(K / 32)]."""
    zero_points: npt.NDArray[np.uint8] | None = None
    """[N, ceil(blocks * bits / 8)], packed like the codes; `None` means the middle of the range, 8 or 128."""


def quantise_rows(matrix: npt.NDArray[Any], bits: int, *, symmetric: bool = True) -> Blocks:
    """Quantise [N, K] along K; a last block that is not full is filled with zeros.

    Eight bits round to nearest: its error is below what a search could win. Four bits pick, block by block, the range
    with the least squared error.
    """
    if bits not in (4, 8):
        raise ValueError(f"{bits} bits are not supported, only 4 and 8")
    rows = max(1, _WEIGHTS_AT_ONCE // matrix.shape[1])
    parts = [
        _quantise(np.asarray(matrix[start : start + rows], np.float32), bits, symmetric)
        for start in range(0, len(matrix), rows)
    ]
    codes, scales, zeros = (np.concatenate(piece) for piece in zip(*parts, strict=True))
    return Blocks(bits, _pack(codes, bits), scales, None if symmetric else _pack(zeros[:, None], bits)[:, 0])


Piece = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def _quantise(rows: npt.NDArray[np.float32], bits: int, symmetric: bool) -> Piece:
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK)))
    blocks = rows.reshape(len(rows), -1, BLOCK)
    best = _grid(blocks, bits, symmetric, 1.0)
    if bits == 4:
        least = _error(blocks, best)
        for shrink in _CANDIDATES:
            trial = _grid(blocks, bits, symmetric, shrink)
            error = _error(blocks, trial)
            better = error < least
            least = np.where(better, error, least)
            best[0][better] = trial[0][better]
            best[1][better] = trial[1][better]
            best[2][better] = trial[2][better]
    return best


def _grid(blocks: npt.NDArray[np.float32], bits: int, symmetric: bool, shrink: float) -> Piece:
    levels = (1 << bits) - 1
    if symmetric:
        # The weight of largest magnitude gets the code 0: the range has one more step on that side.
        peak = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
        scales = peak * np.float32(-shrink / (1 << (bits - 1)))
        zeros = np.full(scales.shape, 1 << (bits - 1), np.float32)
    else:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        scales = (high - low) * np.float32(shrink / levels)
        zeros = np.clip(np.rint(-low * np.float32(shrink) / _nonzero(scales)), 0, levels)
    codes = np.clip(np.rint(blocks / _nonzero(scales)[..., None]) + zeros[..., None], 0, levels)
    return codes.astype(np.uint8), scales, zeros.astype(np.uint8)


def _error(blocks: npt.NDArray[np.float32], piece: Piece) -> npt.NDArray[np.float32]:
    codes, scales, zeros = piece
    restored = (codes.astype(np.float32) - zeros[..., None]) * scales[..., None]
    error: npt.NDArray[np.float32] = np.square(restored - blocks).sum(-1)
    return error


def _nonzero(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.where(scales == 0, np.float32(1), scales)


def _pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], -1)
    packed: npt.NDArray[np.uint8] = codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
    return packed
