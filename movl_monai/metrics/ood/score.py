"""Base class of OOD scores, and the scores that need logits alone.

For every score, larger means more out-of-distribution. All are computed in float64 from stored outputs.

``pytorch-ood`` (Apache 2.0) has all of these scores, and the tests compare with it. It does not compute them here, for
four reasons found in its release 0.4. Its two Mahalanobis scores have no shrinkage and invert a sum of products plus
1e-6 in float32, which is meaningless with fewer images than features, the usual case here. Its maximum softmax
probability is 1 for all confident images, so that they tie. Its fitted state cannot be read with ``weights_only``, as a
record beside a checkpoint must be. Classes without training images raise an assertion.
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
from movl_monai.metrics.classification_metrics import check_finite

__all__ = [
    "Energy",
    "FeatureSketch",
    "MSP",
    "MaxLogit",
    "OODFitError",
    "OODScore",
    "WIDEST",
    "check_features",
    "varied_features",
]

# the widest last layer of the backbones here (ResNet-50); a ViT-B that is read at every depth has 18432 features
WIDEST = 2048


class OODFitError(MovlError):
    """A score cannot be fitted on these training images; the message gives the reason."""


class OODScore(ABC):
    """A fitted score; larger means more out-of-distribution.

    Subclasses are frozen dataclasses of numbers, arrays and such dataclasses, which :meth:`state` flattens. Arrays keep
    the precision in which they are stored, so that a score gives bitwise equal numbers after writing and reading.
    """

    name: ClassVar[str]
    needs_features: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def fit(cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray) -> OODScore:
        """Fit on training images.

        Args:
            logits: (N, C) float64, before softmax.
            features: (N, F), the input of the head.
            labels: integers (N,) in [0, C).

        Raises:
            OODFitError: if these images do not determine the score.
        """

    @abstractmethod
    def _score(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray: ...

    @property
    def num_features(self) -> int | None:
        """Number of features F; None if features are not needed."""
        return None

    def __call__(self, logits: ArrayLike, features: ArrayLike | None = None) -> np.ndarray:
        """Compute the score of each image.

        Args:
            logits: (N, C), before softmax.
            features: (N, F), the input of the head; None if the score does not need them.

        Returns:
            (N,) float64; larger means more out-of-distribution.

        Raises:
            MovlError: if a value is not finite, features are missing, or their number differs from the fit.
        """
        scores = np.asarray(logits, dtype=np.float64)
        check_finite(scores)
        if not self.needs_features:
            return self._score(scores, np.empty((len(scores), 0)))
        return self._score(scores, check_features(features, len(scores), expected=self.num_features))

    def state(self) -> dict[str, Any]:
        """Return the fields by name, numbers and arrays; a nested field is called ``part.field``."""
        return _flat(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> OODScore:
        """Rebuild the score from the result of :meth:`state`."""
        return cls(**state)

    @property
    def nbytes(self) -> int:
        """Size of its arrays in bytes."""
        return sum(value.nbytes for value in self.state().values() if isinstance(value, np.ndarray))


def check_features(features: ArrayLike | None, count: int, *, expected: int | None = None) -> np.ndarray:
    """Convert features to float64 (N, F).

    Args:
        features: (N, F).
        count: N.
        expected: F; None accepts any F >= 1.

    Raises:
        MovlError: if features are missing, have another shape, or a value is NaN or infinite.
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
    """Convert the features of training images to float64, (N, F).

    Raises:
        OODFitError: if they are equal in every image.
    """
    values = np.asarray(features, dtype=np.float64)
    if not len(values) or not np.ptp(values, axis=0).any():
        raise OODFitError("All features are the same in every training image, so they say nothing about others.")
    return values


class _LogitScore(OODScore):
    needs_features = False

    @classmethod
    def fit(cls, *, logits: np.ndarray, features: np.ndarray, labels: np.ndarray) -> OODScore:
        """Return the score; there is nothing to fit."""
        return cls()


@dataclass(frozen=True)
class MSP(_LogitScore):
    r"""One minus the maximum softmax probability.

    .. math:: s = 1 - \max_c \mathrm{softmax}(z)_c = \frac{r}{1 + r},
              \quad r = \sum_{c \ne \hat c} e^{z_c - z_{\hat c}}

    The second form distinguishes images whose probability rounds to 1.

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


@dataclass(frozen=True)
class FeatureSketch:
    r"""Count sketch: each feature is added, with a fixed random sign, to one of ``width`` sums.

    .. math:: g_j = \sum_{i : h(i) = j} \sigma(i) f_i

    Inner products and distances are kept on average: :math:`E \langle g, g' \rangle = \langle f, f' \rangle`
    over the choice of h and :math:`\sigma`, with a variance of at most :math:`2 |f|^2 |f'|^2 / \mathrm{width}`. Both
    functions are hashes of the feature's number, so that nothing has to be stored.

    Args:
        num_features: F.
        width: number of sums.

    Reference:
        Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009 (section 3).

    Example:
        >>> FeatureSketch(num_features=5000)(np.ones((3, 5000))).shape
        (3, 2048)
    """

    num_features: int
    width: int = WIDEST

    def __call__(self, features: ArrayLike) -> np.ndarray:
        """Compute the sketch, float32 (N, width), of features (N, F).

        Raises:
            MovlError: if the number of features differs, or a value is not finite.
        """
        from scipy.sparse import csr_array

        values = check_features(features, len(np.asarray(features)), expected=self.num_features)
        hashes = _hashes(self.num_features)
        signs = np.where(hashes & np.uint64(1), 1.0, -1.0)
        sums = ((hashes >> np.uint64(33)) % np.uint64(self.width)).astype(np.int64)
        matrix = csr_array((signs, (sums, np.arange(self.num_features))), shape=(self.width, self.num_features))
        return np.ascontiguousarray((matrix @ values.T).T, dtype=np.float32)


def _hashes(count: int) -> np.ndarray:
    """Return a 64-bit hash of each number below ``count``: SplitMix64 (Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        value = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
