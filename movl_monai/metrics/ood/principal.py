"""Principal axes of many features from few images."""

from __future__ import annotations

import numpy as np

__all__ = ["principal_axes"]

_NEGLIGIBLE = 1e-12  # smaller variances, relative to the largest, are rounding errors


def principal_axes(deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Compute the principal axes of :math:`S = X^\top X / N` with non-zero variance.

    With fewer images than features they come from the singular values of X, which costs N / F of an (F, F) problem.

    Args:
        deviations: X, float64 (N, F), centered.

    Returns:
        variances (R,) in descending order, and orthonormal axes (R, F), R <= min(N, F).

    Example:
        >>> variances, axes = principal_axes(np.array([[3.0, 0.0], [-3.0, 0.0]]))
        >>> variances, abs(axes)
        (array([9.]), array([[1., 0.]]))
    """
    from scipy.linalg import LinAlgError, eigh, svd

    count, num_features = deviations.shape
    if count < num_features:
        try:
            _, singular, axes = svd(deviations, full_matrices=False)
        except LinAlgError:  # "divide and conquer" fails on some finite data; "QR iteration" is slower and does not
            _, singular, axes = svd(deviations, full_matrices=False, lapack_driver="gesvd")
        variances = singular**2 / count
    else:
        variances, columns = eigh(deviations.T @ deviations / count)
        variances, axes = variances[::-1], columns.T[::-1]
    kept = variances > _NEGLIGIBLE * variances[0]
    return variances[kept], axes[kept]
