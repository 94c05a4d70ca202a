"""Scores of how far an image is from what a network was trained on, and those that need its logits alone.

Larger is more outside, for every score. All are computed in float64 from stored outputs.

``pytorch-ood`` (Apache 2.0) has all of these scores and is what the tests hold them against. It is not what computes
them, for four reasons seen in its release 0.4: its two Mahalanobis scores invert a sum of products plus 1e-6 in
float32, which has no meaning with fewer images than features, the usual case here, and have no shrinkage; its maximum
softmax probability is 1 for all confident images, so that they tie; its fitted state cannot be read with
``weights_only``, as a record beside a checkpoint must be; and classes without training images end it with an assertion.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.errors import MovlError
from movl_monai.evaluation.checks import check_finite

__all__ = ["MSP", "Energy", "MaxLogit", "OODFitError", "OODScore", "check_features", "varied_features"]


class OODFitError(MovlError):
    """A score cannot be fitted on these training images; the message is the reason."""


class OODScore(ABC):
    """A fitted score; the larger, the more outside.

    Subclasses are frozen dataclasses of numbers, arrays and dataclasses of these, which is what :meth:`state` takes
    apart. Arrays are kept in the precision in which they are stored, so that a score that was stored and read gives the
    same numbers to the last bit.
    """

    name: ClassVar[str]
    needs_features: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def fit(cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray) -> OODScore:
        """Fit on training images.

        Args:
            logits: (N, C) float64, before softmax.
            features: (N, F), what the head read.
            labels: integers (N,) in [0, C).

        Raises:
            OODFitError: if these images do not determine the score.
        """

    @abstractmethod
    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray: ...

    @property
    def num_features(self) -> int | None:
        """F; None where features are not needed."""
        return None

    def __call__(self, logits: ArrayLike, features: ArrayLike | None = None) -> np.ndarray:
        """Compute the score of each image.

        Args:
            logits: (N, C), before softmax.
            features: (N, F), what the head read; None where the score does not need them.

        Returns:
            (N,) float64, larger is more outside.

        Raises:
            MovlError: if a value is not finite, features are missing, or there are others than in the fit.
        """
        scores = np.asarray(logits, dtype=np.float64)
        check_finite(scores)
        if not self.needs_features:
            return self._score(scores, np.empty((len(scores), 0)))
        return self._score(scores, check_features(features, len(scores), expected=self.num_features))

    def state(self) -> dict[str, Any]:
        """Fields by name, numbers and arrays; those of a part are called ``part.field``."""
        return _flat(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> OODScore:
        """Build it again from what :meth:`state` gave."""
        return cls(**state)

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return sum(value.nbytes for value in self.state().values() if isinstance(value, np.ndarray))


def check_features(features: ArrayLike | None, count: int, *, expected: int | None = None) -> np.ndarray:
    """Bring features into float64 (N, F).

    Args:
        features: (N, F).
        count: N.
        expected: F; None takes any from 1.

    Raises:
        MovlError: if there are none, they have another shape, or a value is NaN or infinite.
    """
    values = np.asarray(features if features is not None else np.empty((count, 0)), dtype=np.float64)
    width = expected if expected is not None else "F >= 1"
    if values.ndim != 2 or len(values) != count or not values.shape[1] or expected not in (None, values.shape[1]):
        raise MovlError(
            f"Expected features ({count}, {width}), what the head read of each image, got {values.shape}. "
            "Use the outputs of the network that the score was fitted on."
        )
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise MovlError(
            f"The features of {bad} of {count} images are NaN or infinite; expected finite numbers. "
            "Check the checkpoint and those images."
        )
    return values


def varied_features(features: ArrayLike) -> np.ndarray:
    """Bring the features of training images into float64, (N, F).

    Raises:
        OODFitError: if they are the same in every image.
    """
    values = np.asarray(features, dtype=np.float64)
    if not len(values) or not np.ptp(values, axis=0).any():
        raise OODFitError("All features are the same in every training image, so they say nothing about others.")
    return values


class _LogitScore(OODScore):
    needs_features = False

    @classmethod
    def fit(cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray) -> OODScore:
        """Take nothing from the images: there is nothing to fit."""
        return cls()


@dataclass(frozen=True)
class MSP(_LogitScore):
    r"""One minus the maximum softmax probability.

    .. math:: s = 1 - \max_c \mathrm{softmax}(z)_c = \frac{r}{1 + r},
              \quad r = \sum_{c \ne \hat c} e^{z_c - z_{\hat c}}

    The second form keeps apart images whose probability rounds to 1.

    Reference:
        Hendrycks, Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks,
        ICLR 2017.

    Example:
        >>> MSP()([[0.0, 0.0], [50.0, 0.0]])
        array([5.00000000e-01, 1.92874985e-22])
    """

    name = "msp"

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        rest = np.exp(logits - logits.max(axis=1, keepdims=True))
        rest[np.arange(len(rest)), logits.argmax(axis=1)] = 0
        total = rest.sum(axis=1)
        return total / (1 + total)


@dataclass(frozen=True)
class MaxLogit(_LogitScore):
    r"""The negative of the largest logit, :math:`s = -\max_c z_c`.

    Reference:
        Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022.

    Example:
        >>> MaxLogit()([[2.0, 1.0]])
        array([-2.])
    """

    name = "max_logit"

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return -logits.max(axis=1)


@dataclass(frozen=True)
class Energy(_LogitScore):
    r"""The free energy :math:`s = -\log \sum_c e^{z_c}`, at temperature 1 as its authors recommend.

    Reference:
        Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.

    Example:
        >>> Energy()([[0.0, 0.0]]).round(4)
        array([-0.6931])
    """

    name = "energy"

    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        from scipy.special import logsumexp

        return -logsumexp(logits, axis=1)


def _flat(part: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        inner = _flat(value) if dataclasses.is_dataclass(value) else None
        result |= {field.name: value} if inner is None else {f"{field.name}.{name}": inner[name] for name in inner}
    return result
