"""Settings of the benchmarks (sizes, rounds, device), and the images and the network of their sections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from movl_monai.backbones import Backbone, TimmBackbone, embedded_efficientnet_lite0
from movl_monai.engines import standardization
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt

__all__ = [
    "Batch",
    "BenchSettings",
    "SyntheticImages",
    "efficientnet_lite0",
    "float_batches",
    "make_network",
    "synthetic_images",
    "vit_base",
]

Batch = tuple[torch.Tensor, torch.Tensor]


def efficientnet_lite0() -> Backbone:
    """Build the backbone of the benchmarks: EfficientNet-Lite0 with its embedded weights, 224 px, frozen."""
    return TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0(), image_size=224)


def vit_base() -> Backbone:
    """Build the Transformer of the adapter benchmarks: ViT-B/16 at 224 px, frozen, with random weights.

    The values of the weights do not affect the time, so nothing is downloaded.
    """
    return TimmBackbone("vit_base_patch16_224")


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Sizes and repetitions of all benchmarks; the defaults are those of the published tables.

    Args:
        backbone: builds the frozen backbone; its ``spec.image_size`` is the size of all images.
        transformer: builds the frozen backbone of the adapter benchmarks.
        device: of all computations.
        batch_size: images per step.
        transformer_batch_size: images per step of the adapter benchmarks, which cycle through four batches.
        prompt_width: width of the border prompt, in pixels.
        num_classes: classes of the synthetic images.
        rounds: timed rounds; a round runs every variant once.
        warmup: rounds before them that are not counted.
        step_images: images that the step benchmarks cycle through, a multiple of ``batch_size``.
        feature_images: images whose features are extracted per round.
        probe_rounds: rounds of the linear probe benchmark, after a run of each variant that is not counted.
        train_images: training images of the linear probe benchmark.
        val_images: its validation images.
        slice_size: rows and columns of the slices in the reading benchmarks.
        slice_reads: number of times that a variant reads its slice per round.
        scan_files: slices in the folder of the header scan, besides the files that pydicom ships.
        scan_passes: number of passes of two workers over these files per round.
        stored_predictions: images of the bootstrap benchmark, two per patient.
        bootstrap_rounds: our number of resamples.
        sklearn_rounds: resamples of the loop over scikit-learn, whose time is scaled to ``bootstrap_rounds``.
        export_calls: images that a variant of the export benchmark predicts per round, one after the other.
        max_epochs: upper limit on the epochs of gradient descent.
        seed: of the images and heads.
    """

    backbone: Callable[[], Backbone] = field(default=efficientnet_lite0, repr=False)
    transformer: Callable[[], Backbone] = field(default=vit_base, repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 32
    transformer_batch_size: int = 8
    prompt_width: int = 30
    num_classes: int = 10
    rounds: int = 11
    warmup: int = 2
    step_images: int = 128
    feature_images: int = 128
    probe_rounds: int = 3
    train_images: int = 1000
    val_images: int = 300
    slice_size: int = 512
    slice_reads: int = 20
    scan_files: int = 200
    scan_passes: int = 10
    stored_predictions: int = 10_000
    bootstrap_rounds: int = 1000
    sklearn_rounds: int = 20
    export_calls: int = 10
    max_epochs: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        smallest = min(
            self.batch_size,
            self.transformer_batch_size,
            self.rounds,
            self.probe_rounds,
            self.max_epochs,
            self.feature_images,
            self.slice_size,
            self.slice_reads,
            self.scan_files,
            self.scan_passes,
            self.bootstrap_rounds,
            self.sklearn_rounds,
            self.export_calls,
        )
        if smallest < 1 or self.warmup < 0:
            raise ValueError(f"sizes and rounds must be at least 1 and warmup at least 0, got {self}.")
        if self.step_images < 1 or self.step_images % self.batch_size:
            raise ValueError(
                f"step_images must be a multiple of batch_size={self.batch_size}, got {self.step_images}: "
                "a smaller last batch would be a faster step."
            )
        if self.sklearn_rounds > self.bootstrap_rounds:
            raise ValueError(
                f"sklearn_rounds must be at most bootstrap_rounds={self.bootstrap_rounds}, got {self.sklearn_rounds}: "
                "it is a part of them."
            )
        if min(self.train_images, self.val_images) < self.num_classes:
            raise ValueError(
                f"train_images and val_images must be at least num_classes={self.num_classes}, "
                f"got {self.train_images} and {self.val_images}."
            )

    @property
    def repetitions(self) -> dict[str, Any]:
        """Keyword arguments ``rounds``, ``warmup`` and ``device`` of :func:`~benchmarks.clock.compare_actions`."""
        return {"rounds": self.rounds, "warmup": self.warmup, "device": self.device}

    @classmethod
    def quick(cls, *, device: torch.device) -> BenchSettings:
        """Return settings with few rounds and images, for a quick look without figures to publish."""
        return cls(
            device=device,
            rounds=3,
            warmup=1,
            step_images=64,
            feature_images=64,
            probe_rounds=1,
            train_images=300,
            val_images=100,
            export_calls=3,
        )


def make_network(backbone: Backbone, settings: BenchSettings, features: torch.Tensor) -> AdaptedClassifier:
    """Return a backbone with a border prompt before and a linear head after it, on the settings' device.

    The head does not start at zero, because no gradient would then reach the prompt.

    Args:
        backbone: shared, not copied.
        settings: sizes and seed.
        features: plain features (N, num_features), for the centre and scale of the head's input.
    """
    spec = backbone.spec
    head = LinearHead(spec.num_features, settings.num_classes, init="uniform", seed=settings.seed)
    head.set_standardization(*standardization(features))
    prompt = PadPrompt(image_size=spec.image_size, width=settings.prompt_width)
    return AdaptedClassifier(backbone=backbone, prompt=prompt, head=head).to(settings.device)


def float_batches(data: Any, settings: BenchSettings) -> list[Batch]:
    """Return all batches of a data set, on the device, as float32 images in [0, 1] and int64 labels or masks."""
    targets = data.masks if hasattr(data, "masks") else data.labels
    return [
        (image.to(settings.device).float() / 255, target.to(settings.device).long())
        for image, target in zip(
            data.images.split(settings.batch_size), targets.split(settings.batch_size), strict=True
        )
    ]


_ANGLE_JITTER = 0.45  # in distances between two classes: neighbours overlap
_NOISE = 0.25
_CHUNK = 64


@dataclass(frozen=True)
class SyntheticImages(Dataset[dict[str, Any]]):
    """Images in memory with the items of :class:`movl_monai.data.ImageDataset` that training needs.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index]), "index": index}


def synthetic_images(count: int, *, image_size: int, num_classes: int, seed: int = 0) -> SyntheticImages:
    """Draw stripes whose angle is the class, with overlap between neighbouring classes, under noise.

    Frequency, phase, contrast, brightness and tint are random.

    Args:
        count: number of images; the classes take turns.
        image_size: side in pixels.
        num_classes: number of angles.
        seed: of everything.

    Example:
        >>> data = synthetic_images(4, image_size=16, num_classes=2)
        >>> data.images.shape, data.images.dtype, data.labels.tolist()
        (torch.Size([4, 3, 16, 16]), torch.uint8, [0, 1, 0, 1])
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    images = torch.empty(count, 3, image_size, image_size, dtype=torch.uint8)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        images[rows] = _draw(labels[rows].float() / num_classes, 1 / num_classes, image_size, generator)
    return SyntheticImages(images, labels)


def _draw(turns: torch.Tensor, step: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one image per angle (in half turns, ``step`` apart between classes), uint8 (B, 3, size, size)."""

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(turns), channels, 1, 1, generator=generator)

    jitter = torch.randn(len(turns), generator=generator) * _ANGLE_JITTER * step
    angle = (math.pi * (turns + jitter)).view(-1, 1, 1, 1)
    axis = torch.linspace(0, 1, size)
    along = axis.view(1, 1, 1, -1) * angle.cos() + axis.view(1, 1, -1, 1) * angle.sin()
    stripes = (2 * math.pi * (uniform(8, 16) * along + uniform(0, 1))).sin()
    noise = torch.randn(len(turns), 1, size, size, generator=generator) * _NOISE
    image = uniform(0.35, 0.65) + uniform(0.05, 0.3) * stripes + noise + uniform(-0.1, 0.1, channels=3)
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)
