"""Blocks of weights in four or eight bits, in the layout of ONNX Runtime's MatMulNBits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..weights import LazyTensor, Tensor

__all__ = ["BLOCK", "Blocks", "Codes", "Floats", "divisor", "pack", "parts", "quantise_rows", "unpack"]

BLOCK = 32
"""Weights per scale, along the axis that is summed over: the block of GGUF files, and ours if no other is asked for."""

_WEIGHTS_AT_ONCE = 1 << 17
"""Weights quantised together: the search makes a few copies of them, which should stay in a core's cache."""

_SHRINKAGES = (1.0, 0.8, 0.84, 0.88, 0.91, 0.94, 0.97, 1.04)
"""Ranges tried for a 4-bit block. Clipping its largest weight a little often costs less than a coarser grid for the
others."""

_STEPS_TO_PEAK = (128, 127, 16)
"""Steps from zero to the largest weight tried for an 8-bit block: the whole range, GGUF's Q8_0, and Q5_0."""

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """A quantised matrix of N rows and K columns: weight = (code - zero point) * scale + offset."""

    bits: int
    codes: Codes
    """[N, ceil(K / size), size * bits / 8]; of two 4-bit codes in a byte, the first is in the low half."""
    scales: Floats
    """[N, ceil(K / size)]."""
    zero_points: Codes | None = None
    """[N, ceil(blocks * bits / 8)], packed like the codes; `None` means the middle of the range, 8 or 128."""
    offsets: Floats | None = None
    """[N, ceil(K / size)], added to each weight of a block; `None` means zero. MatMulNBits has no such input."""

    @property
    def size(self) -> int:
        """Weights in a block."""
        return int(self.codes.shape[-1]) * 8 // self.bits

    def kept(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, as a journal takes them."""
        named = {"bits": np.array(self.bits), "codes": self.codes, "scales": self.scales}
        named |= {} if self.zero_points is None else {"zero_points": self.zero_points}
        return named | ({} if self.offsets is None else {"offsets": self.offsets})

    @classmethod
    def restored(cls, kept: Mapping[str, npt.NDArray[Any]]) -> Blocks:
        """The matrix whose arrays were `kept`."""
        arrays = {name: array for name, array in kept.items() if name != "bits"}
        return cls(bits=int(kept["bits"]), **arrays)


@dataclass(frozen=True)
class _Piece:
    codes: Codes
    scales: Floats
    zeros: Codes

    def restored(self) -> Floats:
        steps = self.codes.astype(np.float32) - self.zeros[..., None]
        return steps * self.scales[..., None]


def quantise_rows(
    matrix: Tensor,
    bits: int,
    *,
    size: int = BLOCK,
    symmetric: bool = True,
    importance: Floats | None = None,
) -> Blocks:
    """Quantise [N, K] along K in blocks of `size`, each in the way that has the least squared error of those tried.

    `importance` [K] weighs the errors of the columns. A last block that is not full is filled with zeros. Raises
    `ValueError` for other than four or eight bits.
    """
    if bits not in (4, 8):
        raise ValueError(f"{bits} bits are not supported, only 4 and 8")
    weighing = np.ones(matrix.shape[1], np.float32) if importance is None else importance
    [[weights]] = parts(weighing[None], size)
    trial = _symmetric if symmetric else _asymmetric
    if symmetric:
        tried = _STEPS_TO_PEAK if bits == 8 else tuple(8 / shrink for shrink in _SHRINKAGES)
    else:
        tried = _SHRINKAGES[:1] if bits == 8 else _SHRINKAGES
    piece = _join(_least_error(part, weights, (trial(part, bits, n) for n in tried)) for part in parts(matrix, size))
    zeros = None if symmetric else pack(piece.zeros, bits)
    return Blocks(bits, pack(piece.codes, bits), piece.scales, zeros)


def parts(matrix: Tensor, size: int = BLOCK) -> Iterator[Floats]:
    """A few rows of [N, K] at a time, as [rows, ceil(K / size), size]; the last block of a row is filled with zeros."""
    rows = max(1, _WEIGHTS_AT_ONCE // matrix.shape[1])
    for piece in matrix.pieces() if isinstance(matrix, LazyTensor) else [matrix]:
        for start in range(0, len(piece), rows):
            part = np.asarray(piece[start : start + rows], np.float32)
            part = np.pad(part, ((0, 0), (0, -part.shape[1] % size)))
            yield part.reshape(len(part), -1, size)


def divisor(scales: Floats) -> Floats:
    """Scales [..., 1] to divide blocks by; a scale of zero belongs to a block of zeros."""
    return np.where(scales == 0, np.float32(1), scales)[..., None]


def pack(codes: Codes, bits: int) -> Codes:
    """Put codes of the last axis into bytes."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], 1), np.uint8)], -1)
    packed: Codes = codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
    return packed


def unpack(codes: Codes, bits: int) -> Codes:
    """The codes in the bytes of the last axis."""
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1)


def _join(pieces: Iterable[_Piece]) -> _Piece:
    listed = list(pieces)
    return _Piece(
        np.concatenate([piece.codes for piece in listed]),
        np.concatenate([piece.scales for piece in listed]),
        np.concatenate([piece.zeros for piece in listed]),
    )


def _least_error(blocks: Floats, weights: Floats, trials: Iterable[_Piece]) -> _Piece:
    best, least = None, np.zeros(0, np.float32)
    for trial in trials:
        error: Floats = (np.square(trial.restored() - blocks) * weights).sum(-1)
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
    codes = np.clip(np.rint(blocks / divisor(scales)) + middle, 0, 2 * middle - 1).astype(np.uint8)
    return _Piece(codes, scales, np.full(scales.shape, middle, np.uint8))


def _asymmetric(blocks: Floats, bits: int, shrink: float) -> _Piece:
    """A grid from the smallest to the largest weight, zero being one of its levels."""
    levels = (1 << bits) - 1
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    scales = (high - low) * np.float32(shrink / levels)
    zeros = np.clip(np.rint(-low * np.float32(shrink) / divisor(scales)[..., 0]), 0, levels)
    codes = np.clip(np.rint(blocks / divisor(scales)) + zeros[..., None], 0, levels).astype(np.uint8)
    return _Piece(codes, scales, zeros.astype(np.uint8))
