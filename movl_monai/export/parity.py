"""Difference between an exported file and its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from movl_monai.errors import ExportError
from movl_monai.networks import AdaptedClassifier, EnsembleClassifier

from .exported import ExportedModel, ExportedOutput
from .images import ImageSample
from .preprocessing import window_logits

__all__ = ["BATCH_SIZES", "Parity", "check_parity", "eager", "measure_parity"]

BATCH_SIZES = (1, 3)
_TINY = 1e-12  # smallest divisor, for features that are all zero


@dataclass(frozen=True)
class Parity:
    """Largest differences between a file and the network in eager mode, over all images and batch sizes.

    Logits ``z`` may differ absolutely, ``max |z' - z| <= tolerance``, because probabilities depend on their differences
    and not on their size. Features ``f`` have no common scale (the largest value is 5 in one network and 100 in
    another, and float32 rounds relative to it), so their difference is relative to the batch: ``max |f' - f| <=
    tolerance * max |f|``.

    Args:
        images: number of images.
        kind: kind of images; see :class:`~movl_monai.export.images.ImageSample`.
        batch_sizes: tested batch sizes.
        logits: largest difference of a logit.
        features: largest difference of a feature over the largest feature of its batch; None without features.
        tolerance: largest allowed value of either.
    """

    images: int
    kind: str
    batch_sizes: tuple[int, ...]
    logits: float
    features: float | None
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        """Return the entry ``parity`` of the metadata."""
        return asdict(self) | {"batch_sizes": list(self.batch_sizes)}


def eager(network: nn.Module, windows: Mapping[str, Any] | None = None) -> Callable[[np.ndarray], ExportedOutput]:
    """Return a function that computes the network's outputs for image arrays (B, 3, H, W).

    Args:
        network: network in eval mode, on any device.
        windows: settings of the run's sliding window, if any.
    """
    device = next(network.parameters()).device

    def plain(image: np.ndarray) -> ExportedOutput:
        with torch.inference_mode():
            given = torch.from_numpy(image).to(device)
            classifies = isinstance(network, (AdaptedClassifier, EnsembleClassifier))
            features = network.features(given) if classifies else None  # type: ignore[operator]
            logits = network(given)
        return ExportedOutput(_array(logits), None if features is None else _array(features))

    if windows is None:
        return plain
    return lambda image: ExportedOutput(*window_logits(lambda part: plain(part).logits, image, windows))


def measure_parity(
    reference: Callable[[np.ndarray], ExportedOutput], model: ExportedModel, sample: ImageSample, *, tolerance: float
) -> Parity:
    """Run network and file on the same images, singly and in batches.

    Args:
        reference: function from :func:`eager`.
        model: the file.
        sample: at least one image; if there are fewer than a batch needs, they repeat.
        tolerance: stored with the result.
    """
    logits, features = 0.0, None
    for size in BATCH_SIZES:
        for start in range(0, len(sample), size):
            # indices wrap around, so that the last batch is full too
            batch = np.take(sample.images, range(start, start + size), axis=0, mode="wrap")
            expected, got = reference(batch), model(batch)
            logits = max(logits, _largest(expected.logits, got.logits))
            if expected.features is not None and got.features is not None:
                features = max(features or 0.0, _relative(expected.features, got.features))
    return Parity(len(sample), sample.kind, BATCH_SIZES, logits, features, tolerance)


def check_parity(parity: Parity) -> None:
    """Raise ExportError if a file differs from its network by more than allowed."""
    if parity.logits <= parity.tolerance and (parity.features is None or parity.features <= parity.tolerance):
        return
    features = "" if parity.features is None else f" and features by {parity.features:.2g} of the largest"
    raise ExportError(
        f"The exported graph computes something else than the network: on {parity.images} images ({parity.kind}) "
        f"logits differ by up to {parity.logits:.2g}{features}, allowed is {parity.tolerance:.2g}. Nothing was "
        "written; try another --format, or allow more with --tolerance if that is acceptable."
    )


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    difference = float(np.abs(one.astype(np.float64) - other).max())
    return difference if np.isfinite(difference) else float("inf")


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference over the largest value of ``one``; infinite if either is not finite."""
    difference, size = _largest(one, other), float(np.abs(one).max())
    return difference / max(size, _TINY) if np.isfinite(difference) else difference


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
