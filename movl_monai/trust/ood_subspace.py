"""Scores of what is left of a feature vector outside of the directions in which training images differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from movl_monai.trust.ood_score import OODFitError, OODScore, varied_features
from movl_monai.trust.principal import principal_axes

__all__ = ["Residual", "ViM"]

_WIDE = 2048  # features from which the authors keep 1000 axes, else 512


@dataclass(frozen=True, eq=False)
class Residual(OODScore):
    r"""Norm of the part of a feature vector outside of the principal space of the training features.

    .. math:: s = \lVert (I - P^\top P) (f - o) \rVert

    Deviations: the origin o is the mean of the training features. The authors' :math:`-W^+ b` needs a linear head's
    weights; the mean needs the stored outputs alone, for any head. Their dimension D of the principal space, 1000 from
    2048 features on and 512 below, supposes many more images than features; D is at most half of the features and
    half of the axes along which the training images differ, so that the space outside has both.

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
            origin: o, (F,); None: the mean.
            dimension: D; None: as said above.
            dtype: in which the axes are kept.
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
        """F."""
        return len(self.origin)

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        axes, deviations = self.axes.astype(np.float64), features - self.origin
        return np.linalg.norm(deviations - (deviations @ axes.T) @ axes, axis=1)


@dataclass(frozen=True, eq=False)
class ViM(Residual):
    r"""The residual as the logit of one more class, against the energy of the logits.

    .. math:: s = \alpha \lVert (I - P^\top P) (f - o) \rVert - \log \sum_c e^{z_c},
              \quad \alpha = \frac{\sum_i \max_c z_{ic}}{\sum_i \lVert (I - P^\top P) (f_i - o) \rVert}

    The probability of the virtual class grows with s. Deviations as in :class:`Residual`.

    Args:
        origin: o, (F,).
        axes: P, orthonormal, (D, F).
        alpha: sums over the training images, > 0.

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
