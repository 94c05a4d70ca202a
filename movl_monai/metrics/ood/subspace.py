"""OOD scores from the part of a feature vector outside the principal space of the training features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from movl_monai.metrics.ood.score import OODFitError, OODScore, varied_features

__all__ = ["Residual", "ViM", "principal_axes"]

_WIDE = 2048  # with at least so many features the authors keep 1000 axes, else 512
_NEGLIGIBLE = 1e-12  # smaller variances, relative to the largest, are rounding errors


@dataclass(frozen=True, eq=False)
class Residual(OODScore):
    r"""Norm of the part of a feature vector outside the principal space of the training features.

    .. math:: s = \lVert (I - P^\top P) (f - o) \rVert

    Deviations: the origin o is the mean of the training features. The authors' :math:`-W^+ b` needs the weights of a
    linear head; the mean needs only the stored outputs, for any head. The authors' dimension D of the principal space
    is 1000 for 2048 features or more and 512 below, which assumes many more images than features. Here D is at most
    half of the features and half of the axes along which the training images vary, so that both spaces contain such
    axes.

    Args:
        origin: o, (F,).
        axes: P, orthonormal, (D, F).

    Reference:
        Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022 ("Residual").

    Example:
        >>> features = np.array([[-9.0, 1.0], [9.0, -1.0], [-9.0, -1.0], [9.0, 1.0]])
        >>> logits, labels = np.zeros((4, 2)), np.zeros(4, int)
        >>> score = Residual.fit(logits=logits, features=features, labels=labels)
        >>> score(logits[:2], [[99.0, 1.0], [0.0, 5.0]])
        array([1., 5.])
    """

    name = "residual"

    origin: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(
        cls,
        *,
        logits: np.ndarray,
        features: np.ndarray,
        labels: np.ndarray,
        origin: np.ndarray | None = None,
        dimension: int | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Residual:
        """Fit on training images; see :meth:`OODScore.fit`.

        Args:
            logits: (N, C); not used.
            features: (N, F).
            labels: (N,); not used.
            origin: o, (F,); None takes the mean.
            dimension: D; None takes the default of the class.
            dtype: type of the stored axes.
        """
        values = varied_features(features)
        center = values.mean(axis=0) if origin is None else np.asarray(origin, dtype=np.float64)
        deviations = values - center
        axes = principal_axes(deviations)[1]
        usual = 1000 if values.shape[1] >= _WIDE else 512
        kept = min(usual, values.shape[1] // 2, len(axes) // 2) if dimension is None else dimension
        if not 0 < kept < len(axes):
            raise OODFitError(
                f"The training images differ along {len(axes)} axes, of which {kept} would be the principal space; "
                "expected 1 or more, with at least one left. Use more images."
            )
        return cls(origin=center, axes=axes[:kept].astype(dtype))

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return len(self.origin)

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        axes, deviations = self.axes.astype(np.float64), features - self.origin
        return np.linalg.norm(deviations - (deviations @ axes.T) @ axes, axis=1)


@dataclass(frozen=True, eq=False)
class ViM(Residual):
    r"""Virtual-logit matching: the scaled residual is the logit of a virtual class; the energy of the logits is added.

    .. math:: s = \alpha \lVert (I - P^\top P) (f - o) \rVert - \log \sum_c e^{z_c},
              \quad \alpha = \frac{\sum_i \max_c z_{ic}}{\sum_i \lVert (I - P^\top P) (f_i - o) \rVert}

    The probability of the virtual class grows with s. Deviations as in :class:`Residual`.

    Args:
        origin: o, (F,).
        axes: P, orthonormal, (D, F).
        alpha: scale of the residual, from sums over the training images, > 0.

    Reference:
        Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022.
    """

    name = "vim"

    alpha: float

    @classmethod
    def fit(
        cls,
        *,
        logits: np.ndarray,
        features: np.ndarray,
        labels: np.ndarray,
        origin: np.ndarray | None = None,
        dimension: int | None = None,
        dtype: DTypeLike = np.float32,
    ) -> ViM:
        """Fit on training images; see :meth:`Residual.fit`.

        Raises:
            OODFitError: also if the largest logits are not positive on average, so that no scale matches them.
        """
        data = {"logits": logits, "features": features, "labels": labels}
        residual = Residual.fit(**data, origin=origin, dimension=dimension, dtype=dtype)
        alpha = float(np.sum(np.max(logits, axis=1)) / np.sum(residual(logits, features)))
        if not 0 < alpha < np.inf:
            raise OODFitError(
                f"The virtual logit would have the scale {alpha:g}, the mean largest logit over the mean residual; "
                "expected a positive number. The head does not separate the training images."
            )
        return cls(origin=residual.origin, axes=residual.axes, alpha=alpha)

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        from scipy.special import logsumexp

        return self.alpha * super()._score(logits, features) - logsumexp(logits, axis=1)


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
