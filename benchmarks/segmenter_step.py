"""Training step of the segmentation bundle's default network, relative to the smallest possible step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from movl_monai.backbones import map_channels, prepare_frozen
from movl_monai.engines import Stage, StagedTrainer, optimizer_groups
from movl_monai.heads import SegmentationHead
from movl_monai.losses import SegmentationLoss
from movl_monai.networks import AdaptedSegmenter

from .clock import compare
from .data import synthetic_images
from .memory import peak_memory
from .parts import Batch
from .settings import BenchSettings
from .step_clock import time_trainer

__all__ = ["MaskedImages", "bare_segmenter_step", "masked_images", "run", "segmenter_trainer"]


@dataclass(frozen=True)
class MaskedImages(Dataset[dict[str, Any]]):
    """Images in memory with the items of :class:`movl_monai.data.SegmentationDataset` that training needs.

    Args:
        images: uint8 (N, 3, H, W).
        masks: uint8 (N, H, W), classes.
    """

    images: torch.Tensor
    masks: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "mask": self.masks[index], "index": index}


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``segmenter_step_vs_bare``: ours relative to the bare loop.

    Ours is a step of StagedTrainer with the decoder on four frozen maps, two classes, from uint8 images and masks. The
    bare loop has its float images and masks on the device; it is the forward pass, the same loss, and the backward pass
    to the decoder. Loading batches, uint8 to float, the check for NaN, AdamW, learning rates and the engine's events
    are overhead.
    """
    size = settings.transformer_batch_size
    settings = replace(settings, batch_size=size, step_images=4 * size)
    backbone = prepare_frozen(settings.backbone().to(settings.device))
    data = masked_images(settings, image_size=backbone.spec.image_size)
    head = SegmentationHead(map_channels(backbone), 2, seed=settings.seed)
    network = AdaptedSegmenter(backbone=backbone, head=head).to(settings.device)
    step = bare_segmenter_step(network)
    batches = [
        (data.images[rows].to(settings.device).float() / 255, data.masks[rows].to(settings.device).long())
        for rows in torch.arange(len(data)).split(size)
    ]
    trainer = segmenter_trainer(network, data, settings, steps=settings.warmup + settings.rounds + 1)
    ours, other = time_trainer(trainer, step, batches, settings)
    one_epoch = segmenter_trainer(network, data, settings, steps=1)
    memory = (
        peak_memory(one_epoch.run, device=settings.device),
        peak_memory(lambda: [step(batch) for batch in batches], device=settings.device),
    )
    return compare("segmenter_step_vs_bare", ours=ours, other=other, memory=memory)


def masked_images(settings: BenchSettings, *, image_size: int) -> MaskedImages:
    """Draw images whose masks are their bright pixels."""
    drawn = synthetic_images(settings.step_images, image_size=image_size, num_classes=2, seed=settings.seed)
    return MaskedImages(drawn.images, (drawn.images.float().mean(dim=1) > 127).to(torch.uint8))


def segmenter_trainer(
    network: AdaptedSegmenter, data: MaskedImages, settings: BenchSettings, *, steps: int
) -> StagedTrainer:
    """Build our trainer as in the bundle, without validation and logging, for at least ``steps`` steps."""
    loader = DataLoader(data, batch_size=settings.batch_size)
    epochs = -(-steps // len(loader))
    return StagedTrainer(
        device=settings.device,
        network=network,
        stages=[Stage(epochs=epochs, lr={"head": 1e-3}, schedule="constant", name="decoder")],
        max_epochs=epochs,
        optimizer=torch.optim.AdamW(optimizer_groups(network)),
        loss_function=SegmentationLoss(),
        decollate=True,  # as in the bundles
        train_data_loader=loader,
    )


def bare_segmenter_step(network: AdaptedSegmenter) -> Callable[[Batch], None]:
    """Return the smallest possible step: forward, loss, backward to the decoder; nothing is updated."""
    loss_function = SegmentationLoss()

    def step(batch: Batch) -> None:
        image, mask = batch
        loss_function(network(image), mask).backward()
        network.head.zero_grad()

    return step
