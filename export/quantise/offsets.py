"""Offsets of blocks as further columns of the same MatMulNBits.

A block's offset adds the offset times the sum of the block's inputs to a product. So the sums of all blocks become
further inputs, and the offsets their weights: one product as before, a tenth wider. Four bits would round an offset too
coarsely, so each takes two columns, the second for what the first leaves. MatMulNBits has an input for zero points that
are no whole numbers, and is then more than 30 times slower; a product of its own in fp32 costs three times as
much, and gives a single row other bits than the same row among several.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .blocks import BLOCK, Blocks, Codes, Floats, pack, unpack

__all__ = ["block_sums", "widen"]

_MIDDLE = 8
"""The code of a weight of zero."""

_DIGITS = 2
"""Columns for each offset. The second has a sixteenth of the first's scale, so that an offset of at most half a step is
off by at most 1/480 of the largest step near it."""


def widen(blocks: Blocks) -> Blocks:
    """Four-bit blocks of [N, K] with offsets become blocks of [N, K + W] without.

    W is the number of rows of `block_sums(K)`, whose product with an input [K] is to be put behind that input.
    """
    assert blocks.offsets is not None  # the caller looked
    codes, scales = _digits(blocks.offsets)
    zeros = _zeros(blocks)
    return replace(
        blocks,
        codes=np.concatenate([blocks.codes, pack(codes, 4)], 1),
        scales=np.concatenate([blocks.scales, scales], 1),
        zero_points=pack(np.concatenate([zeros, np.full(scales.shape, _MIDDLE, np.uint8)], 1), 4),
        offsets=None,
    )


def block_sums(columns: int) -> Blocks:
    """[W, K] of ones and zeros: each row sums a block of an input [K].

    The sums come once for each digit, in whole blocks: the places that are left over repeat sums that are multiplied
    by zero.
    """
    count = columns // BLOCK
    summed = np.tile(np.resize(np.arange(count), -(-count // BLOCK) * BLOCK), _DIGITS)
    codes = np.full((len(summed), count, BLOCK), _MIDDLE, np.uint8)
    codes[np.arange(len(summed)), summed] = _MIDDLE + 1
    return Blocks(4, pack(codes, 4), np.ones((len(summed), count), np.float32))


def _digits(offsets: Floats) -> tuple[Codes, Floats]:
    """Codes [N, W / 32, 32] and scales [N, W / 32] of offsets [N, blocks]."""
    rows, count = offsets.shape
    left = np.pad(offsets, ((0, 0), (0, -count % BLOCK))).reshape(rows, -1, BLOCK)
    scale = np.abs(left).max(-1) / np.float32(_MIDDLE - 0.5)
    codes, scales = [], []
    for _ in range(_DIGITS):
        digit = np.clip(np.rint(left / np.where(scale == 0, 1, scale)[..., None]), -_MIDDLE, _MIDDLE - 1)
        codes.append((digit + _MIDDLE).astype(np.uint8))
        scales.append(scale)
        left = left - digit * scale[..., None]
        scale = scale / np.float32(2 * _MIDDLE)
    return np.concatenate(codes, 1), np.concatenate(scales, 1)


def _zeros(blocks: Blocks) -> Codes:
    if blocks.zero_points is None:
        return np.full(blocks.scales.shape, _MIDDLE, np.uint8)
    return unpack(blocks.zero_points, 4)[:, : blocks.scales.shape[1]]
