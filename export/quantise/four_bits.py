"""Which blocks a matrix gets where four bits are asked for: the fewest bits that keep its product."""

from __future__ import annotations

import numpy as np

from ..weights import LazyTensor, Tensor
from .blocks import Blocks, Floats, quantise_rows
from .gptq import gptq
from .regrid import regrid, rounded_before

__all__ = ["all_four_bits", "four_bits"]


def four_bits(matrix: Tensor, inputs: Floats | None = None, *, sensitive: bool = False) -> Blocks:
    """Quantise [K, N] to four bits, or to eight where four would be a second rounding or the first hurts too much.

    Weights that were in no blocks before are rounded so that products with `inputs` [tokens, K] stay near; without
    `inputs`, so that the weights do. If their matrix is `sensitive`, they get eight bits.
    """
    rows = _rows(matrix)
    if (blocks := regrid(rows)) is not None:
        return blocks
    if sensitive or rounded_before(rows):
        return quantise_rows(rows, 8)
    return all_four_bits(matrix, inputs)


def all_four_bits(matrix: Tensor, inputs: Floats | None = None) -> Blocks:
    """Quantise [K, N] to four bits, whatever it was before and however much it hurts; `inputs` as in `four_bits`."""
    if inputs is None:
        return quantise_rows(_rows(matrix), 4, symmetric=False)
    return gptq(matrix, inputs.T @ inputs / np.float32(len(inputs)))


def _rows(matrix: Tensor) -> Tensor:
    return matrix.T if isinstance(matrix, LazyTensor) else np.ascontiguousarray(matrix.T)
