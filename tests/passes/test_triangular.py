"""A Cholesky factor and its inverse, in place."""

from __future__ import annotations

import numpy as np
import pytest

from nudge_onnx.export.quantise.triangular import invert_lower, to_lower


@pytest.mark.parametrize("size", [1, 31, 256, 257, 700])
def test_factor_and_inverse_are_numpys(size: int) -> None:
    rows = np.random.default_rng(size).standard_normal((2 * size, size))
    matrix = rows.T @ rows / size + 0.05 * np.eye(size)
    expected = np.linalg.cholesky(matrix)
    found = matrix.copy()
    to_lower(found)
    np.testing.assert_allclose(np.tril(found), expected, rtol=1e-9, atol=1e-12)
    invert_lower(found)
    np.testing.assert_allclose(found, np.linalg.inv(expected), rtol=1e-8, atol=1e-10)


def test_a_matrix_that_is_not_positive_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        to_lower(np.diag([1.0, -1.0]))
