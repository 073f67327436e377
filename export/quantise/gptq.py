"""Four-bit weights that make up for each other's rounding: GPTQ (Frantar et al. 2022, arXiv:2210.17323).

What counts is not how near a weight stays, but how near its matrix's product stays on inputs as they occur. Columns
are rounded one after the other, and what a column's rounding adds to the product is taken off again by those that
are still to come. Blocks and their levels are the same as without: only the codes differ, so it costs no speed.
"""

from __future__ import annotations

import numpy as np

from ..weights import Tensor
from .blocks import BLOCK, Blocks, Codes, Floats, divisor, pack, quantise_rows, unpack
from .triangular import invert_lower, to_lower

__all__ = ["gptq"]

_WEIGHTS_AT_ONCE = 1 << 24

_DAMPING = 0.05
"""Added to each column's mean square, as a share of the mean of all: a text has fewer tokens than directions."""


def gptq(matrix: Tensor, moments: Floats) -> Blocks:
    """Quantise [K, N], as a MatMul holds it, to four bits with zero points.

    `moments` [K, K] are the mean products of two inputs. What a column of N becomes does not depend on the others, so
    some are read and rounded at a time.
    """
    columns, count = matrix.shape
    room = -columns % BLOCK
    if room:
        moments = np.pad(moments, ((0, room), (0, room)))
    importance, feedback = moments.diagonal().copy(), _feedback(moments)
    rows = matrix.T
    at_once = max(1, _WEIGHTS_AT_ONCE // columns)
    parts = [
        _round(np.asarray(rows[start : start + at_once], np.float32), importance, feedback)
        for start in range(0, count, at_once)
    ]
    codes, scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Blocks(4, codes, scales, zeros)


def _round(rows: Floats, importance: Floats, feedback: Floats) -> tuple[Codes, Floats, Codes]:
    """Codes, scales and zero points of `rows` [N, K]."""
    columns = rows.shape[1]
    left = np.zeros((len(feedback), len(rows)), np.float32)
    left[:columns] = rows.T
    codes, scales, zeros = [], [], []
    for start in range(0, columns, BLOCK):
        end = start + BLOCK
        block = left[start:end]
        grid = quantise_rows(block.T, 4, symmetric=False, importance=importance[start:end])
        found, errors = _round_block(block, grid, feedback[start:end, start:end])
        left[end:] -= feedback[start:end, end:].T @ errors
        codes.append(found)
        scales.append(grid.scales)
        zeros.append(_zeros(grid))
    return pack(np.stack(codes, 1), 4), np.concatenate(scales, 1), pack(np.concatenate(zeros, 1), 4)


def _round_block(block: Floats, grid: Blocks, feedback: Floats) -> tuple[Codes, Floats]:
    """Codes [N, 32], and errors [32, N] in units of the feedback's diagonal; `block` [32, N] is changed."""
    scales, zeros = grid.scales[:, 0], _zeros(grid)[:, 0].astype(np.float32)
    inverse = 1 / divisor(scales)[:, 0]
    codes, errors = np.empty(block.shape, np.uint8), np.empty_like(block)
    for k, weights in enumerate(block):
        code = np.clip(np.rint(weights * inverse) + zeros, 0, 15)
        codes[k] = code
        errors[k] = (weights - (code - zeros) * scales) / feedback[k, k]
        block[k + 1 :] -= feedback[k, k + 1 :, None] * errors[k]
    return codes.T, errors


def _feedback(moments: Floats) -> Floats:
    """The upper triangular U for which U' U is the inverse of the damped moments.

    With R R' = moments for an upper triangular R, which is a Cholesky factor of the moments in reverse order, U is the
    inverse of R: half the work of inverting first, and sounder.
    """
    damped = moments[::-1, ::-1].astype(np.float64, order="C")
    mean = float(damped.diagonal().mean()) or 1.0
    damped[np.diag_indices_from(damped)] += _DAMPING * mean
    to_lower(damped)
    invert_lower(damped)
    return damped[::-1, ::-1].astype(np.float32, order="C")


def _zeros(grid: Blocks) -> Codes:
    assert grid.zero_points is not None  # the grid is not symmetric
    return unpack(grid.zero_points, 4)[:, : grid.scales.shape[1]]
