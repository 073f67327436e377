"""A Cholesky factor and its inverse in the memory of the matrix, of which NumPy's own take several copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["invert_lower", "to_lower"]

Doubles = npt.NDArray[np.float64]

_BLOCK = 256


def to_lower(matrix: Doubles) -> None:
    """Put the Cholesky factor L, for which L L' is a positive definite matrix [n, n], into its lower triangle.

    What stands above the diagonal afterwards is of no use. Raises `numpy.linalg.LinAlgError` for another matrix.
    """
    blocks = _blocks(len(matrix))
    for number, own in enumerate(blocks):
        matrix[own, own] = np.linalg.cholesky(matrix[own, own])
        below = slice(own.stop, len(matrix))
        matrix[below, own] = np.linalg.solve(matrix[own, own], matrix[below, own].T).T
        for row in blocks[number + 1 :]:
            left = slice(own.stop, row.stop)
            matrix[row, left] -= matrix[row, own] @ matrix[left, own].T


def invert_lower(matrix: Doubles) -> None:
    """Put the inverse of the lower triangle of [n, n] into its place, and zeros above."""
    for own in reversed(_blocks(len(matrix))):
        inverse = np.tril(np.linalg.inv(np.tril(matrix[own, own])))
        below = slice(own.stop, len(matrix))
        matrix[below, own] = -(matrix[below, below] @ (matrix[below, own] @ inverse))
        matrix[own, own] = inverse
        matrix[own, below] = 0


def _blocks(size: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]
