"""OOD score from the distance to the nearest training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from movl_monai.metrics.ood.score import OODFitError, OODScore, varied_features

__all__ = ["KNN"]

_LARGEST = 50  # the authors' number of neighbours for CIFAR-10, 50 000 images


@dataclass(frozen=True, eq=False)
class KNN(OODScore):
    r"""Distance to the k-th nearest training image in normalised feature space.

    .. math:: s = \lVert \bar f - \bar f_{(k)} \rVert, \quad \bar f = f / \lVert f \rVert

    The training features are stored as float16, 2 N F bytes, and distances are computed to the rounded values. A
    feature vector of zeros is not normalised.

    Args:
        neighbors: normalised features of the training images, float16 (N, F).
        k: rank of the neighbour, from 1.

    Reference:
        Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022. Deviation: they choose k on
        validation data with outliers. Here it is the square root of N (Loftsgaarden, Quesenberry, A nonparametric
        estimate of a multivariate density function, Annals of Mathematical Statistics 36, 1965), rounded down, at most
        50.

    Example:
        >>> logits, features = np.zeros((2, 2)), np.array([[1.0, 0.0], [2.0, 0.0]])
        >>> KNN.fit(logits=logits, features=features, labels=np.array([0, 1]))(logits, [[9.0, 0.0], [-9.0, 0.0]])
        array([0., 2.])
    """

    name = "knn"

    neighbors: np.ndarray
    k: int

    @classmethod
    def fit(cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray, k: int | None = None) -> KNN:
        """Fit on training images; see :meth:`OODScore.fit`.

        Args:
            logits: (N, C); not used.
            features: (N, F).
            labels: (N,); not used.
            k: rank of the neighbour; None takes the default of the class.
        """
        values = varied_features(features)
        chosen = max(1, min(_LARGEST, math.isqrt(len(values)))) if k is None else k
        if not 1 <= chosen <= len(values):
            raise OODFitError(f"There is no neighbour number {chosen} among {len(values)} training images.")
        return cls(neighbors=_normalised(values).astype(np.float16), k=chosen)

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return self.neighbors.shape[1]

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        if not len(features):
            return np.empty(0)
        search = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(self.neighbors.astype(np.float64))
        return search.kneighbors(_normalised(features))[0][:, -1]


def _normalised(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
