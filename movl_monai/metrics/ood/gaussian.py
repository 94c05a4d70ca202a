"""OOD scores from distances to training features: Mahalanobis, relative Mahalanobis, and nearest neighbours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from movl_monai.metrics.ood.score import OODFitError, OODScore, varied_features
from movl_monai.metrics.ood.subspace import principal_axes

__all__ = ["KNN", "Mahalanobis", "RelativeMahalanobis", "ShrunkCovariance"]

_ROUNDING = 1e-12  # smaller deviations from a mean, relative to the largest feature, are rounding errors
_LARGEST = 50  # the authors' number of neighbours for CIFAR-10, 50 000 images


@dataclass(frozen=True, eq=False)
class ShrunkCovariance:
    r"""A covariance shrunk towards a multiple of the identity, stored by its principal axes.

    .. math:: \Sigma = (1 - \rho) S + \rho \mu I, \quad \mu = \mathrm{tr}(S) / F

    With fewer images than features :math:`S` is singular, but :math:`\Sigma` is not. All directions orthogonal to the
    axes of :math:`S` have the variance :math:`\rho \mu`, so R axes suffice and no (F, F) inverse is stored.

    Args:
        axes: principal axes of S with non-zero variance, (R, F), R <= F.
        variances: variances of :math:`\Sigma` along the axes, (R,).
        floor: :math:`\rho \mu`, the variance along all other directions, > 0 if R < F.
        shrinkage: :math:`\rho`.

    Reference:
        Ledoit, Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
        Analysis 88, 2004; :math:`\rho` from scikit-learn.
    """

    axes: np.ndarray
    variances: np.ndarray
    floor: float
    shrinkage: float

    @classmethod
    def fit(
        cls, deviations: np.ndarray, *, like: ShrunkCovariance | None = None, dtype: DTypeLike = np.float32
    ) -> ShrunkCovariance:
        r"""Fit to deviations (N, F) from their means.

        Args:
            deviations: float64 (N, F).
            like: covariance that gives :math:`\rho` and :math:`\mu`; None estimates them.
            dtype: type of the stored axes; float32 changes distances by about 1e-6 of their value.

        Raises:
            OODFitError: if there are too few deviations to determine a variance in every direction.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage

        num_features = deviations.shape[1]
        variances, axes = principal_axes(deviations)
        if like is None:
            shrinkage = float(ledoit_wolf_shrinkage(deviations, assume_centered=True)) if num_features > 1 else 0.0
            floor = shrinkage * float(variances.sum()) / num_features
        else:
            shrinkage, floor = like.shrinkage, like.floor
        if floor <= 0 and len(axes) < num_features:
            raise OODFitError(f"{len(deviations)} training images do not determine a covariance; use more.")
        variances = (1 - shrinkage) * variances + floor
        return cls(axes=axes.astype(dtype), variances=variances, floor=floor, shrinkage=shrinkage)

    def squared_distances(self, points: np.ndarray, centers: np.ndarray) -> np.ndarray:
        r"""Compute :math:`(x - m)^\top \Sigma^{-1} (x - m)` of each point (N, F) to each center (M, F); (N, M)."""
        axes = self.axes.astype(np.float64)
        inside, inside_centers = points @ axes.T, centers @ axes.T
        distances = [((inside - center) ** 2) @ (1 / self.variances) for center in inside_centers]
        if len(axes) < axes.shape[1]:
            rest, rest_centers = points - inside @ axes, centers - inside_centers @ axes
            for index, center in enumerate(rest_centers):
                distances[index] = distances[index] + ((rest - center) ** 2).sum(axis=1) / self.floor
        return np.stack(distances, axis=1)


