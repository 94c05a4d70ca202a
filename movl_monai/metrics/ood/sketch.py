"""Count sketch of long feature vectors, so that OOD scores and trust records stay small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.ood.score import check_features

__all__ = ["WIDEST", "FeatureSketch"]

# the widest last layer of the backbones here (ResNet-50); a ViT-B that is read at every depth has 18432 features
WIDEST = 2048


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
