"""Features of images through a frozen network, and the conversion of a collated batch to its input."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import eval_mode
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from movl_monai.errors import MovlError

__all__ = ["FeatureSet", "FeaturesOf", "extract_features", "prepare_image_batch"]

_LOGGER = logging.getLogger(__name__)
_FORMAT = "1"


def prepare_image_batch(
    batchdata: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Move a batch to the device and convert its images to float32 in [0, 1] there.

    Images stay uint8 until then: a quarter of the memory and of the transfer, and lossless, since preprocessing chains
    end on the k/255 grid.

    Args:
        batchdata: ``image`` (B, 3, H, W), uint8 or float32 in [0, 1]; optionally ``mask`` (B, H, W) or ``label`` (B,),
            integers; of several findings ``label`` is (B, K), of a regression (B,), floats.
        device: destination.
        non_blocking: copy asynchronously from pinned memory.
        kwargs: further arguments of :meth:`torch.Tensor.to`, e.g. ``memory_format``.

    Returns:
        Image (B, 3, H, W) float32 in [0, 1], and its target, int64, or float32 if the labels are floats: the mask
        (B, H, W) if there is one, else the label, else None.

    Example:
        >>> image, label = prepare_image_batch({"image": torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)})
        >>> image.max().item(), label
        (1.0, None)
    """
    image = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    if image.dtype == torch.uint8:
        image = image.to(torch.float32).div_(255)
    label = batchdata.get("mask", batchdata.get("label"))
    if label is not None:
        label = torch.as_tensor(label)
        dtype = torch.float32 if label.is_floating_point() else torch.int64
        label = label.to(device=device, dtype=dtype, non_blocking=non_blocking)
    return image, label


@torch.inference_mode()
def extract_features(
    encoder: nn.Module,
    images: torch.Tensor,
    *,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> torch.Tensor:
    """Run a frozen encoder over images.

    Args:
        encoder: (B, 3, H, W) in [0, 1] to (B, num_features); in eval mode while it runs.
        images: uint8 or float32 in [0, 1], (N, 3, H, W).
        batch_size: images per forward pass.
        device: of the encoder.
        progress: show a progress bar.

    Returns:
        float32 (N, num_features) on the CPU.
    """
    rows = []
    with eval_mode(encoder):
        for start in tqdm(range(0, len(images), batch_size), desc="features", unit="batch", disable=not progress):
            image, _ = prepare_image_batch({"image": images[start : start + batch_size]}, device)
            rows.append(encoder(image).float().cpu())
    return torch.cat(rows)


class FeaturesOf(nn.Module):
    """Features at the input of a network's head, with prompt and adapter: (B, 3, H, W) to (B, num_features)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features of images."""
        return self.network.features(image)  # type: ignore[operator]


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


class FeatureSet:
    """Plain features of a data set, computed at first use.

    The file's name is the SHA-256 of the decoded images (and thereby of the files *and* of all their transforms), of
    the encoder's weights, and of the format version. A changed file, transform or weight gives another name, so that a
    stale cache is never used. The file also carries its own checksum: an incomplete file is detected, logged and
    rebuilt.

    Args:
        dataset: with ``images`` (N, 3, H, W) uint8 and ``labels`` (N,); see :class:`movl_monai.data.ImageDataset`.
        encoder: the frozen backbone, or a frozen module that ends in it; with ``content_sha256()``.
        batch_size: images per forward pass.
        device: of the encoder.
        cache_dir: folder for the files; None keeps the features only in memory.
        progress: show a progress bar.

    Raises:
        MovlError: at first use, if the cache folder cannot be written.
    """

    def __init__(
        self,
        dataset: Any,
        encoder: nn.Module,
        *,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        self.dataset = dataset
        self.encoder = encoder
        self.batch_size = batch_size
        self.device = device
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.progress = progress
        self._values: torch.Tensor | None = None

    @property
    def labels(self) -> torch.Tensor:
        """Labels (N,), int64; of several findings (N, K), of a regression (N,), float32."""
        return torch.as_tensor(self.dataset.labels)

    @property
    def values(self) -> torch.Tensor:
        """Features (N, num_features), float32, on the CPU; row i belongs to ``dataset.images[i]``."""
        if self._values is None:
            self._values = self._load_or_compute()
        return self._values

    def extract(self, encoder: nn.Module, count: int | None = None) -> torch.Tensor:
        """Compute the features (N, num_features) of another encoder for these images; they are not cached.

        Args:
            encoder: (B, 3, H, W) in [0, 1] to (B, num_features).
            count: number of first images; None uses all.
        """
        images, progress = self.dataset.images[:count], self.progress and count is None
        encoder.to(self.device)
        return extract_features(encoder, images, batch_size=self.batch_size, device=self.device, progress=progress)

    def key(self) -> str:
        """Return the SHA-256 that names the features: of the images, the encoder's weights and the format version."""
        images = self.dataset.images
        parts = (
            f"{_FORMAT}|{tuple(images.shape)}|{images.dtype}|{self.encoder.content_sha256()}".encode(),  # type: ignore[operator]
            _bytes(images),
        )
        return _digest(parts)

    def _load_or_compute(self) -> torch.Tensor:
        if self.cache_dir is None:
            return self._compute()
        path = self.cache_dir / f"features-{self.key()[:32]}.safetensors"
        if (values := self._load(path)) is not None:
            return values
        values = self._compute()
        _save(path, values)
        return values

    def _compute(self) -> torch.Tensor:
        return self.extract(self.encoder)

    def _load(self, path: Path) -> torch.Tensor | None:
        if not path.is_file():
            return None
        values: torch.Tensor | None
        checksum: torch.Tensor | None
        try:
            content = load_file(path)
            values, checksum = content["features"], content["checksum"]
        except (SafetensorError, KeyError, OSError):
            values = checksum = None
        if (
            values is None
            or checksum is None
            or not torch.equal(checksum, _checksum(values))
            or len(values) != len(self.dataset.images)
        ):
            _LOGGER.warning("The cached features %s are damaged or half-written; they are computed again.", path.name)
            return None
        _LOGGER.info("Features of %d images read from the cache %s.", len(values), path.name)
        return values


def _bytes(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.contiguous().numpy()
    return memoryview(array).cast("B")


def _checksum(values: torch.Tensor) -> torch.Tensor:
    digest = hashlib.sha256(_bytes(values)).digest()
    return torch.tensor(list(digest), dtype=torch.uint8)


def _save(path: Path, values: torch.Tensor) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file({"features": values.contiguous(), "checksum": _checksum(values)}, temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, SafetensorError) as error:
        raise MovlError(
            f"The feature cache cannot be written to {path.parent}: {error}. "
            "Expected a folder that can be written, with space left; choose another cache_dir or set it to null."
        ) from error