@dataclass(frozen=True, eq=False)
class Mahalanobis(OODScore):
    r"""Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    .. math:: s = \min_c (f - \mu_c)^\top \Sigma^{-1} (f - \mu_c)

    Deviations: :math:`\Sigma` is shrunk (:class:`ShrunkCovariance`), as there are often fewer images than features. The
    features are those of the last layer; the authors' input perturbation and mix of layers are left out, as they need
    the network and OOD images. A class with one training image has this image as its mean and adds nothing to the
    covariance. A class without training images has no mean.

    Args:
        means: class means, (C, F).
        covariance: covariance within the classes.

    Reference:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
        NeurIPS 2018, equations 1 and 2.

    Example:
        >>> features = np.array([[-5.0, 1.0], [-5.0, -1.0], [5.0, 1.0], [5.0, -1.0], [6.0, 0.0], [4.0, 0.0]])
        >>> logits = np.zeros((6, 2))
        >>> score = Mahalanobis.fit(logits=logits, features=features, labels=np.array([0, 0, 1, 1, 1, 1]))
        >>> near, far = score(logits[:2], [[5.0, 0.5], [0.0, 0.0]])
        >>> bool(far > near)
        True
    """

    name = "mahalanobis"

    means: np.ndarray
    covariance: ShrunkCovariance

    @classmethod
    def fit(
        cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray, dtype: DTypeLike = np.float32
    ) -> Mahalanobis:
        """Fit on training images; see :meth:`OODScore.fit` and, for ``dtype``, :meth:`ShrunkCovariance.fit`."""
        means, deviations = _within_classes(varied_features(features), labels)
        return cls(means=means, covariance=ShrunkCovariance.fit(deviations, dtype=dtype))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Mahalanobis:
        """Rebuild the score from the result of :meth:`state`."""
        return cls(means=state["means"], covariance=_covariance(state, "covariance"))

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return self.means.shape[1]

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return self.covariance.squared_distances(features, self.means).min(axis=1)


@dataclass(frozen=True, eq=False)
class RelativeMahalanobis(OODScore):
    r"""Mahalanobis distance to the nearest class mean, minus the distance to one Gaussian of all training images.

    .. math:: s = \min_c d_c(f) - d_0(f)

    Directions along which training images vary independently of their class cancel out. The two covariances differ by
    the covariance of the C class means, so s depends on C - 1 directions. With few classes it may miss images of
    another kind.

    Deviation: both covariances are shrunk by the same :math:`\rho \mu`. With two separate values, one of the
    covariances would by chance be wider outside the axes of the training images, and that would decide the score of
    distant images.

    Args:
        classes: distances :math:`d_c`.
        mean: mean of all training images, (1, F).
        background: covariance of all training images.

    Reference:
        Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, arXiv 2106.09022, 2021.
    """

    name = "relative_mahalanobis"

    classes: Mahalanobis
    mean: np.ndarray
    background: ShrunkCovariance

    @classmethod
    def fit(
        cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray, dtype: DTypeLike = np.float32
    ) -> RelativeMahalanobis:
        """Fit on training images; see :meth:`OODScore.fit` and, for ``dtype``, :meth:`ShrunkCovariance.fit`."""
        classes = Mahalanobis.fit(logits=logits, features=features, labels=labels, dtype=dtype)
        values = varied_features(features)
        mean = values.mean(axis=0, keepdims=True)
        background = ShrunkCovariance.fit(values - mean, like=classes.covariance, dtype=dtype)
        return cls(classes=classes, mean=mean, background=background)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RelativeMahalanobis:
        """Rebuild the score from the result of :meth:`state`."""
        inner = {name.removeprefix("classes."): value for name, value in state.items() if name.startswith("classes.")}
        return cls(
            classes=Mahalanobis.from_state(inner), mean=state["mean"], background=_covariance(state, "background")
        )

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return self.classes.num_features

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        nearest = self.classes.covariance.squared_distances(features, self.classes.means).min(axis=1)
        return nearest - self.background.squared_distances(features, self.mean)[:, 0]


def _within_classes(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (C, F) of the classes with images, and the deviations within classes of two or more images."""
    groups = [features[labels == index] for index in np.unique(labels)]
    means = [group.mean(axis=0) for group in groups]
    deviations = [group - mean for group, mean in zip(groups, means, strict=True) if len(group) > 1]
    if not deviations:
        raise OODFitError(
            f"No class has two or more training images ({len(features)} images, {len(groups)} classes), so nothing is "
            "known of how images of a class differ."
        )
    pooled = np.concatenate(deviations)
    if np.abs(pooled).max() <= _ROUNDING * np.abs(features).max():
        raise OODFitError("The training images of a class all have the same features, so they have no covariance.")
    return np.stack(means), pooled


def _covariance(state: Mapping[str, Any], part: str) -> ShrunkCovariance:
    names = [field.name for field in dataclasses.fields(ShrunkCovariance)]
    return ShrunkCovariance(**{name: state[f"{part}.{name}"] for name in names})


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
